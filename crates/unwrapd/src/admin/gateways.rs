//! The gateways on the store, as this one knows them.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::ask::answer;
use super::bounds::Bounds;
use super::{Admin, Route};
use crate::store::{FRESH, Member};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/api/v1/gateways", Bounds::READ_LITTLE, list)]
}

/// All that share the store. None, where nobody can.
#[derive(Serialize, Deserialize)]
pub(crate) struct Gateways {
    /// Whether this one has reached the store lately. If not, all of this is as it was then.
    pub(crate) is_current: bool,
    /// This one first.
    pub(crate) gateways: Vec<GatewayView>,
}

/// One gateway, as the API shows it.
#[derive(Serialize, Deserialize)]
pub(crate) struct GatewayView {
    /// Host and port of the gateway.
    pub(crate) name: String,
    /// Whether it is the one that answers.
    pub(crate) is_this: bool,
    /// Whether it has its part of the limits of destinations.
    pub(crate) takes_part: bool,
    /// How long ago it was last heard of.
    pub(crate) silent_ms: u64,
    /// How far its clock is ahead of that of the database, if that is too far; known of the one that answers.
    #[serde(default)]
    pub(crate) clock_ahead_ms: Option<i64>,
    /// The parts of the configuration in which it differs from the one that answers.
    pub(crate) differs_in: Vec<String>,
}

async fn list(State(admin): State<Admin>) -> Response {
    let members = admin.store.members();
    let mut ours = members.iter().filter(|member| member.is_ours);
    answer(&Gateways {
        is_current: ours.all(|member| member.silent_for < FRESH),
        gateways: views(&members),
    })
}

pub(super) fn views(members: &[Member]) -> Vec<GatewayView> {
    let ours = members.iter().find(|member| member.is_ours);
    let view = |member: &Member| GatewayView {
        name: member.name.clone(),
        is_this: member.is_ours,
        takes_part: member.takes_part,
        silent_ms: u64::try_from(member.silent_for.as_millis()).unwrap_or(u64::MAX),
        clock_ahead_ms: member.clock_ahead_ms,
        differs_in: ours.map_or_else(Vec::new, |ours| ours.differs_from(member)),
    };
    members.iter().map(view).collect()
}
