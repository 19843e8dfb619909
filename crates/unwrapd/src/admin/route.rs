//! A route of the admin port: its path, its method, its bounds, its description, and the right that
//! it needs.

use std::fmt;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};

use super::Admin;
use super::access::guard;
use super::bounds::{Bounds, Permits, bounded};
use super::json::Refusal;
use super::operation::{Operation, Parameter};
use crate::observe::refusals::shown;

/// The right that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// None: no token is needed.
    Nothing,
    /// The right to read.
    Read,
    /// The right to change something.
    Operate,
}

/// A route of the admin port. The port serves only such routes, so that every route has bounds, and
/// each of the API a description.
pub struct Route {
    path: &'static str,
    method: Method,
    bounds: Bounds,
    needs: Needs,
    handler: MethodRouter<Admin>,
    /// `None`: the route is for browsers, and not part of the API.
    operation: Option<Operation>,
}

/// A route of the API that lacks its description.
pub(super) struct Undescribed(Route);

impl Undescribed {
    pub(super) fn described(self, operation: Operation) -> Route {
        Route {
            operation: Some(operation),
            ..self.0
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.bounds)
    }
}

impl Route {
    /// A route of the API for reading.
    pub(super) fn get<H, T>(path: &'static str, bounds: Bounds, handler: H) -> Undescribed
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Undescribed(Self::new(path, Method::GET, bounds, get(handler)))
    }

    /// A route of the API for changes.
    pub(super) fn post<H, T>(path: &'static str, bounds: Bounds, handler: H) -> Undescribed
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Undescribed(Self::new(path, Method::POST, bounds, post(handler)))
    }

    /// A page, for browsers.
    pub(super) fn page<H, T>(path: &'static str, bounds: Bounds, handler: H) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Self::get(path, bounds, handler).0
    }

    /// The target of a form on a page.
    pub(super) fn form<H, T>(path: &'static str, bounds: Bounds, handler: H) -> Self
    where
        H: Handler<T, Admin>,
        T: 'static,
    {
        Self::post(path, bounds, handler).0
    }

    fn new(
        path: &'static str,
        method: Method,
        bounds: Bounds,
        handler: MethodRouter<Admin>,
    ) -> Self {
        let needs = if method == Method::GET {
            Needs::Read
        } else {
            Needs::Operate
        };
        Self {
            path,
            method,
            bounds,
            needs,
            handler,
            operation: None,
        }
    }

    /// Changes the description, if the route has one.
    pub(super) fn describe(mut self, change: impl FnOnce(&mut Operation)) -> Self {
        if let Some(operation) = &mut self.operation {
            change(operation);
        }
        self
    }

    /// The same route, for clients without a token too.
    pub(super) fn without_token(self) -> Self {
        Self {
            needs: Needs::Nothing,
            ..self
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

    /// The right that the route needs.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Whether the route needs no token.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.needs == Needs::Nothing
    }

    /// Whether the route is for browsers, and not part of the API.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.operation.is_none()
    }

    /// The description, if the route is part of the API.
    pub(super) fn operation(&self) -> Option<&Operation> {
        self.operation.as_ref()
    }

    /// Converts the route to a router. A request passes the guard, then the check of its query, then
    /// the bounds, then the handler. A wrong method is answered behind the guard.
    pub(super) fn served(self, permits: &Permits, admin: &Admin) -> Router<Admin> {
        let bounds = (self.bounds, permits.clone());
        // A form of another site must not reach even an open route.
        let is_guarded = !self.is_open() || self.method == Method::POST;
        let known = self.known_parameters();
        let handler = self
            .handler
            .route_layer(from_fn_with_state(bounds, bounded));
        let handler = match known {
            Some(known) => handler.route_layer(from_fn_with_state(known, check_query)),
            None => handler,
        };
        let handler = if is_guarded {
            let needs = (admin.clone(), self.needs);
            handler.layer(from_fn_with_state(needs, guard))
        } else {
            handler
        };
        Router::new().route(self.path, handler)
    }

    /// The parameters of the query. `None`: any is taken. Probes and scrapers add some against
    /// caches.
    fn known_parameters(&self) -> Option<&'static [Parameter]> {
        let operation = self.operation.as_ref()?;
        let is_api = self.path.starts_with("/api/");
        is_api.then(|| operation.all_parameters())
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
