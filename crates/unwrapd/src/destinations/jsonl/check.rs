//! Checks the path of a file of JSON lines, without changing any file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Length of the beginning of a file that is read to recognise its content, in bytes.
const BEGINNING_BYTES: usize = 1024;

/// Checks the path. The error names the remedy.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let problem = |what: &str| format!("{}: {what}", path.display());
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(problem("this is a folder: name a file in it"));
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(problem("this is a folder: name a file in it")),
        Ok(found) if !found.is_file() => Err(problem(
            "this is not a regular file, and would not keep the lines: name a regular file, or \"-\" for stdout",
        )),
        Ok(_) => check_file(path).map_err(|what| problem(&what)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_folder(path).map_err(|what| problem(&what))
        }
        Err(error) => Err(problem(&format!(
            "cannot look at it: {error}; {}",
            remedy("enter", folder(path), &error)
        ))),
    }
}

fn check_file(path: &Path) -> Result<(), String> {
    let opened = OpenOptions::new().read(true).append(true).open(path);
    let file = opened.map_err(|error| {
        format!(
            "cannot append to it, and read its end: {error}; {}",
            remedy("read and write", path, &error)
        )
    })?;
    check_beginning(&file).map_err(Into::into)
}

/// Refuses a file whose content is not JSON lines.
pub(super) fn check_beginning(file: &File) -> Result<(), &'static str> {
    let mut beginning = [0; BEGINNING_BYTES];
    let length = file.read_at(&mut beginning, 0).unwrap_or_default();
    let beginning = beginning[..length].trim_ascii_start();
    match beginning.first() {
        Some(b'{') if is_one_object(beginning) => Err(
            "this file holds one JSON object over several lines, which lines would spoil: name another file",
        ),
        None | Some(b'{') => Ok(()),
        // Other content: a configuration, a secret, a database.
        Some(_) => Err("this file has content other than JSON lines: name another file"),
    }
}

/// Whether this is the beginning of an object that does not end on its line. After a line that a
/// crash has truncated, the next line begins with a brace.
fn is_one_object(beginning: &[u8]) -> bool {
    let mut lines = beginning
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii);
    let first = lines.next();
    let second = lines.find(|line| !line.is_empty());
    first == Some(b"{") && second.is_some_and(|line| !line.starts_with(b"{"))
}

/// Checks the folder of a missing file, which may be created later.
fn check_folder(path: &Path) -> Result<(), String> {
    let folder = folder(path);
    if !folder.is_dir() {
        return Ok(());
    }
    accessat(
        CWD,
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    )
    .map_err(|error| {
        let error = io::Error::from(error);
        format!(
            "cannot make this file in its folder: {error}; {}",
            remedy("write to", folder, &error)
        )
    })
}

/// The remedy for the error, if this process lacks the permission for `place`.
fn remedy(wish: &str, place: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotADirectory => {
            return "a part of the path is a file and no folder: correct the path".into();
        }
        ErrorKind::ReadOnlyFilesystem => {
            return "nothing can be written there: name a file on another file system".into();
        }
        _ => {}
    }
    format!(
        "this process runs as user {}: let it {wish} {}, or name another file",
        rustix::process::geteuid().as_raw(),
        place.display()
    )
}

pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
