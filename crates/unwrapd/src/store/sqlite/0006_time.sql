-- One row: what time it was when a process last looked, as far as it trusted the clock. The next one holds its clock against it.
CREATE TABLE trusted_time (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    at          INTEGER NOT NULL,
    -- Since when the machine runs without a break, and what its monotonic clock showed then: a process that begins before the next one
    -- knows how much time has passed. NULL where the system does not tell.
    boot        TEXT,
    monotonic   INTEGER
) STRICT;
