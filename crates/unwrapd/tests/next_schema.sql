-- A migration that rewrites more than fits into memory. Tests interrupt it as that of a later
-- version.
ALTER TABLE message ADD COLUMN later TEXT;
CREATE TABLE rewritten AS SELECT * FROM payload;
DELETE FROM payload;
INSERT INTO payload SELECT * FROM rewritten;
DROP TABLE rewritten;
CREATE TABLE of_the_next_version (x INTEGER) STRICT;
