//! The requests and responses of `/api/v1`, as serde types: the admin port writes them and the
//! command line reads them. The types of messages and replays are those of [`store`](crate::store).
//! Their comments are the descriptions in the OpenAPI document.

mod bulk;
mod config;
mod destinations;
mod endpoints;
mod gateways;
mod messages;
mod problem;
mod quarantine;
mod replay;
mod traffic;

pub(crate) use bulk::{BulkList, BulkView};
pub(crate) use config::{ConfigSetting, ConfigTable, ConfigView};
pub(crate) use destinations::{
    CircuitState, ConfiguredView, DestinationList, DestinationView, GiveUpRequest, GiveUpResult,
    LimitsView, PauseResult, TestOutcome, TestRequest, TestResult,
};
pub(crate) use endpoints::{EndpointList, EndpointView, SecretView};
pub(crate) use gateways::{GatewayList, GatewayView};
pub(crate) use messages::{DeadLetter, DeadPage, MessageDetail, MessageDetails, Sibling};
pub(crate) use problem::Problem;
pub(crate) use quarantine::{
    DropQuarantinedResult, QuarantinePage, QuarantineSelection, QuarantinedDetail, QuarantinedView,
};
pub(crate) use replay::{
    DropDeadRequest, DropDeadResult, ReplayPlan, ReplayProgress, ReplayRequest,
};
pub(crate) use traffic::{
    DestinationStep, DestinationTraffic, EndpointStep, EndpointTraffic, TrafficReport,
};
