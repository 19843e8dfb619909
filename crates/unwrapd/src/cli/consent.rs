//! The one rule for commands that destroy: the plan and its count first, then a question on the
//! terminal, or `--yes`.

use clap::Args;

use super::failure::Failure;
use super::stderr::confirmed;

/// The options that allow a command to destroy data.
#[derive(Args)]
pub(super) struct ConsentArguments {
    /// Print the plan, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Skip the confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
}

impl ConsentArguments {
    /// Asks whether to carry out `plan`, such as "Drop 3 dead letters", unless `--yes` was given.
    /// Returns an error if the answer is no, or if there is no terminal.
    pub(super) fn ask(&self, plan: &str) -> Result<(), Failure> {
        if self.yes || confirmed(&format!("{plan}?"))? {
            return Ok(());
        }
        Err(anyhow::anyhow!("nothing was done").into())
    }
}
