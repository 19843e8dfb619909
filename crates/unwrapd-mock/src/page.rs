//! Pages of lists: `limit`, `after` and `order`
//! ([reference](https://developers.openai.com/api/reference/overview)).

use serde_json::{Value, json};

use crate::error::ApiError;

/// The query of a list.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self {
            pairs: pairs.collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        let (_, value) = pairs.find(|(key, value)| key == name && !value.is_empty())?;
        Some(value)
    }

    /// The pairs `metadata[key]=value`.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().filter_map(|(key, value)| {
            let key = key.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((key, &**value))
        })
    }

    /// The page of these objects, which are in ascending order. `limits` are the default and the
    /// largest limit.
    pub(crate) fn page<'i, T: 'i>(
        &self,
        items: impl DoubleEndedIterator<Item = (&'i str, &'i T)>,
        limits: (usize, usize),
        show: impl Fn(&T) -> Value,
    ) -> Result<Value, ApiError> {
        let (default, most) = limits;
        let limit = match self.get("limit") {
            None => default,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| {
                    ApiError::invalid(
                        "limit",
                        format!("Invalid 'limit': expected an integer from 1 to {most}."),
                    )
                })?,
        };
        match self.get("order") {
            None | Some("desc") => self.page_of(items.rev(), limit, show),
            Some("asc") => self.page_of(items, limit, show),
            Some(_) => Err(ApiError::invalid(
                "order",
                "Invalid 'order': expected 'asc' or 'desc'.",
            )),
        }
    }

    fn page_of<'i, T: 'i>(
        &self,
        mut items: impl Iterator<Item = (&'i str, &'i T)>,
        limit: usize,
        show: impl Fn(&T) -> Value,
    ) -> Result<Value, ApiError> {
        if let Some(after) = self.get("after")
            && !items.any(|(id, _)| id == after)
        {
            let message = format!("No object found with id '{after}'.");
            return Err(ApiError::not_found(message).with_param("after"));
        }
        let page: Vec<(&str, &T)> = items.by_ref().take(limit).collect();
        Ok(json!({
            "object": "list",
            "first_id": page.first().map(|(id, _)| *id),
            "last_id": page.last().map(|(id, _)| *id),
            "has_more": items.next().is_some(),
            "data": page.into_iter().map(|(_, object)| show(object)).collect::<Vec<_>>(),
        }))
    }
}
