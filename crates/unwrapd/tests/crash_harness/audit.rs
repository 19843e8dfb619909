//! Records which gateway leased which delivery during which time, as the database saw it.
//!
//! Triggers record every change of a delivery, and every lease given at its insertion, in the same
//! transaction. So a recorded change was committed, and no committed change is missing. A
//! transaction that changes a row locks it, so the records of one delivery are in their real order.
//! Gateways pass their process number as the application name.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::chronicle::Deeds;
use crate::database::{Database, SCHEMA};
use crate::ledger::{Ledger, Received};
use crate::store::StoredWebhooks;
use crate::verdict::{Again, Verdict};
use crate::webhooks::Destination;

/// Silence after which a gateway is declared dead, in milliseconds.
const SILENCE_MS: u64 = 10_000;
/// Maximum time between the cause of a silence and the declaration, in milliseconds: it is checked
/// every two seconds.
const SILENCE_SEEN_MS: u64 = 16_000;
/// Maximum number of offences reported of each kind.
const TOLD_MAX: usize = 20;

/// Installs the triggers. The tables of the gateways must exist.
pub(crate) fn install(database: &Database) {
    database.0.sql(&format!(
        "CREATE SCHEMA audit;
         CREATE TABLE audit.change (
             place bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
             at_ms bigint NOT NULL, life text NOT NULL, delivery bigint NOT NULL,
             claimed_before int NOT NULL, claimed int NOT NULL, settled_before int NOT NULL, settled int NOT NULL,
             gateway_before bigint, gateway bigint, lease_before bigint NOT NULL
         );
         CREATE INDEX ON audit.change (delivery);
         CREATE INDEX ON audit.change (life);
         CREATE TABLE audit.burial (
             at_ms bigint NOT NULL, life text NOT NULL, gateway bigint NOT NULL, silent_ms bigint NOT NULL
         );
         CREATE FUNCTION audit.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
         AS 'SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::bigint';
         CREATE FUNCTION audit.note_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO audit.change (
                 at_ms, life, delivery, claimed_before, claimed, settled_before, settled, gateway_before, gateway, lease_before
             ) VALUES (
                 audit.now_ms(), current_setting('application_name'), NEW.id, OLD.claimed_attempt, NEW.claimed_attempt, 
                 OLD.settled_attempt, NEW.settled_attempt,
                 OLD.gateway, NEW.gateway, OLD.ready_at
             );
             RETURN NULL;
         END $$;
         CREATE FUNCTION audit.note_birth() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO audit.change (
                 at_ms, life, delivery, claimed_before, claimed, settled_before, settled, gateway, lease_before
             ) VALUES (
                 audit.now_ms(), current_setting('application_name'), NEW.id, 0, NEW.claimed_attempt, 0, NEW.settled_attempt, NEW.gateway, NEW.due_at
             );
             RETURN NULL;
         END $$;
         CREATE FUNCTION audit.note_burial() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO audit.burial (at_ms, life, gateway, silent_ms) VALUES (
                 audit.now_ms(), current_setting('application_name'), OLD.id,
                 extract(epoch FROM pg_catalog.clock_timestamp() - OLD.heartbeat_at) * 1000
             );
             RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER UPDATE ON {SCHEMA}.delivery FOR EACH ROW EXECUTE FUNCTION audit.note_change();
         CREATE TRIGGER note_birth AFTER INSERT ON {SCHEMA}.delivery FOR EACH ROW WHEN (NEW.gateway IS NOT NULL)
         EXECUTE FUNCTION audit.note_birth();
         CREATE TRIGGER note AFTER DELETE ON {SCHEMA}.gateway FOR EACH ROW EXECUTE FUNCTION audit.note_burial();"
    ));
}

/// Whether this process holds a lease. False while the database is away.
pub(crate) fn holds(database: &Database, life: u32) -> bool {
    let asked = database.0.try_sql(&format!(
        "SELECT EXISTS (
             SELECT FROM {SCHEMA}.delivery JOIN audit.change ON change.gateway = delivery.gateway WHERE change.life = 'life_{life}'
         )"
    ));
    asked.is_some_and(|is_so| is_so == "t")
}

/// Whether another gateway has claimed a delivery that this process held when it was declared dead.
/// False while the database is away.
pub(crate) fn is_inherited(database: &Database, life: u32) -> bool {
    let asked = database.0.try_sql(&format!(
        "SELECT EXISTS (
             SELECT FROM audit.change AS freed JOIN audit.change AS held USING (delivery, claimed)
             JOIN audit.change AS claim USING (delivery)
             WHERE held.life = 'life_{life}' AND held.claimed > held.claimed_before
                 AND freed.life <> held.life AND freed.gateway IS NULL AND freed.gateway_before = held.gateway
                 AND claim.claimed_before = held.claimed AND claim.claimed > claim.claimed_before AND claim.life <> held.life
         )"
    ));
    asked.is_some_and(|is_so| is_so == "t")
}

/// A lease of a delivery by a gateway.
struct Hold {
    life: u32,
    number: u32,
    end: End,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The lease has not ended.
    Open,
    /// The attempt was settled.
    Settled,
    /// The delivery was released before an attempt.
    Released,
    /// Another gateway declared the holder dead.
    Buried { at_ms: u64 },
    /// The holder deregistered.
    Left,
    /// The lease had ended when another gateway claimed the delivery.
    RanOut,
}

/// A gateway was declared dead, or deregistered.
struct Burial {
    at_ms: u64,
    by: u32,
    holder: i64,
    silent_ms: u64,
}

#[derive(Default)]
pub(crate) struct Audit {
    /// Leases by webhook id and destination, in the order of time.
    holds: HashMap<(String, String), Vec<Hold>>,
    /// The process number of each holder.
    lives: HashMap<i64, u32>,
    burials: Vec<Burial>,
    /// Broken promises, by kind.
    broken: BTreeMap<&'static str, Vec<String>>,
}

/// A change of a delivery.
struct Change {
    at_ms: u64,
    life: u32,
    claimed: [u32; 2],
    attempt: [u32; 2],
    holder: [Option<i64>; 2],
    lease_before: u64,
}

impl Audit {
    pub(crate) fn read(database: &Database) -> Self {
        let mut audit = Self::default();
        for [at_ms, life, holder, silent_ms] in
            database.rows("SELECT at_ms, life, gateway, silent_ms FROM audit.burial")
        {
            audit.burials.push(Burial {
                at_ms: at_ms.parse().unwrap(),
                by: life_of(&life),
                holder: holder.parse().unwrap(),
                silent_ms: silent_ms.parse().unwrap(),
            });
        }
        for row in database.rows::<11>(
            "SELECT webhook_id, destination, at_ms, life, claimed_before, change.claimed, settled_before, change.settled,
                    gateway_before, change.gateway, lease_before
             FROM audit.change JOIN delivery ON delivery.id = change.delivery JOIN message ON message.seq = delivery.id >> 8
             ORDER BY change.delivery, place",
        ) {
            let [id, destination, at_ms, life, claimed_before, claimed, attempt_before, attempt, gateway_before, holder, lease] =
                row;
            let change = Change {
                at_ms: at_ms.parse().unwrap(),
                life: life_of(&life),
                claimed: [claimed_before, claimed].map(|number| number.parse().unwrap()),
                attempt: [attempt_before, attempt].map(|number| number.parse().unwrap()),
                holder: [gateway_before, holder].map(|holder| holder.parse().ok()),
                lease_before: lease.parse().unwrap(),
            };
            audit.follow(&id, &destination, &change);
        }
        audit
    }

    /// Applies a change to the leases of the delivery.
    fn follow(&mut self, id: &str, destination: &str, change: &Change) {
        let holds = self
            .holds
            .entry((id.to_owned(), destination.to_owned()))
            .or_default();
        let wrong = if change.claimed[1] == change.claimed[0] + 1
            && change.attempt[1] == change.attempt[0]
        {
            if let Some(holder) = change.holder[1] {
                self.lives.insert(holder, change.life);
            }
            claim(holds, change)
        } else if change.attempt[1] > change.attempt[0] {
            settle(holds, change)
        } else if change.claimed[1] + 1 == change.claimed[0] {
            end(holds, change, End::Released)
        } else if change.holder[0].is_some() && change.holder[1].is_none() {
            let is_own = holds.last().is_some_and(|hold| hold.life == change.life);
            let at_ms = change.at_ms;
            let end = if is_own {
                End::Left
            } else {
                End::Buried { at_ms }
            };
            free(holds, end)
        } else {
            Some("a change that nobody has a reason for")
        };
        if let Some(wrong) = wrong {
            let life = change.life;
            let whom = format!("{id} at {destination} by life {life}");
            self.broken.entry(wrong).or_default().push(whom);
        }
    }

    /// Compares the ledger with the store, using the reasons found here.
    pub(crate) fn verdict(
        &self,
        ledger: &Ledger,
        stored: &StoredWebhooks,
        deeds: &Deeds,
    ) -> Verdict {
        Verdict::reach_by(ledger, stored, &|id, destination, received| {
            self.reasons(id, destination, received, deeds)
        })
    }

    /// For each time the message was sent, the sender must have had a new lease.
    /// [`follow`](Self::follow) has checked how the leases before the last one ended.
    fn reasons(
        &self,
        id: &str,
        destination: Destination,
        received: &Received,
        deeds: &Deeds,
    ) -> Again {
        let mut again = Again::default();
        let key = (id.to_owned(), destination.name().to_owned());
        let holds = self.holds.get(&key).map_or(&[][..], Vec::as_slice);
        let mut sent: HashMap<u32, usize> = HashMap::new();
        for reception in &received.receptions {
            *sent.entry(reception.life).or_default() += 1;
        }
        for (life, times) in sent {
            let of_life = holds.iter().filter(|hold| hold.life == life);
            let may_send = of_life.filter(|hold| hold.end != End::Released).count();
            again.unexplained += times.saturating_sub(may_send);
        }
        // The last reception needs no reason.
        for reception in received.receptions.iter().rev().skip(1) {
            let life = reception.life;
            let was_killed = holds.iter().any(|hold| match hold.end {
                End::Buried { at_ms } => hold.life == life && deeds.was_dead(life, at_ms),
                _ => false,
            });
            if reception.has_failed {
                again.after_failure += 1;
            } else if was_killed {
                again.after_kill += 1;
            } else {
                again.after_freeze += 1;
            }
        }
        again
    }

    /// Lists forbidden interactions between gateways, and actions without a reason.
    pub(crate) fn offences(&self, deeds: &Deeds) -> Vec<String> {
        let mut broken: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (wrong, whom) in &self.broken {
            broken.insert(wrong, whom.clone());
        }
        for burial in &self.burials {
            let Some(&life) = self.lives.get(&burial.holder) else {
                // The process never held a lease.
                continue;
            };
            let during = burial.at_ms.saturating_sub(SILENCE_SEEN_MS)..burial.at_ms;
            let is_own = burial.by == life;
            let was_silent = burial.silent_ms >= SILENCE_MS
                && (deeds.was_frozen(life, &during) || deeds.was_away(&during));
            if !is_own && !was_silent && !deeds.was_dead(life, burial.at_ms) {
                let whom = format!("life {life} by life {}", burial.by);
                broken
                    .entry("taken for dead while it lived")
                    .or_default()
                    .push(whom);
            }
        }
        let told = broken.into_iter().map(|(wrong, whom)| {
            let told = whom[..whom.len().min(TOLD_MAX)].join(", ");
            format!("{wrong}: {} ({told})", whom.len())
        });
        told.collect()
    }
}

fn claim(holds: &mut Vec<Hold>, change: &Change) -> Option<&'static str> {
    let mut wrong = None;
    if let Some(last) = holds.last_mut()
        && last.end == End::Open
    {
        last.end = End::RanOut;
        // Both times are of the clock of the database, which all gateways of this run use.
        if change.at_ms < change.lease_before {
            wrong = Some("held by two at once");
        }
    }
    holds.push(Hold {
        life: change.life,
        number: change.claimed[1],
        end: End::Open,
    });
    wrong
}

/// A gateway that was declared dead may settle late, unless another one has claimed the delivery.
fn settle(holds: &mut [Hold], change: &Change) -> Option<&'static str> {
    let Some(last) = holds.last_mut() else {
        return Some("settled by one that never held it");
    };
    let is_last = last.life == change.life && last.number == change.attempt[1];
    let may_settle = matches!(last.end, End::Open | End::Buried { .. });
    last.end = End::Settled;
    (!is_last || !may_settle).then_some("settled by one that no longer held it")
}

fn end(holds: &mut [Hold], change: &Change, with: End) -> Option<&'static str> {
    let Some(last) = holds.last_mut() else {
        return Some("given back by one that never held it");
    };
    let is_own = last.life == change.life && last.number == change.claimed[0];
    last.end = with;
    (!is_own).then_some("given back by another")
}

fn free(holds: &mut [Hold], with: End) -> Option<&'static str> {
    let Some(last) = holds.last_mut() else {
        return Some("freed and never held");
    };
    let was_open = last.end == End::Open;
    last.end = with;
    (!was_open).then_some("freed and not held")
}

fn life_of(application: &str) -> u32 {
    let life = application.strip_prefix("life_").unwrap();
    life.parse().unwrap()
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = || self.holds.values().flatten();
        let ended = |is_so: fn(End) -> bool| holds().filter(|hold| is_so(hold.end)).count();
        write!(
            f,
            "held        {} times: {} settled, {} given back, {} freed because a gateway was silent, {} run out",
            holds().count(),
            ended(|end| end == End::Settled),
            ended(|end| end == End::Released),
            ended(|end| matches!(end, End::Buried { .. })),
            ended(|end| end == End::RanOut)
        )
    }
}
