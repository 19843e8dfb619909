//! Paths in a file of settings start at the folder of that file, whatever the current folder of the
//! process is.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::mistakes::{Mistake, Mistakes, looks_secret};
use crate::printable;

/// Longest path, in bytes: the limit of Linux.
const PATH_BYTES_MAX: usize = 4096;

/// Makes the relative paths under these keys absolute, and those of files with secrets. A wrong
/// path is a mistake. The path of the store is part of a URL, and is read with that URL.
pub(super) fn count_from(folder: &Path, table: &mut DeTable<'_>, keys: &[&str]) -> Mistakes {
    let mut mistakes = Mistakes::default();
    walk_table(folder, table, keys, &mut mistakes);
    mistakes
}

/// Does the same for the programs at the beginning of the lists under these keys. A program without
/// a slash is a name.
pub(super) fn find_programs(folder: &Path, table: &mut DeTable<'_>, keys: &[&str]) -> Mistakes {
    let mut mistakes = Mistakes::default();
    for key in keys {
        if let Some(DeValue::Array(command)) = table.get_mut(*key).map(Spanned::get_mut)
            && let Some(program) = command.iter_mut().next()
            && program
                .get_ref()
                .as_str()
                .is_some_and(|name| name.contains('/'))
        {
            rebase(folder, program, &mut mistakes);
        }
    }
    mistakes
}

fn walk_table(folder: &Path, table: &mut DeTable<'_>, keys: &[&str], mistakes: &mut Mistakes) {
    for (key, value) in table.iter_mut() {
        if keys.contains(&key.get_ref().as_ref()) {
            rebase(folder, value, mistakes);
        } else {
            walk(folder, value, keys, mistakes);
        }
    }
}

fn walk(folder: &Path, value: &mut Spanned<DeValue<'_>>, keys: &[&str], mistakes: &mut Mistakes) {
    match value.get_mut() {
        DeValue::Array(all) => {
            for one in all.iter_mut() {
                walk(folder, one, keys, mistakes);
            }
        }
        // The file of a secret: `{ file = "PATH" }`.
        DeValue::Table(table) if table.len() == 1 && table.contains_key("file") => {
            walk_table(folder, table, &["file"], mistakes);
        }
        DeValue::Table(table) => walk_table(folder, table, keys, mistakes),
        _ => {}
    }
}

fn rebase(folder: &Path, value: &mut Spanned<DeValue<'_>>, mistakes: &mut Mistakes) {
    let span = value.span();
    let DeValue::String(text) = value.get_mut() else {
        return;
    };
    // The code that reads the value handles text that is no path.
    if matches!(text.as_ref(), "" | "-") || text.contains('\0') {
        return;
    }
    match rebased(folder, text) {
        Ok(path) => *text = DeString::from(Cow::Owned(path)),
        Err(problem) => mistakes.add(Mistake::cause(span, problem)),
    }
}

fn rebased(folder: &Path, text: &str) -> Result<String, String> {
    check(text)?;
    let path = from_folder(folder, Path::new(text));
    let mut path = path.into_os_string().into_string().map_err(|_| {
        "a relative path starts at the folder of the configuration, whose name is not UTF-8: write an absolute path".to_owned()
    })?;
    // The slash means a folder, even if that does not exist yet.
    if text.ends_with('/') {
        path.push('/');
    }
    Ok(path)
}

/// The path, absolute if the folder is, and without `.` in it.
pub(crate) fn from_folder(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path).components().collect()
}

/// A path from the command line for an error. A URL or a secret by mistake is replaced.
pub(crate) fn shown_path(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains("://") || looks_secret(&text) {
        return "[not shown: this is no path]".into();
    }
    printable::line(&text).into_owned()
}

/// Refuses text that is certainly not a path, and text that only a shell would replace.
pub(crate) fn check(path: &str) -> Result<(), String> {
    // An error on reading the file shows its path.
    if looks_secret(path) {
        return Err(
            "this is a secret where the path of a file belongs: put it into a file and name that \
             file, and replace the secret if others have seen it"
                .into(),
        );
    }
    if path.len() > PATH_BYTES_MAX || path.contains(char::is_control) {
        return Err("this is not a path of a file: it is too long, or contains a line end or another control character".into());
    }
    if path == "~" || path.starts_with("~/") {
        return Err("`~` is not replaced here: write the path of the home folder".into());
    }
    if path.contains("${") || path.contains("$(") {
        return Err("variables are not replaced here: write the path itself".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_count_from_the_folder_and_others_stay() {
        let text = r#"
            name = "key"
            token = { file = "token" }
            secrets = [{ file = "../openai" }, { env = "file" }, { file = "/run/secret" }]
            command = ["./notify", "./x"]
            named = ["notify"]
            lines = "events.jsonl"
            stdout = "-"
            folder = "logs/"
            [tls]
            certificate = "tls/chain.pem"
            key = "/etc/key.pem"
        "#;
        let keys = ["lines", "stdout", "folder", "certificate", "key"];
        let mut table = DeTable::parse(text).unwrap().into_inner();
        let folder = Path::new("/etc/u");
        assert!(count_from(folder, &mut table, &keys).check().is_ok());
        let programs = find_programs(folder, &mut table, &["command", "named"]);
        assert!(programs.check().is_ok());
        let at = |path: &[&str]| {
            let mut value = &table[path[0]];
            for key in &path[1..] {
                value = match key.parse::<usize>() {
                    Ok(index) => value.get_ref().get(index).unwrap(),
                    Err(_) => value.get_ref().get(*key).unwrap(),
                };
            }
            value.get_ref().as_str().unwrap()
        };
        for (path, expected) in [
            (&["name"][..], "key"),
            (&["token", "file"], "/etc/u/token"),
            (&["secrets", "0", "file"], "/etc/u/../openai"),
            (&["secrets", "1", "env"], "file"),
            (&["secrets", "2", "file"], "/run/secret"),
            (&["command", "0"], "/etc/u/notify"),
            (&["command", "1"], "./x"),
            (&["named", "0"], "notify"),
            (&["lines"], "/etc/u/events.jsonl"),
            (&["stdout"], "-"),
            (&["folder"], "/etc/u/logs/"),
            (&["tls", "certificate"], "/etc/u/tls/chain.pem"),
            (&["tls", "key"], "/etc/key.pem"),
        ] {
            assert_eq!(at(path), expected, "{path:?}");
        }
    }

    #[test]
    fn a_secret_or_a_text_of_lines_is_no_path_and_is_not_repeated() {
        for path in [
            "whsec_hunter2",
            "-----BEGIN KEY-----\nhunter2",
            "a\nhunter2",
            " sk-hunter2",
        ] {
            let problem = rebased(Path::new("/etc/u"), path).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(rebased(Path::new("/etc/u"), &"a".repeat(5000)).is_err());
    }

    #[test]
    fn a_path_that_a_shell_would_expand_is_refused() {
        for path in ["~/secret", "${HOME}/secret", "$(pwd)/secret"] {
            assert!(check(path).is_err(), "{path}");
        }
        assert!(check("a~b/$x").is_ok());
    }
}
