//! A request with which the server of an example can be tried.

use openai_webhooks::{EventType, Webhooks};

/// Prints the request as a command. Not for production: everyone who reads this line can send the
/// webhook for five minutes.
pub(crate) fn print(webhooks: &Webhooks) -> anyhow::Result<()> {
    let body = EventType::ResponseCompleted.sample();
    let headers = webhooks.sign_now(body, format!("wh_{}", std::process::id()))?;
    println!("listening; try:\ncurl -i http://127.0.0.1:3000/webhook -d '{body}' \\");
    println!("  -H 'content-type: application/json' \\");
    let lines = headers
        .pairs()
        .map(|(name, value)| format!("  -H '{name}: {value}'"));
    println!("{}", lines.join(" \\\n"));
    Ok(())
}
