//! Puts the commit of the build into `UNWRAPD_VERSION`, if it can be determined. Without git and
//! outside of a repository, the version has no commit.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Number of shown letters of a commit.
const COMMIT_LETTERS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=UNWRAPD_COMMIT");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=UNWRAPD_VERSION={version}");
}

/// The commit from the packager, or else that of the published crate, or else that of the
/// repository.
fn commit() -> Option<String> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let commit = std::env::var("UNWRAPD_COMMIT")
        .ok()
        .or_else(|| published(&folder))
        .or_else(|| checked_out(&folder))?;
    let is_commit = commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_commit.then(|| commit.chars().take(COMMIT_LETTERS).collect())
}

/// The commit that Cargo writes into a published crate.
fn published(folder: &Path) -> Option<String> {
    let file = folder.join(".cargo_vcs_info.json");
    let text = std::fs::read_to_string(file).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn checked_out(folder: &Path) -> Option<String> {
    // In a folder within another project's repository, the commit would be that project's.
    git(folder, &["ls-files", "--error-unmatch", "Cargo.toml"])?;
    for watched in ["HEAD", "logs/HEAD"] {
        let path = git(folder, &["rev-parse", "--git-path", watched])?;
        let path = folder.join(path);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(folder, &["rev-parse", "HEAD"])
}

fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
