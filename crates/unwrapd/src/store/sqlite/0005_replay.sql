-- Attempts made before the delivery was replayed: they do not lengthen the wait for the next one.
ALTER TABLE delivery ADD COLUMN earlier INTEGER NOT NULL DEFAULT 0;
-- When someone looked at the dead letter and did not want it any more.
ALTER TABLE delivery ADD COLUMN dropped_at INTEGER;
CREATE INDEX delivery_dead_message ON delivery (message) WHERE state = 'dead';

-- When the messages of a block (4096 consecutive numbers) arrived, so that those of a time are found without an index that every
-- message would pay for. Numbers follow the arrival only roughly: clocks are set. The last block has no row until it is full.
CREATE TABLE message_span (
    block       INTEGER PRIMARY KEY, -- seq / 4096
    oldest_at   INTEGER NOT NULL,
    newest_at   INTEGER NOT NULL
) STRICT;
WITH RECURSIVE full (block, first, last) AS (
    SELECT min(seq) >> 12, (min(seq) >> 12) << 12, ((min(seq) >> 12) << 12) + 4095 FROM message
    UNION ALL
    SELECT block + 1, last + 1, last + 4096 FROM full WHERE last < (SELECT max(seq) FROM message)
)
INSERT INTO message_span
    SELECT block,
           (SELECT min(received_at) FROM message WHERE seq BETWEEN first AND last),
           (SELECT max(received_at) FROM message WHERE seq BETWEEN first AND last)
    FROM full WHERE EXISTS (SELECT 1 FROM message WHERE seq = last);

-- Every endpoint that a message of a full block came to: an id is unique within one.
CREATE TABLE message_endpoint (
    name        TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO message_endpoint SELECT DISTINCT endpoint FROM message;

CREATE TRIGGER message_block_is_full AFTER INSERT ON message WHEN NEW.seq & 4095 = 4095 BEGIN
    INSERT OR REPLACE INTO message_span
        SELECT NEW.seq >> 12, min(received_at), max(received_at) FROM message WHERE seq BETWEEN NEW.seq - 4095 AND NEW.seq;
    INSERT OR IGNORE INTO message_endpoint
        SELECT DISTINCT endpoint FROM message WHERE seq BETWEEN NEW.seq - 4095 AND NEW.seq;
END;

-- What was asked for under each token, and how far it is.
CREATE TABLE replay (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    token       TEXT    NOT NULL UNIQUE,
    asked       TEXT    NOT NULL,    -- JSON
    begun_at    INTEGER NOT NULL,    -- ages in it count from here
    newest      INTEGER NOT NULL,    -- what arrived after this message takes no part
    next        INTEGER NOT NULL,    -- the first message that is not done
    messages    INTEGER NOT NULL DEFAULT 0,
    deliveries  INTEGER NOT NULL DEFAULT 0,
    calls       INTEGER NOT NULL DEFAULT 0,
    waiting     INTEGER NOT NULL DEFAULT 0,
    gone        INTEGER NOT NULL DEFAULT 0,
    ended_at    INTEGER
) STRICT;
