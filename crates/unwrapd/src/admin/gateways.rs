//! The route that lists the gateways on the store, as this gateway knows them.

use axum::extract::State;
use axum::response::Response;

use super::bounds::Bounds;
use super::json::answer;
use super::{Admin, Route};
use crate::api::{GatewayList, GatewayView};
use crate::clock::milliseconds;
use crate::store::{FRESH, FleetGateway};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/gateways", Bounds::READ_LITTLE, list)
            .json::<GatewayList>("list_gateways", "Lists the gateways on the store."),
    ]
}

async fn list(State(admin): State<Admin>) -> Response {
    answer(&all(&admin))
}

/// All gateways on the store.
pub(super) fn all(admin: &Admin) -> GatewayList {
    let members = crate::store::gateways(&*admin.store);
    let mut ours = members.iter().filter(|member| member.is_ours);
    GatewayList {
        is_current: ours.all(|member| member.silent_for < FRESH),
        gateways: views(&members),
    }
}

pub(super) fn views(members: &[FleetGateway]) -> Vec<GatewayView> {
    let ours = members.iter().find(|member| member.is_ours);
    let view = |member: &FleetGateway| GatewayView {
        name: member.name.clone(),
        is_this: member.is_ours,
        takes_part: member.takes_part,
        silent_ms: milliseconds(member.silent_for),
        clock_ahead_ms: member.clock_ahead_ms,
        differs_in: ours.map_or_else(Vec::new, |ours| ours.differs_from(member)),
    };
    members.iter().map(view).collect()
}
