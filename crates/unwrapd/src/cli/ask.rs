//! Which gateway is asked, and how its answer is printed.

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::admin::AdminArguments;
use super::talk::talk;
use super::text::{print_json, table};
use super::{Failure, Output, say};

#[derive(Args)]
pub(super) struct AskArguments {
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

/// A part of a list, for people.
pub(super) struct Listed {
    pub(super) rows: Vec<Vec<String>>,
    /// Cursor of the next page, if there is one.
    pub(super) next: Option<i64>,
}

impl AskArguments {
    /// Prints a page of a list: a table under these heads, or the text `nothing`.
    pub(super) async fn list<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        nothing: &str,
        heads: &[&str],
        page: impl FnOnce(A) -> Listed,
    ) -> Result<(), Failure> {
        let answer: Value = self.admin.open()?.get(&[path], query).await?;
        self.print(answer, |answer| {
            let Listed { rows, next } = page(answer);
            if rows.is_empty() {
                talk(&format!("{nothing}\n"));
            } else {
                say!("{}", table(heads, &rows).trim_end())?;
            }
            if let Some(next) = next {
                talk(&format!("more entries follow: --after {next}\n"));
            }
            Ok(())
        })
    }

    /// Prints an answer: unchanged for programs, or for people.
    pub(super) fn print<A: DeserializeOwned>(
        &self,
        answer: Value,
        for_people: impl FnOnce(A) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => Ok(print_json(&answer)?),
            Output::Human => for_people(serde_json::from_value(answer)?),
        }
    }
}
