//! `/api/v1/openapi.json`: the OpenAPI document, generated from the routes and from the types of
//! [`api`](crate::api).

use std::sync::LazyLock;

use axum::extract::State;
use axum::response::Response;
use utoipa::openapi::path::{HttpMethod, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Server};

use super::bounds::Bounds;
use super::json::answer;
use super::operation::{SESSION, TOKEN, add_common};
use super::{Admin, Route, session};
use crate::VERSION;

/// The document is the same as long as the process runs.
static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| document(&super::routes()));

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/api/v1/openapi.json", Bounds::READ_LITTLE, show)
            .object("get_openapi", "Returns this document."),
    ]
}

async fn show(State(admin): State<Admin>) -> Response {
    if admin.base_path.is_empty() {
        return answer(&*DOCUMENT);
    }
    let mut document = DOCUMENT.clone();
    document.servers = Some(vec![Server::new(&*admin.base_path)]);
    answer(&document)
}

/// The document as text.
#[must_use]
pub fn openapi_json() -> String {
    // None of its types has a key that is not text.
    serde_json::to_string(&*DOCUMENT).unwrap_or_default()
}

fn document(routes: &[Route]) -> OpenApi {
    let mut components = Components::new();
    add_common(&mut components);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::new(session::NAME));
    components.add_security_scheme(SESSION, SecurityScheme::ApiKey(cookie));
    let mut paths = Paths::new();
    for route in routes {
        let Some(operation) = route.operation() else {
            continue;
        };
        let operation = operation.describe(route, &mut components);
        let item = PathItem::new(method(route), operation);
        match paths.paths.get_mut(route.path()) {
            Some(other) => other.merge_operations(item),
            None => drop(paths.paths.insert(route.path().to_owned(), item)),
        }
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("unwrapd admin API")
                .version(VERSION)
                .description(Some(
                    "The admin port of a gateway for OpenAI webhooks. Errors are problems (RFC 9457).",
                ))
                .build(),
        )
        .paths(paths)
        .components(Some(components))
        .build()
}

fn method(route: &Route) -> HttpMethod {
    // Routes are for reading or for changes.
    if *route.method() == axum::http::Method::GET {
        HttpMethod::Get
    } else {
        HttpMethod::Post
    }
}
