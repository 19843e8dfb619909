//! Handlers that cannot be graded get one verdict in place of many failures.

use std::collections::BTreeSet;

use super::handler::{Fault, Handler};
use super::{Graded, PATIENT, run, stderr, stdout};
use crate::support::application::{Answer, Application};

/// Grades what refuses every genuine event: the exit code, the verdict and the number of passes.
async fn ungraded(url: &str) -> (Option<i32>, String) {
    let graded = Graded::of(&run(&[url, "--output", "json"]).await);
    assert_eq!(graded.names("pass"), BTreeSet::new());
    assert_eq!(graded.summary["graded"], false);
    assert_eq!(graded.summary["ok"], false);
    (
        graded.code,
        graded.text("genuine-event", "fault").to_owned(),
    )
}

#[tokio::test]
async fn a_handler_that_accepts_no_genuine_event_gets_one_verdict() {
    let (code, verdict) = ungraded("http://127.0.0.1:9/webhook").await;
    assert_eq!(
        (code, &*verdict),
        (Some(5), "the handler cannot be reached")
    );

    let handler = Handler::start(Fault::None).await;
    let (code, verdict) = ungraded(&(handler.url + "s")).await;
    assert_eq!(
        (code, &*verdict),
        (Some(3), "there is no handler at this path")
    );

    for (answer, code, part) in [
        (Answer::IfVerified, 1, "with another secret"),
        (Answer::Status(405), 3, "takes no POST"),
        (
            Answer::Redirect("/elsewhere".into()),
            1,
            "OpenAI follows no redirect",
        ),
        (Answer::Status(503), 5, "busy, or not ready"),
        (Answer::Status(413), 1, "too large"),
    ] {
        // The application has another secret than the command.
        let app = Application::start(vec![answer.clone(); 10]).await;
        let (ended, verdict) = ungraded(&app.url).await;
        assert_eq!(ended, Some(code), "{answer:?}: {verdict}");
        assert!(verdict.contains(part), "{answer:?}: {verdict}");
    }
}

#[tokio::test]
async fn a_handler_that_fails_after_the_verification_is_told_from_a_wrong_secret() {
    let refusals = [500, 500, 500, 400].map(Answer::Status);
    let app = Application::start(refusals).await;
    let (code, verdict) = ungraded(&app.url).await;
    assert_eq!(code, Some(1));
    assert_eq!(verdict, "the handler verifies, and then fails with 500");
}

#[tokio::test]
async fn a_verdict_for_people_has_cause_and_remedy_and_nothing_else() {
    let output = run(&["127.0.0.1:9/webhook"]).await;
    let told = stdout(&output);
    let verdict = "http://127.0.0.1:9/webhook\n\n✕ the handler cannot be reached\n";
    assert!(told.starts_with(verdict), "{told}");
    assert!(
        told.contains("nothing is listening on 127.0.0.1:9"),
        "{told}"
    );
    assert!(told.contains("  remedy: Start the application"), "{told}");
    assert!(told.ends_with("other checks were not run.\n"), "{told}");
    assert_eq!(told.matches("remedy").count(), 1, "{told}");
    assert!(stderr(&output).starts_with("error: not graded: "));
}

#[tokio::test]
async fn an_application_that_goes_away_passes_no_check_after_that() {
    let handler = Handler::start(Fault::StopsListeningAfter(1)).await;
    let arguments = [&[&*handler.url, "--output", "json"], &PATIENT[..]].concat();
    let graded = Graded::of(&run(&arguments).await);
    let first = graded.names("pass");
    assert_eq!(first, ["genuine-event"].into());
    let saw = graded.text("every-event-type", "saw");
    assert!(saw.contains("connection refused"), "{saw}");
    let saw = graded.text("bad-signature", "saw");
    assert!(saw.contains("no longer accepts connections"), "{saw}");
    assert_eq!(graded.code, Some(5));
}
