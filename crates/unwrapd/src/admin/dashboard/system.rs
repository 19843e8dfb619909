//! `/system`: the gateways, the store, and the configuration as it was loaded.

use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::layout::{Page, Refresh, Section, Viewer};
use super::needs::sentence;
use super::words::{Mark, clock, marked, milliseconds, span};
use crate::admin::bounds::Bounds;
use crate::admin::json::Refusal;
use crate::admin::{Route, gateways};
use crate::api::{ConfigSetting, ConfigTable, ConfigView, GatewayList};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::page("/system", Bounds::PAGE, show)]
}

async fn show(viewer: Viewer) -> Result<Response, Refusal> {
    let now = viewer.clock.now();
    let writable = viewer.readiness.check(&viewer.store, &viewer.clock).await;
    let base = &*viewer.base_path;
    let content = html! {
        h1 { "System" }
        p.sub { "unwrapd " (crate::VERSION) }
        h2 { "Store" }
        @match writable {
            Ok(()) => p { (Mark::Good.show("good")) " The store can be written." },
            Err(error) => p {
                (Mark::Bad.show("problem")) " " (marked(&sentence(&error.to_string())))
            },
        }
        @for warning in viewer.warnings.all() {
            p { (Mark::Waiting.show("note")) " " (marked(&sentence(&warning))) }
        }
        h2 { "Gateways" }
        (gateways_table(&gateways::all(&viewer)))
        h2 { "Replays" }
        p { a href={ (base) "/runs" } { "Replays and drops, with their progress" } }
        h2 { "For programs" }
        p {
            a href={ (base) "/api/v1/openapi.json" } { "OpenAPI document" } " · "
            a href={ (base) "/metrics" } { "Metrics for Prometheus" } " · "
            a href={ (base) "/readyz" } { "Health check" }
        }
        @if let Some(config) = viewer.config.get() {
            h2 { "Configuration" }
            (configuration(now, &config))
        }
    };
    Ok(Page {
        section: Section::System,
        title: "System".into(),
        refresh: Refresh::Never,
        content,
    }
    .answer(&viewer)
    .await)
}

fn gateways_table(list: &GatewayList) -> Markup {
    if list.gateways.is_empty() {
        return html! { p { "This gateway is the only one on its store." } };
    }
    html! {
        @if !list.is_current {
            p.notice { "This gateway has not reached the store lately: the list is old." }
        }
        div.scroll { table {
            thead { tr {
                th { "Gateway" } th { "Last heartbeat" } th { "Takes part" } th { "Differs in" }
            } }
            tbody {
                @for gateway in &list.gateways {
                    tr {
                        td { (gateway.name) @if gateway.is_this { span.muted { " (this one)" } } }
                        td { (heartbeat(gateway.silent_ms)) " ago" }
                        td { @if gateway.takes_part { "yes" } @else { "no" } }
                        td {
                            (gateway.differs_in.join(", "))
                            @if let Some(ahead_ms) = gateway.clock_ahead_ms {
                                " clock: " (milliseconds(ahead_ms))
                            }
                        }
                    }
                }
            }
        } }
    }
}

fn heartbeat(silent_ms: u64) -> String {
    span(SignedDuration::from_millis(
        i64::try_from(silent_ms).unwrap_or(i64::MAX),
    ))
}

fn configuration(now: Timestamp, config: &ConfigView) -> Markup {
    html! {
        p.sub {
            @match &config.file {
                Some(file) => { "From " code { (file) } ", loaded " },
                None => "Without a file, loaded ",
            }
            (clock(now, config.loaded_at)) "."
        }
        @if !config.after_restart.is_empty() {
            p.notice {
                (Mark::Waiting.show("note")) " These changes take effect after a restart: "
                (config.after_restart.join(", ")) "."
            }
        }
        @for table in &config.tables { (table_of(table)) }
    }
}

fn table_of(table: &ConfigTable) -> Markup {
    html! {
        h3 { "[" (table.table) "]" @if let Some(name) = &table.name { " " (name) } }
        div.scroll { table.config {
            tbody {
                @for setting in &table.settings {
                    tr {
                        td.id { (setting.key) }
                        td.id { (value(setting)) }
                        td.num.muted {
                            @match setting.line {
                                Some(line) => { "line " (line) },
                                None => "default",
                            }
                        }
                    }
                }
            }
        } }
    }
}

/// The value. A secret is shown by its source.
fn value(setting: &ConfigSetting) -> String {
    if !setting.secrets_from.is_empty() {
        return setting.secrets_from.join(", ");
    }
    match &setting.value {
        serde_json::Value::Null => "none".into(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
