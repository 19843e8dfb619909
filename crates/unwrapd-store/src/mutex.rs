//! Locks of both stores.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. Its value is always valid, even after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
