//! Databases on which no store is opened.

use super::*;

#[tokio::test]
async fn a_role_that_does_not_wait_for_its_commits_is_refused() {
    let server = server::shared();
    for (role, setting) in [("hasty", "off"), ("local", "local")] {
        server.sql(&format!(
            "CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET synchronous_commit TO {setting}"
        ));
        let refused = open(&server.address(role, "refused")).await.err().unwrap();
        let StoreError::Unusable(problem) = &refused else {
            panic!("{refused:?}")
        };
        assert!(problem.contains("`synchronous_commit` is"), "{problem}");
        assert!(problem.contains("ALTER ROLE"), "{problem}");
    }
}

/// Another role has created it, such as an administrator who copied into it.
#[tokio::test]
async fn a_schema_that_the_role_may_not_use_is_reported_to_belong_to_another() {
    let server = server::shared();
    server.sql("CREATE ROLE guest LOGIN");
    let place = PostgresPlace::new();
    place.open().await.close().await;
    let schema = schema_of(&place);
    let refused = open(&server.address("guest", schema)).await.err().unwrap();
    let said = refused.to_string();
    assert!(said.contains("belongs to the role \"postgres\""), "{said}");
    server.sql(&format!("GRANT USAGE ON SCHEMA {schema} TO guest"));
    let refused = open(&server.address("guest", schema)).await.err().unwrap();
    let said = refused.to_string();
    assert!(
        said.contains("permission denied") && said.contains("use one role"),
        "{said}"
    );
    let refused = open(&server.address("guest", "of_the_guest"))
        .await
        .err()
        .unwrap();
    let said = refused.to_string();
    assert!(said.contains("GRANT CREATE ON DATABASE"), "{said}");
}

#[tokio::test]
async fn a_schema_may_have_the_name_of_a_word_of_the_language() {
    let server = server::shared();
    for schema in ["user", "1st"] {
        let store = open(&server.address("postgres", schema)).await.unwrap();
        assert_eq!(accept(&store, "wh_1", 0).await, Accepted::New);
        assert_eq!(claim(&store, 0).await.deliveries.len(), 1);
        store.close().await;
    }
}

/// Such a role could store nothing, and readiness would not show that.
#[tokio::test]
async fn a_role_whose_transactions_are_of_another_kind_is_refused() {
    let server = server::shared();
    for (role, setting) in [
        ("reader", "default_transaction_read_only TO on"),
        (
            "strict",
            "default_transaction_isolation TO 'repeatable read'",
        ),
    ] {
        server.sql(&format!(
            "CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET {setting}"
        ));
        let refused = open(&server.address(role, "refused")).await.err().unwrap();
        let name = setting.split(' ').next().unwrap();
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(refused.to_string().contains("ALTER ROLE"), "{refused}");
    }
}

#[tokio::test]
async fn a_schema_of_someone_else_or_of_a_newer_version_is_refused() {
    let server = server::shared();
    let place = PostgresPlace::new();
    let schema = schema_of(&place);
    server.sql(&format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.message (of_theirs int)"
    ));
    let refused = open(&place.0).await.err().unwrap();
    assert!(
        refused.to_string().contains("another application"),
        "{refused}"
    );

    let place = PostgresPlace::new();
    place.open().await.close().await;
    let schema = schema_of(&place);
    server.sql(&format!("INSERT INTO {schema}.migration VALUES (1000)"));
    let refused = open(&place.0).await.err().unwrap();
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn a_missing_database_is_reported_without_user_and_host() {
    let address: PostgresAddress = "postgres://me@localhost:1/events".parse().unwrap();
    let error = open(&address.with_password("hunter2")).await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let error = format!("{error} {error:?}");
    for secret in ["me@", "hunter2", "localhost"] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[tokio::test]
async fn a_connection_is_encrypted_to_a_server_that_proves_its_name() {
    use std::os::unix::fs::{PermissionsExt, chown};

    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (
        folder.path().join("ours.pem"),
        folder.path().join("theirs.pem"),
    );
    std::fs::write(&ours, pair.cert.pem()).unwrap();
    std::fs::write(&theirs, other.cert.pem()).unwrap();
    let settings = [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "ssl=on",
        "ssl_cert_file=../tls.pem",
        "ssl_key_file=../tls.key",
    ];
    let server = Server::start_after(&settings, |folder| {
        for (name, text) in [
            ("tls.pem", pair.cert.pem()),
            ("tls.key", pair.signing_key.serialize_pem()),
        ] {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            if let Some((user, group)) = server::server_owner() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
    });
    let address = |root: &std::path::Path, host: &str| -> PostgresAddress {
        let root = root.display();
        format!("postgres://postgres@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={root}")
            .parse()
            .unwrap()
    };
    let store = open(&address(&ours, "localhost")).await.unwrap();
    accept(&store, "wh_1", 0).await;
    let clear = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'unwrapd'";
    let counted = server.sql_at(port, clear);
    assert!(
        counted.ends_with("|0") && !counted.starts_with("0|"),
        "{counted}"
    );
    store.close().await;

    for wrong in [address(&theirs, "localhost"), address(&ours, "127.0.0.1")] {
        let refused = open(&wrong).await.err().unwrap();
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
}
