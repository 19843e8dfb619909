//! A copy that is killed at any step continues from there, and no gateway starts on an incomplete
//! one.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use unwrapd::crash::CrashPoint;
use unwrapd::delivery::{Lane, Next};

use super::*;
use crate::store_conformance::{LEASE, attempt};
use crate::support::{APP_SECRET, OPENAI_SECRET};

const MEBIBYTE: usize = 1024 * 1024;

/// A store so large that its copy takes several steps.
async fn fill_large(home: &Home) {
    let now = Timestamp::now();
    fill(home, 11, now).await;
    let store = home.open(&Bounds::default()).await;
    for number in 0..12_u8 {
        let message = message(format!("wh_large_{number}"), now, vec![number; MEBIBYTE]);
        store.accept(message, vec!["app".into()]).await.unwrap();
    }
    store.close().await;
}

fn kill_at(point: &str, from: &Home, to: &Home) -> Output {
    copy_of(from, to)
        .env("UNWRAPD_CRASH_AT", point)
        .output()
        .unwrap()
}

/// The output of a gateway that cannot start on it.
fn serve_refused(home: &Home, folder: &Path) -> String {
    home.configure(folder, "http://127.0.0.1:9/");
    let refused = unwrapd()
        .args(["serve", "--config"])
        .arg(folder.join("unwrapd.toml"))
        .env("OPENAI_WEBHOOK_SECRET", OPENAI_SECRET)
        .env("APP_WEBHOOK_SECRET", APP_SECRET)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    told(&refused)
}

fn target_beside(source: &Home, folder: &TempDir) -> Home {
    match source {
        Home::File(_) => Home::schema(),
        Home::Schema(_) => Home::file(folder, &format!("{}.db", fastrand::u64(..))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_at_any_step_goes_on_and_doubles_nothing() {
    let folder = TempDir::new().unwrap();
    for source in [Home::file(&folder, "source.db"), Home::schema()] {
        fill(&source, 11, Timestamp::now()).await;
        let everything = source.dump();
        for point in CrashPoint::COPY {
            // In PostgreSQL, rows and mark are written in one round trip, without such a step.
            if *point == CrashPoint::Copying && matches!(source, Home::File(_)) {
                continue;
            }
            let times: &[u32] = match *point {
                CrashPoint::Copying | CrashPoint::Copied => &[1, 3],
                _ => &[1],
            };
            for time in times {
                let case = format!("{point}:{time}");
                let target = target_beside(&source, &folder);
                let killed = kill_at(&case, &source, &target);
                assert_eq!(killed.status.signal(), Some(9), "{case}: {}", told(&killed));
                let again = if *point == CrashPoint::CopyWhole {
                    copy(&source, &target)
                } else {
                    let said = serve_refused(&target, folder.path());
                    assert!(said.contains("an incomplete copy"), "{case}: {said}");
                    let again = copy(&source, &target);
                    let said = told(&again);
                    assert!(said.contains("continuing an earlier"), "{case}: {said}");
                    again
                };
                assert_copied(&again);
                assert_same(&target.dump(), &everything, &case);
            }
        }
    }
}

/// The file is empty until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_while_it_creates_the_file_goes_on() {
    let folder = TempDir::new().unwrap();
    let source = Home::schema();
    fill(&source, 5, Timestamp::now()).await;
    let target = Home::file(&folder, "target.db");
    for step in ["migrated", "migrated"] {
        let killed = kill_at(step, &source, &target);
        assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    }
    assert_copied(&copy(&source, &target));
    assert_same(&target.dump(), &source.dump(), "killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_after_every_step_comes_to_its_end() {
    let folder = TempDir::new().unwrap();
    for source in [Home::file(&folder, "source.db"), Home::schema()] {
        fill_large(&source).await;
        let target = target_beside(&source, &folder);
        let mut kills = 0;
        let copied = loop {
            let output = kill_at("copied", &source, &target);
            if output.status.signal() != Some(9) {
                break output;
            }
            kills += 1;
        };
        assert!(kills > 6, "{kills}");
        assert_copied(&copied);
        assert_same(&target.dump(), &source.dump(), "killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_copy_is_good_for_its_source_only() {
    let folder = TempDir::new().unwrap();
    for source in [Home::file(&folder, "source.db"), Home::schema()] {
        fill(&source, 12, Timestamp::now()).await;
        let target = target_beside(&source, &folder);
        kill_at("copied", &source, &target);

        let other = Home::file(&folder, "other.db");
        fill(&other, 1, Timestamp::now()).await;
        let refused = copy(&other, &target);
        assert_refused(&refused, 2, "an incomplete copy of another source");
        std::fs::remove_file(folder.path().join("other.db")).unwrap();
        // It is neither a source nor a store.
        target.configure(folder.path(), "http://127.0.0.1:9/");
        let config = folder.path().join("unwrapd.toml");
        let check = unwrapd()
            .args(["db", "check", "--config"])
            .arg(config)
            .output()
            .unwrap();
        assert_refused(&check, 1, "an incomplete copy");
        let refused = copy(&target, &Home::file(&folder, "never.db"));
        assert_refused(&refused, 1, "an incomplete copy");

        // A gateway ran on the source in between.
        let store = source.open(&Bounds::default()).await;
        let now = Timestamp::now();
        let claimed = store.claim("app", Lane::Standard, now, LEASE, 1).await;
        let delivery = claimed.unwrap().deliveries.remove(0);
        let attempt = attempt(delivery.id, delivery.attempt, now, Next::Delivered);
        store.settle(attempt).await.unwrap();
        store.close().await;
        let refused = copy(&source, &target);
        let cause = "has changed since (`delivery` has other content)";
        assert_refused(&refused, 2, cause);
    }
}

/// The cause is a disk that loses data, or a tool that changes the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_differs_in_the_end_is_found_and_not_served() {
    let folder = TempDir::new().unwrap();
    for source in [Home::file(&folder, "source.db"), Home::schema()] {
        fill(&source, 13, Timestamp::now()).await;
        for (change, says) in [
            (
                "UPDATE payload SET bytes = (SELECT bytes FROM payload WHERE seq = \
                 (SELECT max(seq) - 1 FROM message)) WHERE seq = (SELECT max(seq) FROM message)",
                "differs in `bytes`",
            ),
            (
                "DELETE FROM attempt WHERE (delivery, number) = (SELECT delivery, number \
                 FROM attempt ORDER BY delivery DESC, number DESC LIMIT 1)",
                "is missing in the target",
            ),
            (
                "INSERT INTO paused (destination, paused_at) VALUES ('zzz', 1)",
                "exists only in the target",
            ),
            (
                "DELETE FROM delivery WHERE id = (SELECT min(id) FROM delivery)",
                "the target has",
            ),
        ] {
            let target = target_beside(&source, &folder);
            kill_at(CrashPoint::CopyCompared.as_str(), &source, &target);
            target.change(change);
            let different = copy(&source, &target);
            assert_eq!(different.status.code(), Some(1), "{}", told(&different));
            assert!(
                told(&different).contains(says),
                "{says}: {}",
                told(&different)
            );
            let said = serve_refused(&target, folder.path());
            assert!(said.contains("an incomplete copy"), "{said}");
        }
    }
}
