//! Whatever happens to the store, an id is new exactly once within the dedupe horizon.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rusqlite::Connection;
use tokio::task::JoinSet;
use unwrapd::store::sqlite::{SqliteStore, check};
use unwrapd::store::{Accepted, Bounds, Store};

use crate::store_conformance::{DAY, SqlitePlace, at, message, prune};

const HOUR: i64 = 3600;
/// Ids in a block of the dedupe index. This number of messages fills one.
const BLOCK: i64 = 4096;

#[derive(Clone, Debug)]
enum Step {
    /// These messages arrive at once.
    Accept(Vec<u8>),
    /// They arrive while the write fails. A constraint fails one change, a missing table the whole
    /// commit.
    Fail(Vec<u8>, Spoiler),
    /// Time passes.
    Wait(i64),
    /// Old content is pruned.
    Prune,
    /// The store is reopened.
    Reopen,
    /// So many others have arrived that their ids fill a block.
    Grow,
}

#[derive(Clone, Copy, Debug)]
enum Spoiler {
    Constraint,
    MissingTable,
}

impl Spoiler {
    fn begin(self) -> &'static str {
        match self {
            Self::Constraint => {
                "CREATE TRIGGER spoiler BEFORE INSERT ON payload BEGIN SELECT RAISE(ABORT, 'spoiled'); END"
            }
            Self::MissingTable => "ALTER TABLE payload RENAME TO payload_away",
        }
    }

    fn end(self) -> &'static str {
        match self {
            Self::Constraint => "DROP TRIGGER spoiler",
            Self::MissingTable => "ALTER TABLE payload_away RENAME TO payload",
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = || vec(0_u8..8, 1..6);
    let spoiler = prop_oneof![Just(Spoiler::Constraint), Just(Spoiler::MissingTable)];
    let step = prop_oneof![
        6 => ids().prop_map(Step::Accept),
        3 => (ids(), spoiler).prop_map(|(ids, spoiler)| Step::Fail(ids, spoiler)),
        4 => prop_oneof![HOUR..DAY, DAY..9 * DAY].prop_map(Step::Wait),
        3 => Just(Step::Prune),
        2 => Just(Step::Reopen),
        1 => Just(Step::Grow),
    ];
    vec(step, 1..30)
}

/// The store, and the ids that it must know.
struct Tested {
    place: SqlitePlace,
    bounds: Bounds,
    store: Arc<dyn Store>,
    now: i64,
    /// First arrival of each id, as far as it must be known.
    arrived: HashMap<u8, i64>,
    others: i64,
}

impl Tested {
    fn new(retention_days: i64) -> Self {
        let place = SqlitePlace::new();
        let bounds = Bounds {
            retention: std::time::Duration::from_secs((retention_days * DAY).unsigned_abs()),
            ..Bounds::default()
        };
        let path = place.0.path().join("store.db");
        let store = Arc::new(SqliteStore::open(&path, &bounds, at(0)).unwrap());
        Self {
            place,
            bounds,
            store,
            now: 0,
            arrived: HashMap::new(),
            others: 0,
        }
    }

    fn beside(&self) -> Connection {
        Connection::open(self.place.0.path().join("store.db")).unwrap()
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Accept(ids) => self.accept(ids).await,
            Step::Fail(ids, spoiler) => {
                self.beside().execute_batch(spoiler.begin()).unwrap();
                let answers = self.ask(ids).await;
                self.beside().execute_batch(spoiler.end()).unwrap();
                for (id, accepted) in answers {
                    // A known id can be reported without a write.
                    assert_ne!(accepted, Some(Accepted::New), "{id}");
                    let is_duplicate = accepted == Some(Accepted::Duplicate);
                    assert!(!is_duplicate || self.arrived.contains_key(&id), "{id}");
                }
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Prune => {
                prune(&self.store, self.now).await;
            }
            Step::Reopen => self.reopen(|_| {}).await,
            Step::Grow => {
                let (first, received_at) = (self.others, at(self.now).as_millisecond());
                self.others += BLOCK;
                self.reopen(|connection| {
                    connection
                        .execute(
                            "WITH RECURSIVE series (value) AS (SELECT ?1 UNION ALL SELECT value + 1 FROM series LIMIT ?2)
                             INSERT INTO message (endpoint, webhook_id, sent_at, received_at)
                             SELECT 'production', 'other_' || value, 0, ?3 FROM series",
                            (first, BLOCK, received_at),
                        )
                        .unwrap();
                })
                .await;
            }
        }
    }

    async fn ask(&self, ids: &[u8]) -> Vec<(u8, Option<Accepted>)> {
        let mut answers = JoinSet::new();
        for id in ids.iter().copied() {
            let store = Arc::clone(&self.store);
            let message = message(&format!("wh_{id}"), at(self.now));
            answers.spawn(async move { (id, store.accept(message, vec![]).await.ok()) });
        }
        answers.join_all().await
    }

    async fn accept(&mut self, ids: &[u8]) {
        let mut new = HashMap::new();
        for (id, accepted) in self.ask(ids).await {
            let accepted = accepted.expect("it can be written");
            *new.entry(id).or_insert(0) += u32::from(accepted == Accepted::New);
        }
        for (id, times_new) in new {
            let horizon = self.now - 7 * DAY;
            match self.arrived.get(&id) {
                Some(arrived) if *arrived >= horizon => assert_eq!(times_new, 0, "{id}"),
                // Older ids may be known or not.
                Some(_) => assert!(times_new <= 1, "{id}"),
                None => assert_eq!(times_new, 1, "{id}"),
            }
            if times_new == 1 {
                self.arrived.insert(id, self.now);
            }
        }
    }

    async fn reopen(&mut self, meanwhile: impl FnOnce(&Connection)) {
        self.store.close().await;
        meanwhile(&self.beside());
        let path = self.place.0.path().join("store.db");
        let now = at(self.now);
        self.store = Arc::new(SqliteStore::open(&path, &self.bounds, now).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_id_is_new_exactly_once_within_the_horizon(retention_days in 0_i64..15, steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut tested = Tested::new(retention_days);
            for step in &steps {
                tested.take(step).await;
            }
            tested.accept(&[0, 1, 2, 3, 4, 5, 6, 7]).await;
            tested.store.close().await;
            let path = tested.place.0.path().join("store.db");
            let dedupe = tested.bounds.dedupe;
            for found in check(&path, dedupe, false, at(tested.now)).unwrap() {
                assert!(found.result.is_ok(), "{found:?}");
            }
        });
    }
}
