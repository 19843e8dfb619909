//! A route of the admin port: its path, its method, its bounds, its description, and who may use it.

use std::fmt;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use super::Admin;
use super::access::{Guard, guard};
use super::bounds::{Bounded, Bounds, Permits, bounded};
use super::operation::Operation;

/// A route of the admin port. The port serves only such routes, so that every route has bounds and a
/// description.
pub struct Route {
    path: &'static str,
    method: Method,
    bounds: Bounds,
    is_open: bool,
    handler: MethodRouter<Admin>,
    operation: Operation,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.bounds)
    }
}

impl Route {
    /// A route that needs no token.
    pub(super) fn open<H, T>(
        path: &'static str,
        bounds: Bounds,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Self {
            is_open: true,
            ..Self::get(path, bounds, handler, operation)
        }
    }

    /// A route for reading.
    pub(super) fn get<H, T>(
        path: &'static str,
        bounds: Bounds,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Self::new(path, Method::GET, bounds, get(handler), operation)
    }

    /// A route for changes.
    pub(super) fn post<H, T>(
        path: &'static str,
        bounds: Bounds,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Self::new(path, Method::POST, bounds, post(handler), operation)
    }

    fn new(
        path: &'static str,
        method: Method,
        bounds: Bounds,
        handler: MethodRouter<Admin>,
        operation: Operation,
    ) -> Self {
        Self {
            path,
            method,
            bounds,
            is_open: false,
            handler,
            operation,
        }
    }

    /// The path, with parameters in braces.
    #[must_use]
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The bounds.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether the route needs no token.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The description.
    pub(super) fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Converts the route to a router. A request passes the guard, then the bounds, then the
    /// handler.
    pub(super) fn served(self, permits: &Permits, who: &Guard) -> Router<Admin> {
        let bounds = Bounded {
            bounds: self.bounds,
            permits: permits.clone(),
        };
        let handler = self.handler.layer(from_fn_with_state(bounds, bounded));
        let handler = if self.is_open {
            handler
        } else {
            handler.layer(from_fn_with_state(who.clone(), guard))
        };
        Router::new().route(self.path, handler)
    }
}
