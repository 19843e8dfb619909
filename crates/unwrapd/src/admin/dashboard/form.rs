//! Forms: the fields of a request, and the answer that leads to another page.

use std::convert::Infallible;

use axum::body::to_bytes;
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use crate::admin::Admin;
use crate::admin::json::Refusal;

/// The fields of a form, in their order. As an argument of a handler, those of the query.
pub(super) struct Fields(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of_query(parts.uri.query()))
    }
}

impl Fields {
    fn of_query(query: Option<&str>) -> Self {
        let fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(fields.into_owned().collect())
    }

    /// The fields of the body of a request, which has arrived within the bound of its route.
    pub(super) async fn of_body(request: Request) -> Result<Self, Refusal> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_form = content_type.is_some_and(|content_type| {
            content_type
                .as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
        let body = to_bytes(request.into_body(), usize::MAX)
            .await
            .map_err(|_| Refusal::bad("the body ended too early"))?;
        if !is_form && !body.is_empty() {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this path takes a form of the dashboard; programs use the API under /api/v1",
            ));
        }
        Ok(Self(form_urlencoded::parse(&body).into_owned().collect()))
    }

    /// The first field with this name, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let found = fields.find(|(field, value)| field == name && !value.trim().is_empty());
        found.map(|(_, value)| value.trim())
    }

    /// The field as a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = self.get(name).map(str::parse).transpose();
        number.map_err(|_| Refusal::bad(format!("`{name}` must be a number")))
    }
}

/// Leads the browser to another page, which it reads with GET.
pub(super) fn see_other(admin: &Admin, path: &str) -> Response {
    let headers = [
        (LOCATION, format!("{}{path}", admin.base_path)),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// A path with a query, each part of which is encoded.
pub(super) fn with_query(path: &str, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// A segment of a path, encoded.
pub(super) fn segment(text: &str) -> String {
    // Forms encode a blank as `+`, which stands for itself in a path.
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_without_blanks_around_it() {
        let fields = Fields::of_query(Some("q=+type%3Abatch.*+&to=&after=12"));
        assert_eq!(fields.get("q"), Some("type:batch.*"));
        assert_eq!(fields.get("to"), None);
        assert!(
            fields
                .number("after")
                .is_ok_and(|number| number == Some(12))
        );
        assert!(fields.number("q").is_err());
    }

    #[test]
    fn every_name_can_be_a_segment_of_a_path() {
        assert_eq!(segment("wh_1"), "wh_1");
        assert_eq!(segment("a/b c?d#e%f"), "a%2Fb%20c%3Fd%23e%25f");
        assert_eq!(segment(".."), "..");
    }
}
