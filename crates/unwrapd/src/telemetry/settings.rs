//! The settings of the log: the table `[log]` of the configuration.

use serde::Deserialize;

use crate::settings_file::{Key, Keys, Mistake, Mistakes, Table};

/// The settings of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Form of the lines.
    pub format: LogFormat,
}

/// Form of the log lines. Both forms have the same field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, message, fields.
    #[default]
    Human,
    /// For programs: one JSON object a line.
    Json,
}

#[derive(Default, Deserialize)]
struct LogKeys {
    format: Key<String>,
}

impl Keys for LogKeys {}

impl LogSettings {
    pub(crate) fn read(mut table: Table<'_>) -> Result<Self, Mistakes> {
        let keys: LogKeys = table.take();
        let format = table.keep(keys.format());
        table.end()?;
        Ok(Self {
            format: format.unwrap_or_default(),
        })
    }
}

impl LogKeys {
    fn format(&self) -> Result<LogFormat, Mistake> {
        let Some(format) = &self.format else {
            return Ok(LogFormat::default());
        };
        match format.get_ref().as_str() {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(Mistake::new(
                format.span(),
                "`format` must be \"human\" or \"json\"",
            )),
        }
    }
}
