//! The options that select messages, and the size of a page.

use clap::Args;

use crate::cli::completions::candidates;
use crate::cli::failure::{Failure, usage};
use crate::cli::format::shown_name;
use crate::cli::stderr::message;
use crate::route::{Patterns, nearest_pattern_or_alert};
use crate::store::filter::{Filter, IdPart, Status, Types, When};

/// Options that select messages and deliveries.
#[derive(Args)]
pub(crate) struct FilterArguments {
    /// Filter by event type: `response.completed`, `response.*`, or `!response.*` for all others
    #[arg(long = "type", value_name = "PATTERN", add = candidates::event_types())]
    types: Vec<String>,
    /// Arrived at this time or later: like 2026-11-24T08:00:00Z, or an age such as 2h or 3d
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Arrived before this time
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Filter by delivery status: waiting, delivered, dead or dropped; unrouted: no destination
    /// wanted the message
    #[arg(long, value_name = "STATUS", add = candidates::statuses())]
    status: Vec<Status>,
    /// Filter by destination
    #[arg(long, value_name = "NAME", add = candidates::destinations())]
    destination: Vec<String>,
    /// Filter by endpoint
    #[arg(long, value_name = "NAME", add = candidates::endpoints())]
    endpoint: Vec<String>,
    /// Filter by what the event is about: the id of a response, batch, job, call and so on
    #[arg(long, value_name = "ID")]
    resource: Vec<String>,
}

impl FilterArguments {
    pub(super) fn filter(&self, webhook_ids: &[String]) -> Result<Filter, Failure> {
        self.doubt_types();
        Ok(Filter {
            types: Types::try_from(self.types.clone())
                .map_err(|error| usage(format!("--type: {error}")))?,
            since: self.since,
            until: self.until,
            status: self.status.clone(),
            destination: self.destination.clone(),
            endpoint: self.endpoint.clone(),
            webhook_id: webhook_ids.to_vec(),
            resource: self.resource.clone(),
            event_id: Vec::new(),
            id_part: None,
        })
    }

    /// Suggests known types for unknown ones. OpenAI may add types, so an unknown type is not
    /// refused.
    fn doubt_types(&self) {
        for text in &self.types {
            let known = Patterns::parse([text.trim_start_matches('!')]);
            if known.is_ok_and(|pattern| !pattern.match_known()) {
                message(&format!(
                    "`{}` matches no known event type; did you mean `{}`?\n",
                    shown_name(text),
                    nearest_pattern_or_alert(text)
                ));
            }
        }
    }

    /// The filter and the page, as a query.
    pub(super) fn query(
        &self,
        id_part: Option<&IdPart>,
        page: &PageArguments,
    ) -> Vec<(&'static str, String)> {
        self.doubt_types();
        let mut query = Vec::new();
        let mut add = |key, values: &[String]| {
            query.extend(values.iter().map(|value| (key, value.clone())));
        };
        add("type", &self.types);
        add("destination", &self.destination);
        add("endpoint", &self.endpoint);
        add("resource", &self.resource);
        query.extend(self.since.map(|when| ("since", when.to_string())));
        query.extend(self.until.map(|when| ("until", when.to_string())));
        let statuses = self.status.iter();
        query.extend(statuses.map(|status| ("status", status.as_str().to_owned())));
        query.extend(id_part.map(|part| ("id_part", part.as_str().to_owned())));
        query.push(("limit", page.limit.to_string()));
        query.extend(page.after.map(|after| ("after", after.to_string())));
        query
    }
}

#[derive(Args)]
pub(crate) struct PageArguments {
    /// Largest number of messages to print, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Cursor printed by the previous page
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<i64>,
}
