//! The size of the store, and how its file is shrunk.

use std::path::Path;

use crate::error::StoreError;
use crate::sqlite::connection::keep_log;
use crate::sqlite::error::store_error;
use crate::sqlite::files::checkpoint::{self, Mode};
use crate::sqlite::files::store_files::StoreFiles;
use crate::sqlite::schema;

/// Rewrites the file without its free pages, and returns its size in bytes before and after. No
/// other program may use the file, and until the end this needs twice as much space again.
pub fn vacuum(path: &Path) -> Result<(u64, u64), StoreError> {
    let mut files = StoreFiles::take(path)?;
    let database = files.path().to_owned();
    let size = || {
        std::fs::metadata(&database)
            .map(|file| file.len())
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
    };
    let before = size()?;
    let problem = |error: rusqlite::Error| store_error(&error);
    let connection = schema::connect(&mut files)?;
    connection.execute_batch("VACUUM").map_err(problem)?;
    // The file becomes shorter when the whole log is in it.
    let moved = checkpoint::run(&connection, Mode::Truncate).map_err(problem)?;
    keep_log(&connection, moved.is_busy).map_err(problem)?;
    if moved.is_busy {
        return Err(StoreError::Unavailable(
            "another program is reading the database (a backup, a check, a shell), so the space is \
             not freed yet; end that program and run the command again".into(),
        ));
    }
    drop(connection);
    Ok((before, size()?))
}
