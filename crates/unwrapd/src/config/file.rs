//! The tables of a configuration, and the order of the checks that make a [`Config`] of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::store::{self, Use};
use super::{Config, DestinationSettings, EndpointSettings, TraceSettings, Written};
use crate::admin::{AdminKeys, AdminSettings};
use crate::listen::{ListenKeys, ServerKeys, ServerSettings};
use crate::settings_file::{Document, Mistake, Mistakes, Table};
use crate::store::StoreSettings;
use crate::telemetry::LogSettings;

/// The tables of a configuration.
pub(super) struct File<'a> {
    /// The folder that paths count from.
    folder: PathBuf,
    server: Table<'a>,
    log: Table<'a>,
    traces: Table<'a>,
    store: Table<'a>,
    endpoints: Vec<Table<'a>>,
    destinations: Vec<Table<'a>>,
    /// Whether `endpoint` is present but is not a list of tables.
    has_broken_endpoints: bool,
    /// Mistakes outside the tables.
    mistakes: Mistakes,
}

impl<'a> File<'a> {
    pub(super) fn split(root: DeTable<'a>, folder: &Path) -> Self {
        let mut document = Document::of(
            root,
            folder,
            &["server", "log", "traces", "store"],
            &["endpoint", "destination"],
        );
        Self {
            folder: folder.to_owned(),
            server: document.single("server"),
            log: document.single("log"),
            traces: document.single("traces"),
            store: document.single("store"),
            endpoints: document.listed("endpoint"),
            destinations: document.listed("destination"),
            has_broken_endpoints: document.is_broken("endpoint"),
            mistakes: document.mistakes,
        }
    }

    /// Checks the settings of the store alone, whose commands need no other secrets.
    pub(super) fn check_store(self, purpose: Use) -> Result<StoreSettings, Mistakes> {
        let mut mistakes = self.mistakes;
        let store = store::read(self.store, &self.folder, purpose, &mut mistakes);
        mistakes.check()?;
        Ok(store.expect("without a mistake there is one"))
    }

    /// Makes all checks. `begin_log` gets the settings of the log first, so that the warnings about
    /// the rest follow them.
    pub(super) fn check(
        self,
        begin_log: impl FnOnce(LogSettings),
        written: Written,
    ) -> Result<Config, Mistakes> {
        let mut mistakes = self.mistakes;
        let log = mistakes.keep(LogSettings::read(self.log));
        begin_log(log.unwrap_or_default());
        if self.endpoints.is_empty() && !self.has_broken_endpoints {
            mistakes.add(Mistake::whole(
                "there is no [[endpoint]], so nothing can be received: add one with a `name` and its `secrets`",
            ));
        }
        let server = mistakes.keep(Server::read(self.server));
        let traces = mistakes.keep(TraceSettings::read(self.traces));
        let store = store::read(self.store, &self.folder, Use::Open, &mut mistakes);
        let endpoints = mistakes.keep(EndpointSettings::read_all(self.endpoints));
        let store_url = store.as_ref().map(|store| &store.url);
        let destinations = DestinationSettings::read_all(self.destinations, store_url);
        let destinations = mistakes.keep(destinations);
        mistakes.check()?;
        let all = server.zip(store).zip(endpoints.zip(destinations));
        let ((server, store), (endpoints, destinations)) =
            all.expect("without a mistake all parts are there");
        Ok(Config {
            listen: server.listen,
            admin: server.admin.address,
            admin_tokens: server.admin.tokens,
            admin_base_path: server.admin.base_path,
            admin_url: server.admin.url,
            server: server.settings,
            log: log.expect("without a mistake it is there"),
            traces: traces.expect("without a mistake it is there"),
            store,
            endpoints,
            destinations,
            written,
        })
    }
}

/// The table `[server]`, of which the ports and the admin port each have their keys.
struct Server {
    listen: SocketAddr,
    admin: AdminSettings,
    settings: ServerSettings,
}

impl Server {
    fn read(mut table: Table<'_>) -> Result<Self, Mistakes> {
        let listen = table.take::<ListenKeys>().check();
        let listen = table.keep(listen);
        let admin: AdminKeys = table.take();
        let server: ServerKeys = table.take();
        let settings = table.keep(server.check(admin.address(), table.location()));
        let admin = table.keep(admin.check(listen, table.location()));
        table.end()?;
        let all = listen.zip(admin).zip(settings);
        let ((listen, admin), settings) = all.expect("without a mistake all parts are there");
        Ok(Self {
            listen,
            admin,
            settings,
        })
    }
}
