//! The frame of every page: the head, the rail with the sections, and the content.

use std::convert::Infallible;
use std::ops::Deref;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::response::Response;
use maud::{DOCTYPE, Markup, html};
use tokio::time::timeout;

use super::assets::{script_url, style_url};
use super::words::number;
use crate::admin::tokens::Rights;
use crate::admin::{Admin, html};
use crate::printable;

/// The gateway, as the reader of a page may see it.
pub(super) struct Viewer {
    admin: Admin,
    pub(super) rights: Rights,
}

impl Deref for Viewer {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Viewer
where
    Admin: FromRef<S>,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            admin: Admin::from_ref(state),
            rights: Rights::from_request_parts(parts, state).await?,
        })
    }
}

/// Longest wait for the number of refused requests.
const COUNT_TIME_MAX: Duration = Duration::from_millis(500);

/// A section of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Events,
    Destinations,
    Refused,
    System,
}

impl Section {
    const ALL: [Self; 5] = [
        Self::Overview,
        Self::Events,
        Self::Destinations,
        Self::Refused,
        Self::System,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Events => "Events",
            Self::Destinations => "Destinations",
            Self::Refused => "Refused",
            Self::System => "System",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Events => "/events",
            Self::Destinations => "/destinations",
            Self::Refused => "/refused",
            Self::System => "/system",
        }
    }
}

/// How a page is kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    /// It stays as it is.
    Never,
    /// The script loads its content again every few seconds, unless someone is using a field.
    Regularly,
}

/// A page.
pub(super) struct Page {
    pub(super) section: Section,
    pub(super) title: String,
    pub(super) refresh: Refresh,
    pub(super) content: Markup,
}

impl Page {
    /// The page as an answer.
    pub(super) async fn answer(self, viewer: &Viewer) -> Response {
        let base = &*viewer.base_path;
        // The rail is useful without the number too, and a page must not wait for it.
        let refused = timeout(COUNT_TIME_MAX, super::refused::count(viewer)).await;
        let refused = refused.ok().and_then(Result::ok).unwrap_or_default();
        // The style sheet hides the buttons that the token does not allow.
        let class = (!viewer.rights.may_operate).then_some("reader");
        let title = format!("{} · unwrapd", printable::line(&self.title));
        let refresh = (self.refresh == Refresh::Regularly).then_some("5");
        html::page(html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    link rel="stylesheet" href=(style_url(base));
                    link rel="icon" href="data:,";
                    script src=(script_url(base)) defer {}
                }
                body class=[class] data-base=(base) {
                    a.skip href="#content" { "Skip to the content" }
                    (rail(viewer, self.section, refused))
                    main #content data-refresh=[refresh] { (self.content) }
                }
            }
        })
    }
}

fn rail(admin: &Admin, current: Section, refused: u64) -> Markup {
    let base = &*admin.base_path;
    html! {
        nav aria-label="Main" {
            a.name href={ (base) "/" } { "unwrapd" }
            @for section in Section::ALL {
                a.foot[section == Section::System] href={ (base) (section.path()) }
                    aria-current=[(section == current).then_some("page")] {
                    (section.name())
                    @if section == Section::Refused && refused > 0 {
                        " " span.count { (number(refused)) }
                    }
                }
            }
            @if admin.access.tokens().is_some() {
                form method="post" action={ (base) "/logout" } {
                    button.quiet { "Log out" }
                }
            }
        }
    }
}
