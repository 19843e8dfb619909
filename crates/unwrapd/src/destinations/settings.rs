//! The table `[[destination]]`, and the settings that all kinds have in common.

mod events;
mod limits;

use openai_webhooks::{Secret, Webhooks};

use super::http::HttpSettings;
use super::{Description, Kind};
use crate::delivery::limits::Limits;
use crate::route::Patterns;
use crate::settings_file::{Mistake, Mistakes, Names, Table, differing};
use crate::store::{DELIVERIES_MAX, StoreUrl};
use events::EventKeys;
use limits::LimitKeys;

/// A destination of messages.
#[derive(Clone, PartialEq)]
pub struct DestinationSettings {
    /// Name in the store, in logs and on the command line.
    pub name: String,
    /// The kind of the destination.
    pub kind: Kind,
    /// The events that are delivered to it.
    pub events: Patterns,
    /// Its limits, and the retries of a delivery.
    pub limits: Limits,
}

impl DestinationSettings {
    /// An application that gets all events, with the defaults of all other settings.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a secret that is not needed any more is wiped here"
    )]
    pub fn new(name: impl Into<String>, url: reqwest::Url, secret: Secret) -> Self {
        Self::of(
            name,
            Kind::Http(HttpSettings::new(url, Webhooks::from(&secret))),
        )
    }

    /// A destination that gets all events, with the defaults of all other settings.
    #[must_use]
    pub fn of(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            events: Patterns::everything(),
            limits: Limits::default(),
        }
    }

    /// The destinations that these tables describe. `store` is the store, if its URL can be read.
    pub(crate) fn read_all(
        tables: Vec<Table<'_>>,
        store: Option<&StoreUrl>,
    ) -> Result<Vec<Self>, Mistakes> {
        let mut mistakes = Mistakes::default();
        if let Some(surplus) = tables.get(DELIVERIES_MAX) {
            mistakes.add(Mistake::new(
                surplus.location().span(),
                format!("{DELIVERIES_MAX} destinations are the limit: remove this one"),
            ));
        }
        let mut names = Names::default();
        let mut destinations = Vec::new();
        for table in tables {
            let read = mistakes.keep(Self::read(table, &mut names, store));
            destinations.extend(read.flatten());
        }
        mistakes.check()?;
        Ok(destinations)
    }

    /// `None`: a part of the table is missing, and its mistakes are reported already.
    fn read(
        mut table: Table<'_>,
        names: &mut Names,
        store: Option<&StoreUrl>,
    ) -> Result<Option<Self>, Mistakes> {
        let name = names.take(&mut table);
        let kind = Kind::take(&mut table, store);
        let keys: EventKeys = table.take();
        let events = table.keep(keys.check(table.location()));
        let keys: LimitKeys = table.take();
        let limits = table.keep(keys.check());
        table.end()?;
        let (Some((name, kind)), Some((events, limits))) = (name.zip(kind), events.zip(limits))
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            name,
            kind,
            events,
            limits,
        }))
    }

    /// The settings as operators see them.
    pub(crate) fn description(&self) -> Description {
        Description {
            target: self.kind.target(),
            events: self.events.texts(),
            limits: self.limits.clone(),
        }
    }

    /// The keys in which the other settings differ.
    pub(crate) fn changed_keys(&self, other: &Self) -> Vec<String> {
        let mut keys = self.kind.changed_keys(&other.kind);
        let (limits, other_limits) = (&self.limits, &other.limits);
        let (retry, other_retry) = (&limits.retry, &other_limits.retry);
        let changed = differing([
            ("events", self.events != other.events),
            (
                "concurrency",
                limits.concurrency != other_limits.concurrency,
            ),
            ("rate", limits.rate != other_limits.rate),
            ("timeout_seconds", limits.timeout != other_limits.timeout),
            ("retry_first_seconds", retry.first != other_retry.first),
            ("retry_max_seconds", retry.max != other_retry.max),
            (
                "deadline_hours",
                retry.give_up_after != other_retry.give_up_after,
            ),
            (
                "attempts_max",
                retry.attempts_max != other_retry.attempts_max,
            ),
        ]);
        keys.extend(changed.map(str::to_owned));
        if keys.is_empty() && self != other {
            keys.push("other settings".into());
        }
        keys
    }
}
