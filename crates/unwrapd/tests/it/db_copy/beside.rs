//! Events beside a copy.

use unwrapd::store::{CopyError, Step};

use super::*;

fn url(home: &Home) -> StoreUrl {
    home.url().parse().unwrap()
}

/// A user who believes that a copy hangs runs it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_ended_by_another_claims_no_success_and_does_not_advise_to_remove_it() {
    let folder = TempDir::new().unwrap();
    let source = Home::file(&folder, "source.db");
    fill(&source, 3, Timestamp::now()).await;
    for is_used_at_once in [false, true] {
        let target = Home::schema();
        let mut other = None;
        let copied = store::copy(&url(&source), &url(&target), |progress| {
            if progress.step == Step::Comparing && other.is_none() {
                // From a copy of the file, because the file itself is locked.
                let second = format!("second_{is_used_at_once}.db");
                let of_source = folder.path().join("source.db");
                std::fs::copy(of_source, folder.path().join(&second)).unwrap();
                let second = Home::file(&folder, &second);
                other = Some(copy(&second, &target));
                if is_used_at_once {
                    target.change("INSERT INTO replay (token, request, started_at, last_message) VALUES ('new', '{}', 0, 0)");
                }
            }
        })
        .await;
        assert_copied(&other.unwrap());
        let overtaken = copied.unwrap_err();
        assert!(matches!(overtaken, CopyError::Overtaken(_)), "{overtaken}");
        assert!(!overtaken.to_string().contains("drop"), "{overtaken}");
        // It is complete.
        target.open(&Bounds::default()).await.close().await;
    }
}

/// A gateway may have run meanwhile, and stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_while_it_is_compared_is_not_reported_as_copied() {
    let folder = TempDir::new().unwrap();
    for source in [Home::file(&folder, "source.db"), Home::schema()] {
        fill(&source, 3, Timestamp::now()).await;
        let target = match source {
            Home::File(_) => Home::schema(),
            Home::Schema(_) => Home::file(&folder, "target.db"),
        };
        let mut has_changed = false;
        let copied = store::copy(&url(&source), &url(&target), |progress| {
            // By then the messages are compared.
            if progress.step == Step::Comparing && !has_changed {
                has_changed = true;
                source.change("UPDATE message SET sent_at = sent_at + 1");
            }
        })
        .await;
        let changed = copied.unwrap_err().to_string();
        assert!(
            changed.contains("was changed during the comparison"),
            "{changed}"
        );
        assert_refused(&copy(&source, &target), 2, "an incomplete copy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_id_is_named_if_the_target_cannot_hold_it_twice() {
    let folder = TempDir::new().unwrap();
    let source = Home::file(&folder, "source.db");
    fill(&source, 3, Timestamp::now()).await;
    source.change(
        "INSERT INTO message (seq, endpoint, webhook_id, event_type, sent_at, received_at, secret)
         SELECT seq + 100000, endpoint, webhook_id, event_type, sent_at, received_at, secret FROM message LIMIT 1",
    );
    let target = Home::schema();
    let refused = copy(&source, &target);
    assert_refused(&refused, 2, "more than once");
    assert_told(&refused, "unwrapd db prune --older-than ");
    assert_copied(&copy(&source, &Home::file(&folder, "target.db")));
}
