-- One row: what time it was when a process last looked, as far as it trusted the clock. The next one holds its clock against it.
CREATE TABLE trusted_time (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    at          INTEGER NOT NULL
) STRICT;
