-- What arrived. Narrow, and in the order of arrival: it is also the record of which ids were seen, and stays for the whole dedupe
-- horizon even when the body is gone.
ALTER TABLE message RENAME TO message_before;
CREATE TABLE message (
    seq         INTEGER PRIMARY KEY,
    endpoint    TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    event_type  TEXT,                -- NULL: authentic, but no event
    sent_at     INTEGER NOT NULL,    -- every time: milliseconds since 1970
    received_at INTEGER NOT NULL,
    secret      INTEGER              -- which secret of the endpoint proved it, counted from 0 as configured then; NULL: not recorded
) STRICT;
INSERT INTO message SELECT seq, endpoint, webhook_id, event_type, sent_at, received_at, NULL FROM message_before;

-- The bytes, whole and unchanged. Apart from everything that is searched, so that removing them touches nothing else.
CREATE TABLE body (
    seq         INTEGER PRIMARY KEY,
    payload     BLOB    NOT NULL
) STRICT;
INSERT INTO body SELECT seq, payload FROM message_before;

-- Hashes of the ids of consecutive messages, 8 bytes each, for the dedupe set in memory to be filled from within a moment.
CREATE TABLE seen_block (
    first_seq   INTEGER PRIMARY KEY,
    newest_at   INTEGER NOT NULL,    -- when the newest of them arrived
    hashes      BLOB    NOT NULL
) STRICT;
DROP TABLE seen;

-- `id` is `message` times 256 plus a count: the deliveries of a message stand together, and are found without an index of their own.
ALTER TABLE delivery RENAME TO delivery_before;
CREATE TABLE delivery (
    id          INTEGER PRIMARY KEY,
    message     INTEGER NOT NULL,
    destination TEXT    NOT NULL,
    lane        TEXT    NOT NULL CHECK (lane IN ('call', 'standard')),
    state       TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    since       INTEGER NOT NULL,    -- when it was first due, or replayed: from here its deadline counts
    due_at      INTEGER NOT NULL,    -- waiting: when to try; else: when it was settled
    attempt     INTEGER NOT NULL DEFAULT 0   -- the last one that was settled
) STRICT;
CREATE TEMP TABLE delivery_moved AS
    SELECT id AS old, message * 256 + row_number() OVER (PARTITION BY message ORDER BY id) - 1 AS new FROM delivery_before;
CREATE UNIQUE INDEX temp.delivery_moved_old ON delivery_moved (old);
INSERT INTO delivery
    SELECT new, message, destination, lane, iif(state = 'leased', 'waiting', state), received_at,
           iif(state = 'leased', received_at, due_at), attempt
    FROM delivery_before JOIN delivery_moved ON old = delivery_before.id JOIN message ON seq = message;

-- One row for each attempt that was settled.
ALTER TABLE attempt RENAME TO attempt_before;
CREATE TABLE attempt (
    delivery    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL,
    took_ms     INTEGER NOT NULL,
    answer      TEXT    NOT NULL,    -- what the destination answered or what went wrong; nothing of the message
    body        TEXT,                -- the beginning of the answer's body, as the destination wrote it
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt
    SELECT new, number, ended_at, took_ms, answer, NULL FROM attempt_before JOIN delivery_moved ON old = delivery;

DROP TABLE attempt_before;
DROP TABLE delivery_before;
DROP TABLE message_before;
DROP TABLE temp.delivery_moved;
CREATE INDEX delivery_due ON delivery (destination, lane, due_at) WHERE state = 'waiting';
CREATE INDEX delivery_dead ON delivery (destination, due_at) WHERE state = 'dead';
