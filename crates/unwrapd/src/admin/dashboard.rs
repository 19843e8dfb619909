//! The dashboard: pages of the admin port for people. A page shows what the API answers, and each
//! button posts a form to a route beside it.
//!
//! All pages are rendered here, so that they can be read without JavaScript. The script keeps times
//! and lists up to date, and adds keys and copies.

mod assets;
mod cards;
mod destinations;
mod event;
mod events;
mod filter_text;
mod form;
mod journey;
mod layout;
mod needs;
mod overview;
mod pretty;
mod refused;
mod replay;
mod runs;
mod strip;
mod system;
mod words;

use super::Route;
pub(super) use assets::style_url;

pub(super) fn routes() -> Vec<Route> {
    [
        assets::routes(),
        overview::routes(),
        events::routes(),
        event::routes(),
        replay::routes(),
        runs::routes(),
        destinations::routes(),
        refused::routes(),
        system::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
