//! The settings of a destination that is a file of JSON lines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{JsonLinesDestination, check};
use crate::clock::Clock;
use crate::delivery::limits::Limits;
use crate::destinations::{Destination, KindSettings};
use crate::settings_file::{Key, Keys, Location, Mistake, Mistakes, shown_path};
use crate::store::StoreUrl;

/// Target of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonLinesSettings {
    /// The end of this file. If the file is moved away, a new one is created.
    File(PathBuf),
    /// Stdout of this process.
    Stdout,
}

impl JsonLinesSettings {
    /// Checks whether lines can be written, without writing one. A missing folder may be created
    /// later. The error names the remedy.
    fn check_path(&self) -> Result<(), String> {
        match self {
            Self::File(path) => check::check(path),
            Self::Stdout => Ok(()),
        }
    }

    fn has_folder(&self) -> bool {
        match self {
            Self::File(path) => path
                .parent()
                .is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir()),
            Self::Stdout => true,
        }
    }
}

impl KindSettings for JsonLinesSettings {
    const KEY: &'static str = "jsonl";
    const EXAMPLE: &'static str = "jsonl = \"path\"";
    const OTHER_KEYS: &'static str = "the gateway writes lines, and sends no request";

    type Keys = JsonLinesKeys;

    fn check(
        keys: JsonLinesKeys,
        _: &Location,
        store: Option<&StoreUrl>,
    ) -> Result<Option<Self>, Mistakes> {
        let Some(path) = keys.jsonl else {
            return Ok(None);
        };
        let mut mistakes = Mistakes::default();
        if path.get_ref() != "-" && store.is_some_and(|store| store.owns(Path::new(path.get_ref())))
        {
            mistakes.add(Mistake::new(
                path.span(),
                "this is a file of the store, and lines would destroy it: name another file",
            ));
        }
        let settings = mistakes.keep(lines(&path));
        mistakes.check()?;
        Ok(settings)
    }

    fn build(&self, _: Limits, _: &Clock) -> anyhow::Result<Box<dyn Destination>> {
        Ok(Box::new(JsonLinesDestination::new(self.clone())?))
    }

    fn digest(&self, add: &mut dyn FnMut(&[u8])) {
        add(format!("{self:?}").as_bytes());
    }

    fn target(&self) -> String {
        match self {
            Self::File(path) => shown_path(path),
            Self::Stdout => "-".into(),
        }
    }

    fn doubt(&self, name: &str, _: SocketAddr) -> Option<String> {
        (!self.has_folder()).then(|| {
            format!(
                "the folder of the file in `jsonl` of `{name}` does not exist: its deliveries wait until you create it"
            )
        })
    }

    /// The file, and its replacement.
    fn open_files(&self, _: u64) -> u64 {
        2
    }
}

#[derive(Default, Deserialize)]
pub(crate) struct JsonLinesKeys {
    jsonl: Key<String>,
}

impl Keys for JsonLinesKeys {
    const PATHS: &'static [&'static str] = &["jsonl"];
}

fn lines(path: &Spanned<String>) -> Result<JsonLinesSettings, Mistake> {
    let settings = match path.get_ref().as_str() {
        "" => {
            return Err(Mistake::new(
                path.span(),
                "this must be the path of a file, or \"-\" for stdout",
            ));
        }
        "-" => JsonLinesSettings::Stdout,
        path => JsonLinesSettings::File(path.into()),
    };
    settings
        .check_path()
        .map_err(|problem| Mistake::new(path.span(), problem))?;
    Ok(settings)
}
