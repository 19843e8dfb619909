//! Refused copies, with their messages.

use rusqlite::Connection;

use super::*;

/// A closed store with one message.
async fn one(home: &Home, id: &str) {
    let store = home.open(&Bounds::default()).await;
    let message = message(id.into(), Timestamp::now(), vec![1]);
    store.accept(message, vec!["app".into()]).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_a_gateway_runs_on_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let homes = [Home::file(&folder, "one.db"), Home::schema()];
    let others = [Home::file(&folder, "other.db"), Home::schema()];
    one(&others[0], "wh_other").await;
    for home in &homes {
        let running = home.open(&Bounds::default()).await;
        for output in [copy(home, &others[1]), copy(&others[0], home)] {
            assert_refused(&output, 5, "is in use: stop every gateway on it");
        }
        running.close().await;
        // And not after it has stopped.
        assert_copied(&copy(home, &Home::schema()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_holds_something_else_is_not_touched() {
    let folder = TempDir::new().unwrap();
    let source = Home::file(&folder, "source.db");
    one(&source, "wh_1").await;
    for target in [Home::file(&folder, "target.db"), Home::schema()] {
        one(&target, "wh_other").await;
        let before = target.dump();
        let refused = copy(&source, &target);
        assert_refused(
            &refused,
            2,
            "(`message` has other content): name an empty target",
        );
        assert_same(&target.dump(), &before, "refused");
        target.open(&Bounds::default()).await.close().await;
    }

    // A gateway already uses the copy, or its numbers do not even show that.
    for (change, says) in [
        (
            "INSERT INTO paused (destination, paused_at) VALUES ('app', 1)",
            "`paused` has 1 rows instead of 0",
        ),
        (
            "UPDATE message SET webhook_id = 'wh_2'",
            "`message` 1 differs in `webhook_id`",
        ),
    ] {
        for target in [Home::file(&folder, "copy.db"), Home::schema()] {
            assert_copied(&copy(&source, &target));
            target.change(change);
            assert_refused(&copy(&source, &target), 2, says);
        }
        std::fs::remove_file(folder.path().join("copy.db")).unwrap();
    }

    // An empty store may be filled.
    for target in [Home::file(&folder, "empty.db"), Home::schema()] {
        target.open(&Bounds::default()).await.close().await;
        assert_copied(&copy(&source, &target));
        assert_same(&target.dump(), &source.dump(), "filled");
    }

    let theirs = folder.path().join("theirs.db");
    Connection::open(&theirs)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    let refused = copy(&source, &Home::File(theirs));
    assert_refused(&refused, 1, "the database of another application");
    let theirs = Home::schema();
    let Home::Schema(schema) = &theirs else {
        unreachable!()
    };
    server::shared().sql(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.theirs (x int)"
    ));
    assert_refused(&copy(&source, &theirs), 1, "another application");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_copied_into_itself() {
    let folder = TempDir::new().unwrap();
    let file = Home::file(&folder, "store.db");
    one(&file, "wh_1").await;
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join("store.db"), &link).unwrap();
    for other in [&file, &Home::File(link)] {
        assert_refused(&copy(&file, other), 2, "the same store");
    }
    let schema = Home::schema();
    one(&schema, "wh_1").await;
    assert_refused(&copy(&schema, &schema), 2, "the same store");
    // Another schema of the same database is another store.
    assert_copied(&copy(&schema, &Home::schema()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_or_of_another_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let target = Home::schema();
    let nothing = Home::file(&folder, "nothing.db");
    assert_refused(&copy(&nothing, &target), 3, "does not exist");
    assert!(!folder.path().join("nothing.db").exists());
    assert_refused(&copy(&Home::schema(), &nothing), 3, "does not exist");
    assert!(!folder.path().join("nothing.db").exists());

    let file = Home::file(&folder, "1000.db");
    let schema = Home::schema();
    for (home, change, other) in [
        (&file, "PRAGMA user_version = 1000", &target),
        (&schema, "INSERT INTO migration VALUES (1000)", &nothing),
    ] {
        one(home, "wh_1").await;
        home.change(change);
        assert_refused(&copy(home, other), 1, "newer version");
        let source = nothing_but(&folder).await;
        assert_refused(&copy(&source, home), 1, "newer version");
    }
}

/// A store that could be copied.
async fn nothing_but(folder: &TempDir) -> Home {
    let good = Home::file(folder, &format!("{}.db", fastrand::u64(..)));
    one(&good, "wh_1").await;
    good
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_shown() {
    let refused = unwrapd()
        .args(["db", "copy", "--from", "sqlite:x.db"])
        .args(["--to", "postgres://me:hunter2@db/events"])
        .output()
        .unwrap();
    assert_refused(
        &refused,
        2,
        "--to: a password must not be on the command line",
    );
    assert!(!told(&refused).contains("hunter2"));
    let refused = unwrapd()
        .args(["db", "copy", "--from", "hunter2.db", "--to", "sqlite:x.db"])
        .output()
        .unwrap();
    assert_refused(&refused, 2, "--from: this must be \"sqlite:\" and the path");
}
