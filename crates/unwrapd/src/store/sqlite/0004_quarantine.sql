-- Requests that could not be proven. Never delivered.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint    TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    headers     TEXT    NOT NULL,    -- a list of names and values, in JSON
    size        INTEGER,             -- of the body, in bytes; NULL: not known
    body        BLOB                 -- NULL: too large, or never read
) STRICT;
