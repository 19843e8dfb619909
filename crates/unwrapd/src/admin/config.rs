//! `/api/v1/config`: the configuration as it was loaded, without secrets.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::response::Response;

use super::bounds::Bounds;
use super::json::answer;
use super::{Admin, Route};
use crate::api::ConfigView;

/// The configuration that was loaded last, for operators.
#[derive(Debug, Default)]
pub struct LoadedConfig(RwLock<Option<Arc<ConfigView>>>);

impl LoadedConfig {
    /// Replaces it.
    pub(crate) fn set(&self, config: ConfigView) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
    }

    pub(super) fn get(&self) -> Option<Arc<ConfigView>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/config", Bounds::READ_LITTLE, show).json::<ConfigView>(
            "get_config",
            "Returns the configuration as it was loaded, with the source of each value.",
        ),
    ]
}

async fn show(State(admin): State<Admin>) -> Response {
    answer(&admin.config.get().as_deref())
}
