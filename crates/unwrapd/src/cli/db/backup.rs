//! `unwrapd db backup`: a copy of the store as it is at one moment.

use std::fs::{File, Metadata};
use std::io::{IsTerminal as _, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Configured, failure, megabytes};
use crate::cli::failure::{Failure, usage};
use crate::cli::format::outln;
use crate::cli::output::OutputArguments;
use crate::printable::counted;
use crate::store::sqlite::access::{Wish, explain};
use crate::store::{StoreUrl, sqlite};

#[derive(Args)]
#[command(
    after_help = "The backup has every payload, and only its owner can read it. To restore it, stop the gateway,\n\
    move away the store with its -wal and -shm, copy the backup to its place, and start the gateway."
)]
pub(crate) struct Arguments {
    /// File to write the backup to
    #[arg(value_name = "BACKUP")]
    to: PathBuf,
    /// File of the store [default: the one in the configuration]
    #[arg(long, value_name = "STORE")]
    store: Option<PathBuf>,
    #[command(flatten)]
    configured: Configured,
    /// Replace an existing backup
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let started = Instant::now();
    let path = arguments.configured.find(arguments.store.as_deref())?;
    let to = &arguments.to;
    if to.as_os_str() == "-" {
        return Err(usage(
            "a backup cannot be written to stdout: name a file, such as backup.db (`./-` for a file of this name)",
        ));
    }
    check_target(to, &path, arguments.force)?;
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Written under another name until it is complete, so that an interruption leaves no partial
    // backup. Only its owner may read it.
    let unfinished = tempfile::Builder::new()
        .prefix(".unwrapd-backup-")
        .tempfile_in(folder)
        .map_err(|error| cannot_write(&folder.join(".unwrapd-backup"), &error))?;
    let is_seen = std::io::stderr().is_terminal();
    let tell = |percent| {
        if is_seen {
            eprint_progress(percent);
        }
    };
    let copied =
        sqlite::copy(&path, unfinished.path(), tell).map_err(|error| failure(&path, error))?;
    let put = if arguments.force {
        unfinished.persist(to)
    } else {
        unfinished.persist_noclobber(to)
    };
    put.map_err(|error| cannot_write(to, &error.error))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot flush the folder {} to the disk", folder.display()))?;
    let name = to.display().to_string();
    let answer = json!({ "backup": name, "messages": copied.messages, "bytes": copied.bytes });
    arguments.output.print(answer, |_| {
        Ok(outln!(
            "{name}: {}, {}, complete; took {:.1} s",
            counted(copied.messages, "message", "messages"),
            megabytes(copied.bytes),
            started.elapsed().as_secs_f64()
        )?)
    })
}

fn cannot_write(to: &Path, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "cannot write the backup: {}",
        explain(to, Wish::Write, error)
    )
}

fn check_target(to: &Path, store: &Path, force: bool) -> Result<(), Failure> {
    if StoreUrl::Sqlite(store.to_owned()).owns(to) {
        return Err(usage(format!(
            "{}: this is a file of the store itself; name another file",
            to.display()
        )));
    }
    let of_store = std::fs::metadata(store)?;
    let there = std::fs::metadata(to).ok();
    let is = |there: &Metadata| (there.dev(), there.ino()) == (of_store.dev(), of_store.ino());
    let problem = match &there {
        Some(there) if is(there) => "this is the store itself; name another file",
        Some(there) if !there.is_file() => "this is not a file; name a file for the backup",
        // SQLite would take a leftover file for a part of the backup.
        _ if has_log(to) => {
            "a -wal or -journal is beside it, so a database of this name is in use; name another file"
        }
        Some(_) if !force => "the file exists already; name another, or replace it with --force",
        Some(there) if there.len() > 0 && !is_database(to) => {
            "this file is not a database, and --force replaces backups only; name another file"
        }
        _ => return Ok(()),
    };
    Err(usage(format!("{}: {problem}", to.display())))
}

/// Whether the file has the header of an SQLite database.
fn is_database(file: &Path) -> bool {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let mut beginning = [0; MAGIC.len()];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && beginning == *MAGIC
}

fn has_log(database: &Path) -> bool {
    ["-wal", "-journal"].into_iter().any(|log| {
        let mut path = database.as_os_str().to_owned();
        path.push(log);
        Path::new(&path).exists()
    })
}

#[expect(clippy::print_stderr, reason = "for the person who waits")]
fn eprint_progress(percent: u32) {
    eprint!("\r{percent} % \r");
}
