-- Times are milliseconds since 1970.

-- One row for each webhook that was accepted, in order of arrival. It is narrow, because it is also
-- the record of the ids that are known: it stays until the dedupe horizon, also without its
-- payload.
CREATE TABLE message (
    seq         INTEGER PRIMARY KEY,
    endpoint    TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    event_type  TEXT,                -- NULL: the payload is not an event
    sent_at     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    secret      INTEGER,             -- the secret of the endpoint that verified it, from 0; NULL: not recorded
    origin      TEXT                 -- author of the event; NULL: OpenAI
) STRICT;

-- The bytes of the request, unchanged. A table of their own, so that pruning touches nothing else.
CREATE TABLE payload (
    seq         INTEGER PRIMARY KEY, -- of the message
    bytes       BLOB    NOT NULL
) STRICT;

-- Hashes of the ids of consecutive messages, 8 bytes each. The dedupe index in memory is filled
-- from them at start.
CREATE TABLE dedupe_block (
    first_seq   INTEGER PRIMARY KEY,
    newest_at   INTEGER NOT NULL,    -- latest arrival in the block
    hashes      BLOB    NOT NULL
) STRICT;

-- Hashes of the ids in the payloads of consecutive messages: 4 bytes for the event and 4 for the
-- resource. A search for such an id reads all of them, because an index would cost each message
-- more. A block stays as long as one of its messages.
CREATE TABLE search_block (
    first_seq   INTEGER PRIMARY KEY,
    keys        BLOB    NOT NULL
) STRICT;

-- The messages that no destination wanted, until they are pruned or replayed to one: ranges of
-- consecutive messages, each within one dedupe block. The messages after the last block are not
-- listed yet.
CREATE TABLE unrouted (
    first_seq   INTEGER PRIMARY KEY,
    last_seq    INTEGER NOT NULL
) STRICT;

-- `id` is `message` times 256 plus a count: the deliveries of a message stand together, and are
-- found without an index.
CREATE TABLE delivery (
    id          INTEGER PRIMARY KEY,
    message     INTEGER NOT NULL,
    destination TEXT    NOT NULL,
    lane        TEXT    NOT NULL CHECK (lane IN ('call', 'standard')),
    state       TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    since       INTEGER NOT NULL,    -- first due, or replayed: its deadline counts from here
    due_at      INTEGER NOT NULL,    -- waiting: next attempt; else: end
    settled_attempt    INTEGER NOT NULL DEFAULT 0,  -- number of the latest settled attempt; 0: none
    uncounted_attempts INTEGER NOT NULL DEFAULT 0,  -- attempts before a replay: they do not lengthen the back-off
    dropped_at  INTEGER              -- when an operator dropped the dead letter
) STRICT;
CREATE INDEX delivery_due ON delivery (destination, lane, due_at) WHERE state = 'waiting';
CREATE INDEX delivery_dead ON delivery (destination, due_at, dropped_at) WHERE state = 'dead';
CREATE INDEX delivery_dead_message ON delivery (message) WHERE state = 'dead';

-- One row for each settled attempt.
CREATE TABLE attempt (
    delivery    INTEGER NOT NULL,
    number      INTEGER NOT NULL,    -- from 1
    ended_at    INTEGER NOT NULL,
    took_ms     INTEGER NOT NULL,
    summary     TEXT    NOT NULL,    -- response or cause of failure; nothing of the message
    excerpt     TEXT,                -- beginning of the response body, as the destination wrote it
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- What happened in each minute, for statistics. The gateway writes it about once a second, so a
-- crash loses the counts of the last second.
CREATE TABLE traffic (
    minute      INTEGER NOT NULL,    -- its begin
    kind        TEXT    NOT NULL CHECK (kind IN ('accepted', 'duplicate', 'refused', 'delivered', 'retried', 'rejected', 'dead')),
    name        TEXT    NOT NULL,    -- of the endpoint for the first three kinds, of the destination for the others
    count       INTEGER NOT NULL,
    PRIMARY KEY (minute, kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX traffic_latest ON traffic (kind, name, minute);

CREATE TABLE paused (
    destination TEXT    PRIMARY KEY,
    paused_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests that were not verified. They are never delivered.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint    TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    headers     TEXT    NOT NULL,    -- JSON: a list of names and values
    size        INTEGER,             -- of the body, in bytes; NULL: not known
    body        BLOB                 -- NULL: too large, or not read
) STRICT;

-- First and last arrival in each block of 4096 consecutive messages. A search by time needs no
-- index that every message would pay for. The order of numbers is only roughly that of time,
-- because clocks are set. The last block has no row until it is full.
CREATE TABLE message_block (
    block       INTEGER PRIMARY KEY, -- seq / 4096
    oldest_at   INTEGER NOT NULL,
    newest_at   INTEGER NOT NULL
) STRICT;

-- The endpoints of all messages in full blocks: a webhook id is unique within one endpoint.
CREATE TABLE message_endpoint (
    name        TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TRIGGER message_block_is_full AFTER INSERT ON message WHEN NEW.seq & 4095 = 4095 BEGIN
    INSERT OR REPLACE INTO message_block
        SELECT NEW.seq >> 12, min(received_at), max(received_at) FROM message WHERE seq BETWEEN NEW.seq - 4095 AND NEW.seq;
    INSERT OR IGNORE INTO message_endpoint
        SELECT DISTINCT endpoint FROM message WHERE seq BETWEEN NEW.seq - 4095 AND NEW.seq;
END;

-- One row for each replay, and for each other bulk run: its request and its progress.
CREATE TABLE replay (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    token        TEXT    NOT NULL UNIQUE,
    action       TEXT    NOT NULL DEFAULT 'replay' CHECK (action IN ('replay', 'drop')),
    request      TEXT    NOT NULL,   -- JSON
    started_at   INTEGER NOT NULL,   -- ages in the request count from here
    last_message INTEGER NOT NULL,   -- later messages are not replayed
    next_message INTEGER NOT NULL,   -- the first message that is not done
    messages     INTEGER NOT NULL DEFAULT 0,
    deliveries   INTEGER NOT NULL DEFAULT 0,
    calls        INTEGER NOT NULL DEFAULT 0,
    waiting      INTEGER NOT NULL DEFAULT 0,
    gone         INTEGER NOT NULL DEFAULT 0,
    began_at     INTEGER,            -- when the gateway began to carry it on; NULL: a client carries it on
    planned      INTEGER,            -- deliveries of its plan; NULL: not known
    ended_at     INTEGER,
    ending       TEXT CHECK (ending IN ('stopped', 'failed')),  -- NULL: not ended, or done
    reason       TEXT                -- why it failed
) STRICT;
CREATE INDEX replay_open ON replay (id) WHERE ended_at IS NULL AND began_at IS NOT NULL;

-- One row, written to test whether a write is possible.
CREATE TABLE readiness (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    checked_at  INTEGER NOT NULL
) STRICT;

-- One row: the time at the last check, as far as the process trusted its clock. The next process
-- compares its clock with it.
CREATE TABLE trusted_time (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    at          INTEGER NOT NULL,
    -- Boot of the machine, and reading of its monotonic clock at that time. A process that starts
    -- before the next boot knows how much time has passed. NULL: the system does not tell.
    boot        TEXT,
    monotonic   INTEGER
) STRICT;
