//! Which messages a command means, and how many of them it wants at once.

use clap::Args;

use super::talk::talk;
use super::text::shown_name;
use super::{Failure, usage};
use crate::route::{Patterns, nearest_pattern};
use crate::store::filter::{Filter, Status, Types, When};

/// Which messages and deliveries are meant.
#[derive(Args)]
pub(super) struct FilterArguments {
    /// Only events of these types: `response.completed`, `response.*`, or `!response.*` for all others
    #[arg(long = "type", value_name = "PATTERN")]
    types: Vec<String>,
    /// Only what arrived then or later: like 2026-11-24T08:00:00Z, or an age such as 2h or 3d
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Only what arrived before then
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Only with a delivery that is waiting, delivered, dead or dropped
    #[arg(long, value_name = "STATUS")]
    status: Vec<Status>,
    /// Only with a delivery for this destination
    #[arg(long, value_name = "NAME")]
    destination: Vec<String>,
    /// Only what arrived at this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Vec<String>,
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
        })
    }

    /// Says of types that nobody knows which were meant. OpenAI may have new ones, so that is no reason to refuse them.
    fn doubt_types(&self) {
        for text in &self.types {
            let known = Patterns::parse([text.trim_start_matches('!')]);
            if known.is_ok_and(|pattern| pattern.known().next().is_none()) {
                talk(&format!(
                    "`{}` matches no event type that is known today; did you mean `{}`?\n",
                    shown_name(text),
                    nearest_pattern(text)
                ));
            }
        }
    }

    /// The filter and a page of what it finds, as a query.
    pub(super) fn query(&self, page: &PageArguments) -> Vec<(&'static str, String)> {
        self.doubt_types();
        let mut query = Vec::new();
        let mut add = |key, values: &[String]| {
            query.extend(values.iter().map(|value| (key, value.clone())));
        };
        add("type", &self.types);
        add("destination", &self.destination);
        add("endpoint", &self.endpoint);
        query.extend(self.since.map(|when| ("since", when.to_string())));
        query.extend(self.until.map(|when| ("until", when.to_string())));
        let statuses = self.status.iter();
        query.extend(statuses.map(|status| ("status", status.as_str().to_owned())));
        query.push(("limit", page.limit.to_string()));
        query.extend(page.after.map(|after| ("after", after.to_string())));
        query
    }
}

#[derive(Args)]
pub(super) struct PageArguments {
    /// Most messages to print, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Go on behind an earlier page: it says what to give here
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<i64>,
}
