-- Destinations that get nothing for now, because someone said so.
CREATE TABLE paused (
    destination TEXT    PRIMARY KEY,
    paused_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
