"""A gateway after a day of work, with a little of everything: for tests of all pages, and for their
pictures. The data is invented."""

import json
import math
import random
import sqlite3
import time
from urllib.parse import quote

import patience
from application import Answer, Application
from gateway import ENDPOINT, Gateway, destination
from webhooks import event, incoming_call

OPERATE = "token-to-operate-0123456789"
READ = "token-to-read-0123456789012"

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# Time since the latest webhook, and since the last event that the application `crm` took.
LATEST = 12_000
DOWN = 45_000

UNKNOWN_CUSTOMER = '{"error": "no customer has this reference", "code": "unknown_customer"}'
MISSING_TABLE = 'ERROR: relation "batch_results" does not exist at character 13'
NO_UPSTREAM = "upstream connect error or disconnect/reset before headers"


class Scenery:
    """`gateway` is the gateway, and `event` is an event with an eventful journey."""

    def __enter__(self):
        self._applications = [Application() for _ in range(4)]
        app, billing, crm, phone = self._applications
        self.gateway = Gateway(
            destination("app", app.url, events=["response.*", "batch.*"]),
            destination("billing", billing.url, events=["response.completed"], rate=200),
            destination("crm", crm.url, events=["fine_tuning.*", "eval.*", "agent.session.*"]),
            destination("phone", phone.url, events=["realtime.*"], timeout_seconds=5),
            '[[destination]]\nname = "archive"\njsonl = "events.jsonl"\n'
            'events = ["*", "!safety_identifier.blocked"]\n',
            server="""
                admin_token = { file = "operate.token" }
                admin_read_token = { file = "read.token" }
            """,
            files={"operate.token": OPERATE, "read.token": READ},
        )
        self.gateway.start()
        self._receive()
        self.gateway.stop()
        self._spread_over_a_day()
        crm.answer = Answer(503, NO_UPSTREAM)
        self.gateway.start()
        # Ten failures in a row open the circuit.
        crm.wait_for(self._taken_by_crm + 10)
        return self

    def __exit__(self, *_):
        self.gateway.stop()
        for application in self._applications:
            application.__exit__()

    def _receive(self):
        app, billing, crm, phone = self._applications
        random.seed(7)
        failed_once = set()

        def migrated(received):
            """Fails for the first attempts at a batch."""
            if b"batch.completed" in received.body and received.id not in failed_once:
                failed_once.add(received.id)
                return Answer(500, MISSING_TABLE)
            return Answer()

        app.answer = migrated
        billing.answer = lambda received: (
            Answer(410, UNKNOWN_CUSTOMER) if received.id.endswith(("0", "7")) else Answer()
        )
        usual = ["response.completed"] * 12 + ["batch.completed", "response.incomplete", "response.failed"]
        early = [event(random.choice(usual)) for _ in range(150)]
        early += [event("eval.run.succeeded"), event("video.completed")]
        early += [
            incoming_call([("From", "<sip:+12025550143@carrier.example>"), ("CSeq", "851287 INVITE")])
            for _ in range(3)
        ]
        self.gateway.receive(*early)
        self._taken_by_crm = len(crm.wait_for(1))

        # From here on `crm` is down.
        crm.answer = Answer.failure(503, NO_UPSTREAM)
        session = "sess_" + random.randbytes(12).hex()
        self._late = [event(f"agent.session.{one}", resource=session) for one in ("created", "idle")]
        self._late += [event("fine_tuning.job.succeeded") for _ in range(11)]
        self._late += [event("response.completed") for _ in range(20)]
        self.event = event("batch.completed")
        self._late += [event("safety_identifier.blocked", resource="safety-id-71"), self.event]
        self.gateway.receive(*self._late)
        for webhook in [event("response.completed") for _ in range(3)]:
            assert self.gateway.post(webhook, secret="whsec_" + "A" * 44) == 401

        others = ["app", "billing", "phone", "archive"]
        patience.until(
            "nothing waits but for `crm`", lambda: all(self._waiting(name) == 0 for name in others)
        )
        crm.wait_for(self._taken_by_crm + 10)
        self._taken_by_crm = len(crm.received)

    def _waiting(self, name):
        return self.gateway.destination(name, OPERATE)["waiting"]

    def _spread_over_a_day(self):
        """Moves what has happened into the past, and adds the statistics of a day."""
        now = int(time.time() * 1000)
        database = sqlite3.connect(self.gateway.folder / "unwrapd.db")
        with database:
            messages = database.execute("SELECT seq FROM message ORDER BY seq").fetchall()
            early = len(messages) - len(self._late)
            for place, (seq,) in enumerate(messages):
                if place < early:
                    age = DOWN + (DAY - 2 * HOUR) * (1 - place / early) ** 2
                else:
                    age = LATEST + (DOWN - LATEST) * (1 - (place + 1 - early) / len(self._late))
                self._move(database, seq, now - int(age))
            database.execute("UPDATE quarantine SET received_at = ? - 5400000 + id * 900000", [now])
            database.execute("DELETE FROM traffic")
            database.executemany("INSERT INTO traffic VALUES (?, ?, ?, ?)", traffic(now))
        database.close()

    def _move(self, database, seq, received_at):
        """Moves a message with its deliveries and attempts to another time of arrival."""
        created_at = received_at - random.randrange(400, 2_600)
        [before] = database.execute("SELECT received_at FROM message WHERE seq = ?", [seq]).fetchone()
        by = received_at - before
        database.execute(
            "UPDATE message SET received_at = ?, sent_at = ? WHERE seq = ?",
            [received_at, received_at - 300, seq],
        )
        [body] = database.execute("SELECT bytes FROM payload WHERE seq = ?", [seq]).fetchone()
        body = json.loads(body) | {"created_at": created_at // 1000}
        database.execute(
            "UPDATE payload SET bytes = ? WHERE seq = ?", [json.dumps(body).encode(), seq]
        )
        database.execute(
            "UPDATE delivery SET since = since + ?, due_at = due_at + ? WHERE message = ?", [by, by, seq]
        )
        database.execute(
            """UPDATE attempt SET ended_at = ended_at + ?
            WHERE delivery IN (SELECT id FROM delivery WHERE message = ?)""",
            [by, seq],
        )
        # What waits is due at the start.
        database.execute(
            "UPDATE delivery SET due_at = since WHERE message = ? AND state = 'waiting'", [seq]
        )

    def pages(self):
        """All pages, by name."""
        dead = quote("status:dead destination:billing")
        return {
            "overview": "/",
            "events": "/events",
            "events-filtered": f"/events?q={dead}",
            "events-misspelt": "/events?q=stats:dead",
            "events-none": "/events?q=type:video.failed",
            "event": f"/events/{self.event.id}",
            "event-exact": f"/events/{self.event.id}?body=exact",
            "replay": f"/replay?q={dead}",
            "drop": f"/drop?q={dead}",
            "runs": "/runs",
            "destinations": "/destinations",
            "destination": "/destinations/billing",
            "destination-down": "/destinations/crm",
            "refused": "/refused",
            "refused-request": "/refused/1",
            "refused-drop": "/refused/drop",
            "system": "/system",
            "problem": "/events/wh_unknown",
        }


def traffic(now):
    """Rows of the statistics of a day: calm at night, and one bad quarter of an hour."""
    minutes = DAY // MINUTE
    for place in range(minutes):
        minute = now // MINUTE * MINUTE - (minutes - 1 - place) * MINUTE
        wave = 1 + math.sin(place / minutes * 2 * math.pi - 2)
        accepted = int(4 + 9 * wave + random.random() * 4)
        is_down = minute > now - DOWN
        counts = {
            ("accepted", ENDPOINT): accepted,
            ("delivered", "archive"): accepted,
            ("delivered", "app"): int(accepted * 0.8),
            ("retried", "app"): 9 if 610 <= place < 622 else 0,
            ("delivered", "billing"): int(accepted * 0.5),
            ("dead", "billing"): 3 if place in (700, 701, 1100) else 0,
            ("delivered", "crm"): 0 if is_down else int(accepted * 0.3),
            ("retried", "crm"): 4 if is_down else 0,
            ("delivered", "phone"): 1 if place % 47 == 0 else 0,
            ("refused", ENDPOINT): 1 if place % 480 == 479 else 0,
        }
        for (kind, name), count in counts.items():
            if count:
                yield minute, kind, name, count
