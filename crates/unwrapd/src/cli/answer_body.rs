//! The bodies of the answers to webhooks, of which people see the beginning.

use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

use crate::delivery::response_excerpt::ResponseExcerpt;

/// Most bytes of a body to show.
const BODY_BYTES_MAX: usize = 300;

/// The beginning of a body on one line, as far as it arrives within `time`.
pub(super) async fn beginning(response: &mut Response, time: Duration) -> String {
    let mut body = Vec::new();
    let read = async {
        while body.len() <= BODY_BYTES_MAX
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece);
        }
    };
    drop(timeout(time, read).await);
    let is_cut = body.len() > BODY_BYTES_MAX;
    body.truncate(BODY_BYTES_MAX);
    let said = ResponseExcerpt::beginning(&body);
    format!("{}{}", said.as_str(), if is_cut { " …" } else { "" })
}
