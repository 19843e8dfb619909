-- What arrived, whole and unchanged.
CREATE TABLE message (
    seq         INTEGER PRIMARY KEY,
    endpoint    TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    event_type  TEXT,                -- NULL: authentic, but no event
    sent_at     INTEGER NOT NULL,    -- every time: milliseconds since 1970
    received_at INTEGER NOT NULL,
    payload     BLOB    NOT NULL
) STRICT;

-- The dedupe key. It stands apart so that it can outlive the message.
CREATE TABLE seen (
    endpoint    TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (endpoint, webhook_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    id          INTEGER PRIMARY KEY,
    message     INTEGER NOT NULL REFERENCES message (seq),
    destination TEXT    NOT NULL,
    lane        TEXT    NOT NULL CHECK (lane IN ('call', 'standard')),
    state       TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'leased', 'delivered', 'dead')),
    due_at      INTEGER NOT NULL,    -- waiting: when to try; leased: when the lease ends; else: when it was settled
    attempt     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX delivery_due ON delivery (destination, lane, due_at) WHERE state IN ('waiting', 'leased');
CREATE INDEX delivery_leased ON delivery (state) WHERE state = 'leased';

CREATE TABLE attempt (
    delivery    INTEGER NOT NULL REFERENCES delivery (id),
    number      INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,
    took_ms     INTEGER NOT NULL,
    answer      TEXT    NOT NULL,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- One row, written to see whether writing is possible.
CREATE TABLE readiness (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    checked_at  INTEGER NOT NULL
) STRICT;
