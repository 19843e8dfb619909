//! The options of a query to a gateway, and the output of its answer.

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin::AdminArguments;
use super::filter::{FilterArguments, PageArguments};
use crate::cli::failure::Failure;
use crate::cli::format::{outln, table};
use crate::cli::output::OutputArguments;
use crate::cli::stderr::message;
use crate::store::filter::IdPart;

/// Options of a list of messages.
#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Filter by a part of the webhook id, the event id or the resource, of 4 characters or more
    #[arg(long, value_name = "TEXT")]
    id_part: Option<IdPart>,
    #[command(flatten)]
    page: PageArguments,
    #[command(flatten)]
    pub(super) ask: QueryArguments,
}

impl ListArguments {
    /// The filter and the page, as a query.
    pub(super) fn query(&self) -> Vec<(&'static str, String)> {
        self.filter.query(self.id_part.as_ref(), &self.page)
    }
}

#[derive(Args)]
pub(crate) struct QueryArguments {
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

/// A part of a list, for people.
pub(super) struct Listed {
    pub(super) rows: Vec<Vec<String>>,
    /// Cursor of the next page, if there is one.
    pub(super) next: Option<i64>,
}

impl QueryArguments {
    /// Prints a page of a list: a table under these heads, or the text `nothing`.
    pub(super) async fn list<A: DeserializeOwned + Serialize>(
        &self,
        path: &str,
        query: &[(&str, String)],
        nothing: &str,
        heads: &[&str],
        page: impl FnOnce(A) -> Listed,
    ) -> Result<(), Failure> {
        let answer: A = self.admin.open()?.get(&[path], query).await?;
        self.print(answer, |answer| {
            let Listed { rows, next } = page(answer);
            if rows.is_empty() {
                message(&format!("{nothing}\n"));
            } else {
                outln!("{}", table(heads, &rows).trim_end())?;
            }
            if let Some(next) = next {
                message(&format!("more entries follow: --after {next}\n"));
            }
            Ok(())
        })
    }

    /// As [`OutputArguments::print`].
    pub(super) fn print<A: Serialize>(
        &self,
        answer: A,
        for_people: impl FnOnce(A) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.output.print(answer, for_people)
    }
}
