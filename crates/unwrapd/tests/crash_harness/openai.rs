//! OpenAI's side: posts new webhooks, now and then some at once or once more, and what was not acknowledged again.

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::Ledger;
use crate::support::Webhook;
use crate::verdict::Wrong;
use crate::webhooks;

/// Of a hundred webhooks, so many are sent as several copies at once,
const AT_ONCE_PERCENT: u8 = 10;
const COPIES_MAX: usize = 4;
/// and after so many some earlier one comes once more, whether it was acknowledged or not.
const ONCE_MORE_PERCENT: u8 = 5;

/// One sender. Ends when everything is acknowledged and nothing new is to come.
pub(crate) async fn send(
    ledger: Ledger,
    mut url: watch::Receiver<Option<String>>,
    client: reqwest::Client,
    mut rng: Rng,
) {
    while let Some(number) = ledger.next(rng.bool()).await {
        let copies = if rng.u8(..100) < AT_ONCE_PERCENT {
            rng.usize(2..=COPIES_MAX)
        } else {
            1
        };
        post(&ledger, &mut url, &client, number, copies).await;
        ledger.send_again(number);
        if rng.u8(..100) < ONCE_MORE_PERCENT {
            post(&ledger, &mut url, &client, rng.usize(..ledger.posted()), 1).await;
        }
    }
}

/// Posts copies of a webhook, all at once, and books the answers.
pub(crate) async fn post(
    ledger: &Ledger,
    url: &mut watch::Receiver<Option<String>>,
    client: &reqwest::Client,
    number: usize,
    copies: usize,
) {
    let Ok(url) = url.wait_for(Option::is_some).await.map(|url| url.clone()) else {
        return;
    };
    let url = url.unwrap();
    let mut answers = JoinSet::new();
    for _ in 0..copies {
        // Each copy is signed when it is sent.
        let webhook = Webhook::with_payload(&webhooks::id(number), webhooks::payload(number));
        ledger.count_request();
        answers.spawn(webhook.request(client, &url).send());
    }
    while let Some(answer) = answers.join_next().await {
        // No answer: the gateway is gone.
        let Ok(answer) = answer.unwrap() else {
            continue;
        };
        match answer.status().as_u16() {
            200 => ledger.acknowledge(number),
            503 if answer.headers().contains_key("retry-after") => ledger.refuse(),
            status => ledger.offend(Wrong::Refused(status), webhooks::id(number)),
        }
    }
}
