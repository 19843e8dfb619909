//! Commands for operators, which use the admin port of a running gateway.

pub(super) mod events;

pub(super) mod dead;

pub(super) mod replay;

pub(super) mod quarantine;

pub(super) mod destinations;

pub(super) mod gateways;

pub(super) mod runs;

mod query;

mod filter;

mod admin;

pub(super) use admin::{Admin, AdminArguments};
