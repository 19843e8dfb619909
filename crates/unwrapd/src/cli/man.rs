//! `unwrapd man`: one manual page for each command, from its help.

use std::io;
use std::path::{Path, PathBuf};

use clap::builder::ValueHint;
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Cli;
use super::failure::Failure;
use crate::VERSION;

#[derive(Args)]
pub(super) struct Arguments {
    /// Folder for the pages, such as /usr/local/share/man/man1
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut all = Cli::command().disable_help_subcommand(true);
    // The commands below get their full names.
    all.build();
    std::fs::create_dir_all(&arguments.folder)?;
    write(&all, None, &arguments.folder)?;
    Ok(())
}

/// Writes the page of a command and those of the commands below it.
fn write(command: &Command, above: Option<&str>, folder: &Path) -> io::Result<()> {
    // The foot has the version, and the notes are written below.
    let plain = command.clone().version(None).after_help(None);
    let man = Man::new(plain)
        // An empty one would be no argument of the title, and a date would differ in each build.
        .date(" ")
        .source(format!("unwrapd {VERSION}"))
        .manual("Manual of unwrapd");
    let name = man.get_filename();
    let mut page = Vec::new();
    man.render(&mut page)?;
    end_of_page(command, above).to_writer(&mut page)?;
    std::fs::write(folder.join(&name), page)?;
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write(below, name.strip_suffix(".1"), folder)?;
    }
    Ok(())
}

fn end_of_page(command: &Command, above: Option<&str>) -> Roff {
    let mut end = Roff::new();
    if let Some(notes) = command.get_after_help() {
        end.control("SH", ["NOTES"]);
        // Lines end where those of the help end.
        end.control("nf", []);
        for line in notes.to_string().lines() {
            end.text([roman(line)]);
        }
        end.control("fi", []);
    }
    if let Some(above) = above {
        end.control("SH", ["SEE ALSO"]);
        end.text([bold(above), roman("(1)")]);
    }
    end
}
