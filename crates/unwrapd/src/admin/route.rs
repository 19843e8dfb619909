//! A route of the admin port: its path, its method, its bounds, its description, and who may use it.

use std::fmt;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};

use super::Admin;
use super::access::{Guard, guard};
use super::bounds::{Bounded, Bounds, Permits, bounded};
use super::json::Refusal;
use super::operation::{Operation, Parameter};
use crate::observe::refusals::shown;

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

    /// Converts the route to a router. A request passes the guard, then the check of its query, then
    /// the bounds, then the handler. A wrong method is answered behind the guard.
    pub(super) fn served(self, permits: &Permits, who: &Guard) -> Router<Admin> {
        let bounds = Bounded {
            bounds: self.bounds,
            permits: permits.clone(),
        };
        let takes_any_query = self.takes_any_query();
        let handler = self
            .handler
            .route_layer(from_fn_with_state(bounds, bounded));
        let handler = if takes_any_query {
            handler
        } else {
            let known = self.operation.all_parameters();
            handler.route_layer(from_fn_with_state(known, check_query))
        };
        let handler = if self.is_open {
            handler
        } else {
            handler.layer(from_fn_with_state(who.clone(), guard))
        };
        Router::new().route(self.path, handler)
    }

    /// Whether an unknown parameter is ignored. Probes and scrapers add some against caches.
    fn takes_any_query(&self) -> bool {
        !self.path.starts_with("/api/")
    }
}

/// Refuses parameters of the query that the description does not have: a misspelt filter would
/// select everything.
async fn check_query(
    State(known): State<&'static [Parameter]>,
    request: Request,
    next: Next,
) -> Response {
    match unknown_parameter(request.uri().query().unwrap_or_default(), known) {
        Some(detail) => Refusal::bad(detail).into_response(),
        None => next.run(request).await,
    }
}

/// The problem, if the query has a parameter that is not known.
fn unknown_parameter(query: &str, known: &[Parameter]) -> Option<String> {
    let known: Vec<&str> = known.iter().filter_map(Parameter::query_name).collect();
    let mut names = form_urlencoded::parse(query.as_bytes());
    let (name, _) = names.find(|(name, _)| !known.contains(&&**name))?;
    let name = shown(&name);
    Some(if known.is_empty() {
        format!("this path takes no parameters, and `{name}` is one")
    } else {
        format!(
            "this path takes no parameter `{name}`; its parameters are {}",
            known.join(", ")
        )
    })
}
