//! Opens the two ends of a copy, and checks that they are unused and different.

use std::path::Path;

use super::endpoint::{CopyEndpoint, StepResult};
use super::error::CopyError;
use super::table::Outline;
use crate::error::StoreError;
use crate::postgres::PostgresCopyEndpoint;
use crate::settings::StoreUrl;
use crate::sqlite::SqliteCopyEndpoint;

/// An end and its location.
pub(super) struct Place {
    url: StoreUrl,
    pub(super) name: String,
    pub(super) end: Box<dyn CopyEndpoint>,
}

/// Source and target of a copy.
pub(super) struct CopyEndpoints {
    pub(super) from: Place,
    pub(super) to: Place,
}

impl Place {
    fn new(url: &StoreUrl, end: Box<dyn CopyEndpoint>) -> Self {
        Self {
            url: url.clone(),
            name: name_of(url),
            end,
        }
    }

    pub(super) async fn outline(&mut self) -> Result<Outline, CopyError> {
        let outline = self.end.outline().await;
        outline.map_err(|error| self.problem(error))
    }

    /// Returns an error if another copy has changed the mark.
    pub(super) fn is_ours(&self, turn: Result<StepResult, StoreError>) -> Result<(), CopyError> {
        match turn.map_err(|error| self.problem(error))? {
            StepResult::Done => Ok(()),
            StepResult::Overtaken => Err(CopyError::Overtaken(self.name.clone())),
        }
    }

    pub(super) fn problem(&self, error: StoreError) -> CopyError {
        problem(&self.url, error)
    }
}

fn problem(url: &StoreUrl, error: StoreError) -> CopyError {
    let place = name_of(url);
    match error {
        StoreError::InUse(_) => CopyError::InUse {
            place,
            is_remembered: matches!(url, StoreUrl::Postgres(_)),
        },
        error => CopyError::Store { place, error },
    }
}

/// Opens both ends, and creates the target if it does not exist.
pub(super) async fn open(from: &StoreUrl, to: &StoreUrl) -> Result<CopyEndpoints, CopyError> {
    let same =
        || CopyError::Refused("source and target are the same store: name another target".into());
    if let (StoreUrl::Sqlite(from), StoreUrl::Sqlite(to)) = (from, to)
        && is_same_file(from, to)
    {
        return Err(same());
    }
    let opened = match from {
        StoreUrl::Sqlite(path) => SqliteCopyEndpoint::of_source(path).map(|end| end.map(boxed)),
        StoreUrl::Postgres(address) => {
            let opened = PostgresCopyEndpoint::of_source(address).await;
            opened.map(|end| end.map(boxed))
        }
    };
    let Some(end) = opened.map_err(|error| problem(from, error))? else {
        return Err(CopyError::NotThere(name_of(from)));
    };
    let mut from = Place::new(from, end);

    let opened = match to {
        StoreUrl::Sqlite(path) => SqliteCopyEndpoint::of_target(path).map(boxed),
        StoreUrl::Postgres(address) => PostgresCopyEndpoint::of_target(address).await.map(boxed),
    };
    let end = opened.map_err(|error| problem(to, error))?;
    let mut to = Place::new(to, end);

    let (one, other) = tokio::join!(from.end.identity(), to.end.identity());
    let one = one.map_err(|error| from.problem(error))?;
    let other = other.map_err(|error| to.problem(error))?;
    if one == other {
        return Err(same());
    }
    Ok(CopyEndpoints { from, to })
}

fn name_of(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Sqlite(_) => url.to_string(),
        StoreUrl::Postgres(address) => format!("the store {address}"),
    }
}

fn boxed<E: CopyEndpoint + 'static>(end: E) -> Box<dyn CopyEndpoint> {
    Box::new(end)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| std::fs::canonicalize(path).ok();
    of(one).is_some_and(|one| of(other) == Some(one))
}
