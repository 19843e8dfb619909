//! Other messages about the resource of a message.

use std::collections::BTreeMap;

use super::json::Refusal;
use super::messages::Stored;
use crate::api::Sibling;
use crate::store::filter::{Filter, Status};
use crate::store::{MessageView, Page};

/// Maximum number of siblings of a message.
const SIBLINGS_MAX: usize = 20;

/// The siblings of the messages of one answer. Messages about one resource share a search.
#[derive(Default)]
pub(super) struct Siblings {
    by_resource: BTreeMap<String, Vec<MessageView>>,
}

impl Siblings {
    /// The siblings of this message, the newest first.
    pub(super) async fn of(
        &mut self,
        stored: &Stored,
        message: &MessageView,
    ) -> Result<Vec<Sibling>, Refusal> {
        let Some(resource) = &message.resource else {
            return Ok(Vec::new());
        };
        if !self.by_resource.contains_key(resource) {
            let found = search(stored, resource).await?;
            self.by_resource.insert(resource.clone(), found);
        }
        let found = self.by_resource.get(resource).into_iter().flatten();
        let others = found.filter(|other| id(other) != id(message));
        Ok(others.take(SIBLINGS_MAX).map(sibling).collect())
    }
}

/// The newest messages about a resource: one more than there are siblings.
async fn search(stored: &Stored, resource: &str) -> Result<Vec<MessageView>, Refusal> {
    let filter = Filter {
        resource: vec![resource.to_owned()],
        ..Filter::default()
    };
    let page = Page::new(None, SIBLINGS_MAX + 1);
    let now = stored.clock.now();
    Ok(stored
        .store
        .list_messages(&filter, now, page)
        .await?
        .messages)
}

/// A webhook id is unique within one endpoint.
fn id(message: &MessageView) -> (&str, &str) {
    (&message.endpoint, &message.webhook_id)
}

fn sibling(message: &MessageView) -> Sibling {
    let statuses = message.deliveries.iter().map(|delivery| delivery.status);
    Sibling {
        webhook_id: message.webhook_id.clone(),
        event_type: message.event_type.clone(),
        received_at: message.received_at,
        status: Status::of_message(statuses),
    }
}
