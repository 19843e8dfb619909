-- Every time: milliseconds since 1970. Texts are as they came, but for NUL, which PostgreSQL cannot hold: it stands as U+FFFD.

CREATE SEQUENCE message_seq AS bigint;

-- What arrived. Narrow: it is also the record of which ids were seen, and stays for the whole dedupe horizon even when the body is gone.
CREATE TABLE message (
    seq         bigint   PRIMARY KEY,  -- in the order of arrival, but for what arrived at the same moment; with gaps
    slot        smallint,              -- where its body is; NULL: the body is removed, and with it the deliveries
    endpoint    text     NOT NULL,
    webhook_id  text     NOT NULL,
    event_type  text,                  -- NULL: authentic, but no event
    sent_at     bigint   NOT NULL,
    received_at bigint   NOT NULL,
    secret      bigint                 -- which secret of the endpoint proved it, counted from 0 as configured then; NULL: not recorded
);
CREATE UNIQUE INDEX message_id ON message (webhook_id, endpoint);
-- To find those of a time. Some bytes for many pages; numbers follow the arrival only roughly, as clocks are set.
CREATE INDEX message_received ON message USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);

-- The bytes, whole and unchanged, in slots that are filled one after the other, each for a part of the retention. What is removed one
-- by one is only the message that points here; a slot of which nothing is needed any more is emptied as a whole, which costs nothing.
CREATE TABLE body (
    slot        smallint NOT NULL,
    seq         bigint   NOT NULL,
    payload     bytea    NOT NULL
) PARTITION BY LIST (slot);
DO $$ BEGIN
    FOR slot IN 0..11 LOOP
        EXECUTE format('CREATE TABLE body_%s PARTITION OF body (PRIMARY KEY (seq)) FOR VALUES IN (%s)', slot, slot);
    END LOOP;
END $$;
CREATE TABLE body_slot (
    slot        smallint PRIMARY KEY,
    opened_at   bigint,                -- NULL: it is empty
    closed_at   bigint                 -- NULL: it is empty, or being filled
);
INSERT INTO body_slot (slot) SELECT generate_series(0, 11);
CREATE TABLE body_current (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    slot        smallint NOT NULL
);
INSERT INTO body_current (slot) VALUES (0);

-- `id` is the number of the message times 256 plus a count: the deliveries of a message stand together, and are found without an index
-- of their own.
CREATE TABLE delivery (
    id          bigint   PRIMARY KEY,
    since       bigint   NOT NULL,     -- when it was first due, or replayed: from here its deadline counts
    due_at      bigint   NOT NULL,     -- waiting: when to try; else: when it was settled
    ready_at    bigint   NOT NULL,     -- waiting: when it may be claimed, which is `due_at`, or later the end of its lease
    dropped_at  bigint,                -- when someone looked at the dead letter and did not want it any more
    attempt     integer  NOT NULL DEFAULT 0,  -- the last one that was settled
    claimed     integer  NOT NULL DEFAULT 0,  -- the last one that was claimed: it alone can be settled
    earlier     integer  NOT NULL DEFAULT 0,  -- attempts that do not lengthen the wait: made before it was replayed, or never settled
    holder      bigint,                -- the gateway that has claimed and not settled it
    destination text     NOT NULL,
    lane        text     NOT NULL,     -- 'call' or 'standard'
    state       text     NOT NULL DEFAULT 'waiting' -- or 'delivered' or 'dead'
    -- No check of these two: it would cost a tenth of what a message costs. `db check` looks at them.
) WITH (
    -- Every delivery is written three times within moments. Versions that are gone are cleared away early and in small portions, or
    -- claims would have to step over them.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);
CREATE INDEX delivery_ready ON delivery (destination, lane, ready_at, id) WHERE state = 'waiting';
CREATE INDEX delivery_held ON delivery (holder) WHERE holder IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (destination) WHERE state = 'dead';
CREATE INDEX delivery_dead_message ON delivery ((id >> 8)) WHERE state = 'dead';

-- The gateways that are alive.
CREATE TABLE holder (
    id          bigint   PRIMARY KEY,
    beat_at     timestamptz NOT NULL,  -- when it last said so, by the clock of this server
    sees        bigint[],              -- the others that it counts with when it takes its part of a limit; NULL: it is only about to join
    name        text     NOT NULL,
    place       text,                  -- what only one can have at a time
    parts       text     NOT NULL      -- of its configuration: their names, with a digest of each
) WITH (fillfactor = 50);

-- The destinations that are down, for all gateways.
CREATE TABLE circuit (
    destination text     PRIMARY KEY,
    until_at    timestamptz NOT NULL,  -- when it may be tried again, or when the one that tries it has had its time
    back_off_ms bigint   NOT NULL,
    prober      bigint                 -- the gateway that tries it
);

-- One row for each attempt that was settled.
CREATE TABLE attempt (
    delivery    bigint   NOT NULL,
    number      integer  NOT NULL,
    ended_at    bigint   NOT NULL,
    took_ms     bigint   NOT NULL,
    answer      text     NOT NULL,     -- what the destination answered or what went wrong; nothing of the message
    body        text,                  -- the beginning of the answer's body, as the destination wrote it
    PRIMARY KEY (delivery, number)
);

-- Destinations that get nothing for now, because someone said so.
CREATE TABLE paused (
    destination text     PRIMARY KEY,
    paused_at   bigint   NOT NULL
);

-- Requests that could not be proven. Never delivered.
CREATE TABLE quarantine (
    id          bigint   PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    endpoint    text     NOT NULL,
    received_at bigint   NOT NULL,
    reason      text     NOT NULL,
    headers     text     NOT NULL,     -- a list of names and values, in JSON
    size        bigint,                -- of the body, in bytes; NULL: not known
    body        bytea                  -- NULL: too large, or never read
);

-- Keeps one, and only so many, and says how many went for it. Beyond that one goes of the endpoint that holds the most, so that none loses a request to the noise at
-- another while it holds no more than an equal share; those without a body, which cannot be proven any more, go first. One transaction at
-- a time, or two would remove the same.
CREATE FUNCTION suspect(
    at_endpoint text, arrived bigint, why text, with_headers text, bytes bigint, with_body bytea, at_most bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    too_many bigint;
BEGIN
    -- Not the table: what arrives takes its acquitted out of it, and must not wait.
    PERFORM pg_advisory_xact_lock('quarantine'::regclass::oid::bigint);
    INSERT INTO quarantine (endpoint, received_at, reason, headers, size, body)
    VALUES (at_endpoint, arrived, why, with_headers, bytes, with_body);
    too_many := greatest((SELECT count(*) FROM quarantine) - at_most, 0);
    FOR _ IN 1 .. too_many LOOP
        DELETE FROM quarantine WHERE id = (
            SELECT id FROM quarantine WHERE endpoint = (
                SELECT endpoint FROM quarantine GROUP BY endpoint ORDER BY count(*) DESC, endpoint = at_endpoint DESC LIMIT 1
            ) ORDER BY body IS NOT NULL, id LIMIT 1
        );
    END LOOP;
    RETURN too_many;
END $$;

-- What was asked for under each token, and how far it is.
CREATE TABLE replay (
    id          bigint   PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    token       text     NOT NULL UNIQUE,
    asked       text     NOT NULL,     -- JSON
    begun_at    bigint   NOT NULL,     -- ages in it count from here
    newest      bigint   NOT NULL,     -- what arrived after this message takes no part
    next        bigint   NOT NULL DEFAULT 0,  -- the first message that is not done
    messages    bigint   NOT NULL DEFAULT 0,
    deliveries  bigint   NOT NULL DEFAULT 0,
    calls       bigint   NOT NULL DEFAULT 0,
    waiting     bigint   NOT NULL DEFAULT 0,
    gone        bigint   NOT NULL DEFAULT 0,
    ended_at    bigint
);

-- One row, written to see whether writing is possible.
CREATE TABLE readiness (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    checked_at  bigint   NOT NULL
);

-- Whether a message could be kept now: an error if a table that it needs is locked, or takes no row of this role. The row is taken
-- back, and no message has a number below zero.
CREATE FUNCTION ready(now_ms bigint) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
BEGIN
    LOCK TABLE ONLY message, ONLY body, ONLY delivery, ONLY quarantine IN ROW EXCLUSIVE MODE;
    EXECUTE format('LOCK TABLE ONLY body_%s IN ROW EXCLUSIVE MODE', (SELECT slot FROM body_current));
    BEGIN
        INSERT INTO message (seq, endpoint, webhook_id, sent_at, received_at)
        VALUES (-pg_backend_pid(), '', 'readiness ' || pg_backend_pid(), now_ms, now_ms);
        RAISE EXCEPTION SQLSTATE 'UW001';
    EXCEPTION WHEN SQLSTATE 'UW001' THEN
        NULL;
    END;
    INSERT INTO readiness (checked_at) VALUES (now_ms) ON CONFLICT (is_only) DO UPDATE SET checked_at = EXCLUDED.checked_at;
END $$;
-- One row: what time it was by this server when a gateway last looked, as far as it trusted that. The next gateway that starts holds
-- the clock of this server against it.
CREATE TABLE trusted_time (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    at          bigint   NOT NULL
);

-- One row while `db copy` fills these tables: how far it is. No gateway begins here meanwhile.
CREATE TABLE copying (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    mark        text     NOT NULL      -- JSON
);

-- What is done many times a second stands in functions, because their plans are kept by each session of the server, also where a pooler
-- hands every transaction to another: no statement of ours is prepared there. The plans are those for tables of any size, whatever the
-- statistics say, which are those of an empty table for a while.
--
-- Each is a transaction of its own that needs no other statement around it, which would cost as much as ten messages. So it brings along
-- what else a transaction of ours begins with; `durable` is how its commit is to be, and holds until that.

-- Keeps what is not there yet, and gives the places of what it has kept. What another transaction keeps at the same moment is waited for,
-- and then all of this is taken back: to foresee that with ON CONFLICT would cost a tenth of what a message costs, each time. Who tries
-- again finds it here.
CREATE FUNCTION accept(
    endpoints text[], ids text[], types text[], sent bigint[], received bigint[], secrets bigint[], payloads bytea[],
    places bigint[], numbers bigint[], -- of the deliveries: the place of the message, and a count
    destinations text[], lanes text[],
    due bigint[],                      -- when they are due
    ends bigint[],                     -- and until when they are leased to the gateway that keeps them, where they are
    suspects bigint[],                 -- what leaves the quarantine
    by_holder bigint, durable text
) RETURNS TABLE (place bigint, seq bigint, held_by bigint) LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '5s' SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    durable := set_config('synchronous_commit', durable, true);
    -- One that was taken for dead leases nothing, as in `claim`.
    by_holder := (SELECT id FROM holder WHERE id = by_holder);
    RETURN QUERY WITH fresh AS MATERIALIZED (
        SELECT nextval('message_seq') AS seq, (SELECT slot FROM body_current) AS slot, given.*
        FROM unnest(endpoints, ids, types, sent, received, secrets, payloads) WITH ORDINALITY
            AS given (endpoint, webhook_id, event_type, sent_at, received_at, secret, payload, place)
        WHERE (SELECT seq FROM message WHERE webhook_id = given.webhook_id AND endpoint = given.endpoint) IS NULL
    ), messages AS (
        INSERT INTO message (seq, slot, endpoint, webhook_id, event_type, sent_at, received_at, secret)
        SELECT seq, slot, endpoint, webhook_id, event_type, sent_at, received_at, secret FROM fresh
    ), bodies AS (
        INSERT INTO body (slot, seq, payload) SELECT slot, seq, payload FROM fresh
    ), deliveries AS (
        INSERT INTO delivery (id, destination, lane, since, due_at, ready_at, claimed, holder)
        SELECT seq * 256 + given.number, given.destination, given.lane, received_at, given.due_at,
            CASE WHEN is_held THEN given.ends_at ELSE given.due_at END, is_held::int, CASE WHEN is_held THEN by_holder END
        FROM unnest(places, numbers, destinations, lanes, due, ends) AS given (place, number, destination, lane, due_at, ends_at)
        JOIN fresh USING (place)
        CROSS JOIN LATERAL (SELECT given.ends_at IS NOT NULL AND by_holder IS NOT NULL) AS held (is_held)
    ), acquitted AS (
        DELETE FROM quarantine WHERE id = ANY (suspects)
    )
    SELECT place, seq, by_holder FROM fresh;
    -- What is there already may have come to no stand-by, if the server was stopped while its commit waited for that, and nobody may be
    -- told that it is safe. A transaction that has written nothing waits for no stand-by; to lock a row is to write.
    IF NOT FOUND THEN
        PERFORM FROM message WHERE webhook_id = ids[1] AND endpoint = endpoints[1] FOR KEY SHARE;
    END IF;
END $$;

-- Claims what may be claimed from `from_ms` on, before which nothing waits, and says in a row without id when more may be. What may be
-- claimed only after `put_off_ms`, or is leased for longer than until `lease_max_ms`, was put off by a clock that has been set back since:
-- it is claimed as well, as up to a half of all. A lease still lasts that ends between `lasts_from_ms` and `lasts_to_ms`: it was given
-- before the clock of this server jumped. Nothing for a
-- gateway that was taken for dead and has not said since that it lives: if it dies before it does, nobody would miss it.
CREATE FUNCTION claim(
    to_destination text, in_lane text, from_ms bigint, now_ms bigint, until_ms bigint, put_off_ms bigint, lease_max_ms bigint,
    lasts_from_ms bigint, lasts_to_ms bigint, at_most bigint, by_holder bigint, durable text
)
RETURNS TABLE (
    id bigint, attempt bigint, earlier bigint, since bigint,
    endpoint text, webhook_id text, event_type text, sent_at bigint, received_at bigint, secret bigint, payload bytea,
    was_put_off boolean
) LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '5s' SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    durable := set_config('synchronous_commit', durable, true);
    RETURN QUERY WITH put_off AS (
        SELECT id FROM delivery
        WHERE destination = to_destination AND lane = in_lane AND state = 'waiting' AND ready_at > put_off_ms
            AND (holder IS NULL OR ready_at > lease_max_ms AND ready_at NOT BETWEEN lasts_from_ms AND lasts_to_ms)
            AND EXISTS (SELECT FROM holder WHERE holder.id = by_holder)
        ORDER BY ready_at, id LIMIT (at_most + (random() < 0.5)::int) / 2 FOR UPDATE SKIP LOCKED
    ), due AS (
        SELECT id FROM delivery
        WHERE destination = to_destination AND lane = in_lane AND state = 'waiting' AND ready_at BETWEEN from_ms AND now_ms
            AND (holder IS NULL OR ready_at NOT BETWEEN lasts_from_ms AND lasts_to_ms)
            AND EXISTS (SELECT FROM holder WHERE holder.id = by_holder)
        ORDER BY ready_at, id LIMIT at_most - (SELECT count(*) FROM put_off) FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE delivery SET ready_at = until_ms, claimed = claimed + 1, holder = by_holder
        WHERE id = ANY (ARRAY (SELECT id FROM due UNION ALL SELECT id FROM put_off))
        RETURNING id, claimed, earlier + claimed - 1 - attempt AS earlier, since, due_at
    )
    SELECT taken.id, claimed::int8, earlier::int8, since, endpoint, webhook_id, event_type, sent_at, received_at, secret, payload,
        taken.id = ANY (ARRAY (SELECT id FROM put_off))
    FROM taken JOIN message ON message.seq = taken.id >> 8 JOIN body ON body.slot = message.slot AND body.seq = message.seq
    ORDER BY due_at, taken.id;

    RETURN QUERY SELECT
        NULL::int8, NULL::int8, NULL::int8,
        (SELECT ready_at FROM delivery
         WHERE destination = to_destination AND lane = in_lane AND state = 'waiting' AND ready_at >= from_ms
         ORDER BY ready_at, id LIMIT 1),
        NULL::text, NULL::text, NULL::text, NULL::int8, NULL::int8, NULL::int8, NULL::bytea, NULL::boolean;
END $$;

-- Records attempts, and gives those that counted. One that stands there already, to the last detail, was settled before: its commit
-- was made, and the answer lost on the way.
CREATE FUNCTION settle(
    deliveries bigint[], numbers integer[], ended bigint[], took bigint[], answers text[], bodies text[], states text[], due bigint[],
    durable text
) RETURNS TABLE (id bigint, number bigint) LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '5s' SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    durable := set_config('synchronous_commit', durable, true);
    RETURN QUERY WITH given AS MATERIALIZED (
        SELECT * FROM unnest(deliveries, numbers, ended, took, answers, bodies, states, due)
            AS given (delivery, number, ended_at, took_ms, answer, body, state, due_at)
    ), settled AS (
        UPDATE delivery
        SET state = given.state, due_at = given.due_at, ready_at = given.due_at, attempt = given.number, holder = NULL,
            earlier = delivery.earlier + given.number - 1 - delivery.attempt
        FROM given
        WHERE delivery.id = given.delivery AND delivery.claimed = given.number AND delivery.attempt < given.number
            AND delivery.state = 'waiting'
        RETURNING given.*
    ), noted AS (
        INSERT INTO attempt (delivery, number, ended_at, took_ms, answer, body)
        SELECT delivery, number, ended_at, took_ms, answer, body FROM settled
    )
    SELECT delivery, number::int8 FROM settled
    UNION ALL
    SELECT given.delivery, given.number::int8
    FROM given JOIN delivery ON delivery.id = given.delivery AND delivery.attempt = given.number
        AND delivery.state = given.state AND delivery.due_at = given.due_at
    JOIN attempt ON attempt.delivery = given.delivery AND attempt.number = given.number
        AND attempt.ended_at = given.ended_at AND attempt.took_ms = given.took_ms AND attempt.answer = given.answer
    WHERE (SELECT count(*) FROM settled) < cardinality(deliveries); -- else there is nothing to look for
END $$;
