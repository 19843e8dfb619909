//! Checks whether a store can be opened, without opening or creating it.

use std::path::Path;

use rustix::fs::{Access, access};

use super::settings::{StoreSettings, StoreUrl};
use super::sqlite;

/// Checks the file and its folder, or the certificates for the database. Contacts no server. The
/// error names the problem and the remedy.
pub fn precheck(settings: &StoreSettings) -> Result<(), String> {
    match &settings.url {
        StoreUrl::Sqlite(path) => check_file(path),
        StoreUrl::Postgres(address) => address.check_files(),
    }
}

fn check_file(path: &Path) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    let folder = path.parent().unwrap_or(path);
    if !folder.is_dir() {
        return Err(format!(
            "cannot open the store {}: the folder {} does not exist; create it for the user that runs the gateway",
            path.display(),
            folder.display()
        ));
    }
    if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Err(format!(
            "cannot open the store {}: user id {user} may not write in the folder {}, where the store creates files; change its owner",
            path.display(),
            folder.display()
        ));
    }
    if !path.exists() {
        return Ok(());
    }
    if access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        return Err(format!(
            "cannot open the store {}: user id {user} may not read and write it; change its owner",
            path.display()
        ));
    }
    sqlite::check_ours(path)
        .map_err(|error| format!("cannot open the store {}: {error}", path.display()))
}
