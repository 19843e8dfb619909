//! The parameters of a request for the API.

use std::str::FromStr;

use super::json::Refusal;

/// The parameters in the query of a request. The route has refused those that its description does
/// not have.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        let parameters = form_urlencoded::parse(query.as_bytes());
        Self(parameters.into_owned().collect())
    }

    /// The values of a parameter that may be repeated.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.values(name).map(str::to_owned).collect()
    }

    /// As [`texts`](Self::texts), each as `read` reads it.
    pub(super) fn all<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        self.values(name).map(read).collect()
    }

    /// The value of a parameter, as `read` reads it; the last one if it is repeated.
    pub(super) fn one<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        Ok(self.all(name, read)?.pop())
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let parameters = self.0.iter();
        parameters
            .filter(move |(parameter, _)| parameter == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a value whose type says what is wrong with it.
pub(super) fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(Refusal::bad)
}
