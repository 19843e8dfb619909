-- Times are milliseconds since 1970, or timestamptz where the clock of this server is meant. Texts
-- are unchanged, except that NUL, which PostgreSQL cannot store, becomes U+FFFD.

CREATE SEQUENCE message_seq AS bigint;

-- One row for each webhook that was accepted. It is narrow, because it is also the record of the
-- ids that are known: it stays until the dedupe horizon, also without its payload.
CREATE TABLE message (
    seq         bigint   PRIMARY KEY,  -- roughly in order of arrival; with gaps
    partition   smallint,              -- of its payload; NULL: the payload and the deliveries were pruned
    endpoint    text     NOT NULL,
    webhook_id  text     NOT NULL,
    event_type  text,                  -- NULL: the payload is not an event
    sent_at     bigint   NOT NULL,
    received_at bigint   NOT NULL,
    secret      bigint,                -- the secret of the endpoint that verified it, from 0; NULL: not recorded
    origin      text,                  -- author of the event; NULL: OpenAI
    is_unrouted boolean                -- no destination wanted it; NULL: it has deliveries, or was pruned
);
CREATE UNIQUE INDEX message_id ON message (webhook_id, endpoint);
-- A routed message costs nothing here.
CREATE INDEX message_unrouted ON message (seq) WHERE is_unrouted;
-- For a search by time: some bytes for many pages. The order of numbers is only roughly that of
-- time, because clocks are set. As a sum, or the planner would rather use the primary key.
CREATE INDEX message_received ON message USING brin (received_at, (seq + 0)) WITH (pages_per_range = 32, autosummarize = on);

-- The bytes of the requests, unchanged, in partitions that are filled one after the other, each for
-- a part of the retention. Pruning clears `message.partition`, row by row. A partition without any
-- payload that is still needed is truncated as a whole, which costs nothing.
CREATE TABLE payload (
    partition   smallint NOT NULL,
    seq         bigint   NOT NULL,     -- of the message
    event_key   integer  NOT NULL,     -- hash of the id of the event
    resource_key integer NOT NULL,     -- hash of the id of the resource
    bytes       bytea    NOT NULL
) PARTITION BY LIST (partition);
-- For a search by one of these ids: about 2 KiB for 16 pages. A partition is filled from its
-- beginning to its end, so a stored payload seldom changes the index, unlike that of a B-tree. Pages
-- that autovacuum has not summarised yet are read in full.
CREATE INDEX payload_keys ON payload USING brin (
    event_key int4_bloom_ops (n_distinct_per_range = 1000), resource_key int4_bloom_ops (n_distinct_per_range = 1000)
) WITH (pages_per_range = 16, autosummarize = on);
DO $$ BEGIN
    FOR partition IN 0..11 LOOP
        EXECUTE format('CREATE TABLE payload_%s PARTITION OF payload (PRIMARY KEY (seq)) FOR VALUES IN (%s)', partition, partition);
    END LOOP;
END $$;
CREATE TABLE payload_partition (
    partition   smallint PRIMARY KEY,
    opened_at   bigint,                -- NULL: empty
    closed_at   bigint                 -- NULL: empty, or being filled
);
INSERT INTO payload_partition (partition) SELECT generate_series(0, 11);
CREATE TABLE current_partition (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    partition   smallint NOT NULL
);
INSERT INTO current_partition (partition) VALUES (0);

-- `id` is the number of the message times 256 plus a count: the deliveries of a message stand
-- together, and are found without an index.
CREATE TABLE delivery (
    id          bigint   PRIMARY KEY,
    since       bigint   NOT NULL,     -- first due, or replayed: its deadline counts from here
    due_at      bigint   NOT NULL,     -- waiting: next attempt; else: end
    ready_at    bigint   NOT NULL,     -- waiting: earliest claim, which is `due_at`, or later the end of its lease
    dropped_at  bigint,                -- when an operator dropped the dead letter
    settled_attempt    integer NOT NULL DEFAULT 0,  -- number of the latest settled attempt; 0: none
    claimed_attempt    integer NOT NULL DEFAULT 0,  -- number of the latest claimed attempt: only this one can be settled
    uncounted_attempts integer NOT NULL DEFAULT 0,  -- before a replay, or never settled: they do not lengthen the back-off
    gateway     bigint,                -- holder of the lease
    destination text     NOT NULL,
    lane        text     NOT NULL,     -- 'call' or 'standard'
    state       text     NOT NULL DEFAULT 'waiting' -- or 'delivered' or 'dead'
    -- No checks of these two: they would cost a tenth of the cost of a message. `db check` looks at
    -- them.
) WITH (
    -- Every delivery is written three times within moments. Dead row versions are vacuumed early
    -- and in small portions, or claims would have to step over them.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);
CREATE INDEX delivery_ready ON delivery (destination, lane, ready_at, id) WHERE state = 'waiting';
CREATE INDEX delivery_leased ON delivery (gateway) WHERE gateway IS NOT NULL;
CREATE INDEX delivery_dead ON delivery (destination, due_at) INCLUDE (dropped_at) WHERE state = 'dead';
CREATE INDEX delivery_dead_message ON delivery ((id >> 8)) WHERE state = 'dead';

-- The live gateways.
CREATE TABLE gateway (
    id          bigint   PRIMARY KEY,
    heartbeat_at timestamptz NOT NULL, -- latest, by the clock of this server
    peers       bigint[],              -- the gateways with which it divides limits; NULL: not joined yet
    name        text     NOT NULL,
    exclusive_address text,            -- only one gateway can have it at a time
    configuration text   NOT NULL      -- names of its parts, with a digest of each
) WITH (fillfactor = 50);

-- Open circuits, for all gateways.
CREATE TABLE circuit (
    destination text     PRIMARY KEY,
    until_at    timestamptz NOT NULL,  -- next probe, or end of the time of the probe under way
    back_off_ms bigint   NOT NULL,
    prober      bigint                 -- gateway that makes the probe
);

-- One row for each settled attempt.
CREATE TABLE attempt (
    delivery    bigint   NOT NULL,
    number      integer  NOT NULL,     -- from 1
    ended_at    bigint   NOT NULL,
    took_ms     bigint   NOT NULL,
    summary     text     NOT NULL,     -- response or cause of failure; nothing of the message
    excerpt     text,                  -- beginning of the response body, as the destination wrote it
    PRIMARY KEY (delivery, number)
);

-- What happened in each minute, for statistics. Each gateway adds its part about once a second, so a
-- crash loses the counts of the last second.
CREATE TABLE traffic (
    minute      bigint   NOT NULL,     -- its begin
    kind        text     NOT NULL CHECK (kind IN ('accepted', 'duplicate', 'refused', 'delivered', 'retried', 'rejected', 'dead')),
    name        text     NOT NULL,     -- of the endpoint for the first three kinds, of the destination for the others
    count       bigint   NOT NULL,
    PRIMARY KEY (minute, kind, name)
);
CREATE INDEX traffic_latest ON traffic (kind, name, minute);

CREATE TABLE paused (
    destination text     PRIMARY KEY,
    paused_at   bigint   NOT NULL
);

-- Requests that were not verified. They are never delivered.
CREATE TABLE quarantine (
    id          bigint   PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    endpoint    text     NOT NULL,
    received_at bigint   NOT NULL,
    reason      text     NOT NULL,
    headers     text     NOT NULL,     -- JSON: a list of names and values
    size        bigint,                -- of the body, in bytes; NULL: not known
    body        bytea                  -- NULL: too large, or not read
);

-- Stores one request in quarantine, deletes what is too much, and returns the number deleted. The
-- endpoint with the most requests loses one first, so that none loses a request to the noise of
-- another while it holds no more than an equal share. Requests without a body, which cannot be
-- verified any more, go first. One transaction at a time, or two would delete the same.
CREATE FUNCTION quarantine_request(
    at_endpoint text, arrived bigint, why text, with_headers text, bytes bigint, with_body bytea, at_most bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    too_many bigint;
BEGIN
    -- An advisory lock and not one of the table: `accept` deletes from the table, and must not
    -- wait.
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

-- One row for each replay, and for each other bulk run: its request and its progress.
CREATE TABLE replay (
    id           bigint  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    token        text    NOT NULL UNIQUE,
    action       text    NOT NULL DEFAULT 'replay' CHECK (action IN ('replay', 'drop')),
    request      text    NOT NULL,     -- JSON
    started_at   bigint  NOT NULL,     -- ages in the request count from here
    last_message bigint  NOT NULL,     -- later messages are not replayed
    next_message bigint  NOT NULL DEFAULT 0,  -- the first message that is not done
    messages     bigint  NOT NULL DEFAULT 0,
    deliveries   bigint  NOT NULL DEFAULT 0,
    calls        bigint  NOT NULL DEFAULT 0,
    waiting      bigint  NOT NULL DEFAULT 0,
    gone         bigint  NOT NULL DEFAULT 0,
    began_at     bigint,               -- when gateways began to carry it on; NULL: a client carries it on
    planned      bigint,               -- deliveries of its plan; NULL: not known
    ended_at     bigint,
    ending       text CHECK (ending IN ('stopped', 'failed')),  -- NULL: not ended, or done
    reason       text,                 -- why it failed
    gateway      bigint                -- that carries it on
);
CREATE INDEX replay_open ON replay (id) WHERE ended_at IS NULL AND began_at IS NOT NULL;

-- One row, written to test whether a write is possible.
CREATE TABLE readiness (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    checked_at  bigint   NOT NULL
);

-- An error if a message could not be stored now: a table that it needs is locked, or takes no row
-- of this role. The row is rolled back; no message has a number below zero.
CREATE FUNCTION check_writable(now_ms bigint) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
BEGIN
    LOCK TABLE ONLY message, ONLY payload, ONLY delivery, ONLY quarantine IN ROW EXCLUSIVE MODE;
    EXECUTE format('LOCK TABLE ONLY payload_%s IN ROW EXCLUSIVE MODE', (SELECT partition FROM current_partition));
    BEGIN
        INSERT INTO message (seq, endpoint, webhook_id, sent_at, received_at)
        VALUES (-pg_backend_pid(), '', 'readiness ' || pg_backend_pid(), now_ms, now_ms);
        RAISE EXCEPTION SQLSTATE 'UW001';
    EXCEPTION WHEN SQLSTATE 'UW001' THEN
        NULL;
    END;
    INSERT INTO readiness (checked_at) VALUES (now_ms) ON CONFLICT (is_only) DO UPDATE SET checked_at = EXCLUDED.checked_at;
END $$;

-- One row: the time of this server at the last check, as far as a gateway trusted it. The next
-- gateway that starts compares the clock of this server with it.
CREATE TABLE trusted_time (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    at          bigint   NOT NULL
);

-- One row while `db copy` fills these tables: its progress. No gateway starts meanwhile.
CREATE TABLE copying (
    is_only     boolean  PRIMARY KEY DEFAULT true CHECK (is_only),
    mark        text     NOT NULL      -- JSON
);

-- Frequent operations are functions, because each session of the server keeps their plans, also
-- where a pooler hands every transaction to another session: unwrapd prepares no statement there.
-- The settings make plans for tables of any size. The statistics are those of an empty table for a
-- while.
--
-- Each function is a transaction of its own without another statement around it, which would cost
-- as much as ten messages. So it also sets `synchronous_commit` to the value of `durable`, until
-- its commit.

-- Stores the messages that are not stored yet, and returns their positions. An array of NULLs may be
-- empty instead, which costs less. A message that another transaction stores at the same moment is
-- waited for, and then this transaction is rolled back: ON CONFLICT would cost a tenth of the cost of
-- a message, each time. The caller tries again, and finds it here.
CREATE FUNCTION accept(
    endpoints text[], ids text[], types text[], sent bigint[], received bigint[], secrets bigint[], origins text[],
    unrouted boolean[], event_keys integer[], resource_keys integer[], payloads bytea[],
    positions bigint[], numbers bigint[], -- of the deliveries: the position of the message, and a count
    destinations text[], lanes text[],
    due bigint[],                      -- when they are due; NULL: at once
    ends bigint[],                     -- end of the lease of this gateway; NULL: no lease
    quarantined bigint[],              -- requests that leave the quarantine
    by_gateway bigint, durable text
) RETURNS TABLE ("position" bigint, seq bigint, leased_by bigint) LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '5s' SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    durable := set_config('synchronous_commit', durable, true);
    -- A gateway that was treated as dead leases nothing, as in `claim`.
    IF cardinality(ends) > 0 THEN
        by_gateway := (SELECT id FROM gateway WHERE id = by_gateway);
    END IF;
    RETURN QUERY WITH fresh AS MATERIALIZED (
        SELECT nextval('message_seq') AS seq, (SELECT partition FROM current_partition) AS partition, given.*
        FROM unnest(endpoints, ids, types, sent, received, secrets, origins, unrouted, event_keys, resource_keys, payloads) WITH ORDINALITY
            AS given (endpoint, webhook_id, event_type, sent_at, received_at, secret, origin, is_unrouted, event_key, resource_key, bytes, position)
        WHERE (SELECT seq FROM message WHERE webhook_id = given.webhook_id AND endpoint = given.endpoint) IS NULL
    ), messages AS (
        INSERT INTO message (seq, partition, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin, is_unrouted)
        SELECT seq, partition, endpoint, webhook_id, event_type, sent_at, received_at, secret, origin, is_unrouted FROM fresh
    ), stored_payloads AS (
        INSERT INTO payload (partition, seq, event_key, resource_key, bytes)
        SELECT partition, seq, event_key, resource_key, bytes FROM fresh
    ), deliveries AS (
        INSERT INTO delivery (id, destination, lane, since, due_at, ready_at, claimed_attempt, gateway)
        SELECT seq * 256 + given.number, given.destination, given.lane, received_at, coalesce(given.due_at, received_at),
            CASE WHEN is_leased THEN given.ends_at ELSE coalesce(given.due_at, received_at) END, is_leased::int, CASE WHEN is_leased THEN by_gateway END
        FROM unnest(positions, numbers, destinations, lanes, due, ends) AS given (position, number, destination, lane, due_at, ends_at)
        JOIN fresh USING (position)
        CROSS JOIN LATERAL (SELECT given.ends_at IS NOT NULL AND by_gateway IS NOT NULL) AS leased (is_leased)
    )
    SELECT fresh.position, seq, by_gateway FROM fresh;
    -- A message that is stored already may have reached no stand-by, if the server was stopped
    -- while its commit waited for one. A transaction that has written nothing waits for no
    -- stand-by; to lock a row is to write.
    IF NOT FOUND THEN
        PERFORM FROM message WHERE webhook_id = ids[1] AND endpoint = endpoints[1] FOR KEY SHARE;
    END IF;
    -- A statement of its own, because most calls need none.
    IF cardinality(quarantined) > 0 THEN
        DELETE FROM quarantine WHERE id = ANY (quarantined);
    END IF;
END $$;

-- Claims deliveries that are ready, from `from_ms` on, before which none waits. The last row,
-- without an id, says when more may be ready. A delivery that is ready only after `put_off_ms`, or
-- is leased until after `lease_max_ms`, was put off by a clock that has been set back since: it is
-- claimed as well, as up to a half of all. A lease that ends between `lasts_from_ms` and
-- `lasts_to_ms` still lasts: it was given before the clock of this server jumped. A gateway that
-- was treated as dead and has not sent a heartbeat since gets nothing: if it died before it does,
-- nobody would notice.
CREATE FUNCTION claim(
    to_destination text, in_lane text, from_ms bigint, now_ms bigint, until_ms bigint, put_off_ms bigint, lease_max_ms bigint,
    lasts_from_ms bigint, lasts_to_ms bigint, at_most bigint, by_gateway bigint, durable text
)
RETURNS TABLE (
    id bigint, attempt bigint, uncounted_attempts bigint, since bigint,
    endpoint text, webhook_id text, event_type text, sent_at bigint, received_at bigint, secret bigint, origin text, bytes bytea,
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
            AND (delivery.gateway IS NULL OR ready_at > lease_max_ms AND ready_at NOT BETWEEN lasts_from_ms AND lasts_to_ms)
            AND EXISTS (SELECT FROM gateway WHERE gateway.id = by_gateway)
        ORDER BY ready_at, id LIMIT (at_most + (random() < 0.5)::int) / 2 FOR UPDATE SKIP LOCKED
    ), due AS (
        SELECT id FROM delivery
        WHERE destination = to_destination AND lane = in_lane AND state = 'waiting' AND ready_at BETWEEN from_ms AND now_ms
            AND (delivery.gateway IS NULL OR ready_at NOT BETWEEN lasts_from_ms AND lasts_to_ms)
            AND EXISTS (SELECT FROM gateway WHERE gateway.id = by_gateway)
        ORDER BY ready_at, id LIMIT at_most - (SELECT count(*) FROM put_off) FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE delivery SET ready_at = until_ms, claimed_attempt = claimed_attempt + 1, gateway = by_gateway
        WHERE id = ANY (ARRAY (SELECT id FROM due UNION ALL SELECT id FROM put_off))
        RETURNING id, claimed_attempt, uncounted_attempts + claimed_attempt - 1 - settled_attempt AS uncounted_attempts, since, due_at
    )
    SELECT claimed.id, claimed_attempt::int8, uncounted_attempts::int8, since,
        endpoint, webhook_id, event_type, sent_at, received_at, secret, origin, bytes,
        claimed.id = ANY (ARRAY (SELECT id FROM put_off))
    FROM claimed JOIN message ON message.seq = claimed.id >> 8
    JOIN payload ON payload.partition = message.partition AND payload.seq = message.seq
    ORDER BY due_at, claimed.id;

    RETURN QUERY SELECT
        NULL::int8, NULL::int8, NULL::int8,
        (SELECT ready_at FROM delivery
         WHERE destination = to_destination AND lane = in_lane AND state = 'waiting' AND ready_at >= from_ms
         ORDER BY ready_at, id LIMIT 1),
        NULL::text, NULL::text, NULL::text, NULL::int8, NULL::int8, NULL::int8, NULL::text, NULL::bytea, NULL::boolean;
END $$;

-- The messages whose payload has one of these search keys; an empty array stands for any key. The
-- planner takes the index for useless, because the keys are in no order, and would read all
-- payloads.
CREATE FUNCTION find_payloads(event_keys integer[], resource_keys integer[]) RETURNS SETOF bigint LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off AS $$
BEGIN
    IF cardinality(event_keys) = 0 THEN
        RETURN QUERY SELECT seq FROM payload WHERE resource_key = ANY (resource_keys);
    ELSIF cardinality(resource_keys) = 0 THEN
        RETURN QUERY SELECT seq FROM payload WHERE event_key = ANY (event_keys);
    ELSE
        RETURN QUERY SELECT seq FROM payload WHERE event_key = ANY (event_keys) AND resource_key = ANY (resource_keys);
    END IF;
END $$;

-- The part of a range of numbers that can hold messages of a time. Its ends are halved until one more
-- step would save less than `step` numbers, or until some milliseconds have passed. Each half is
-- searched for one message, and only the index tells quickly that it has none. So the result holds
-- all messages of the time, in whatever order they are.
CREATE FUNCTION narrow_to_time(since bigint, until bigint, from_seq bigint, to_seq bigint, step bigint, OUT first bigint, OUT last bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    ends_at CONSTANT timestamptz := clock_timestamp() + interval '20 ms';
    other  bigint := from_seq;   -- the other end of the numbers that are searched
    middle bigint;
BEGIN
    last := least(to_seq, (SELECT max(seq) FROM message));
    -- The newest messages are of most times, and the index does not have all of them yet.
    PERFORM FROM message WHERE seq > last - step AND seq <= last AND received_at BETWEEN since AND until ORDER BY seq DESC LIMIT 1;
    IF FOUND THEN other := last; END IF;
    WHILE last - other >= step AND clock_timestamp() < ends_at LOOP
        middle := other + (last - other) / 2;
        PERFORM FROM message WHERE received_at BETWEEN since AND until AND seq + 0 > middle AND seq + 0 <= last LIMIT 1;
        IF FOUND THEN other := middle + 1; ELSE last := middle; END IF;
    END LOOP;
    first := from_seq;
    other := last;
    WHILE other - first >= step AND clock_timestamp() < ends_at LOOP
        middle := first + (other - first) / 2;
        PERFORM FROM message WHERE received_at BETWEEN since AND until AND seq + 0 >= first AND seq + 0 <= middle LIMIT 1;
        IF FOUND THEN other := middle; ELSE first := middle + 1; END IF;
    END LOOP;
END $$;

-- Records attempts, and returns those that took effect. An attempt that is recorded already, with
-- the same number, state, due time, end, duration and summary, was settled before: its commit was
-- made, and the reply was lost.
CREATE FUNCTION settle(
    deliveries bigint[], numbers integer[], ended bigint[], took bigint[], summaries text[], excerpts text[], states text[], due bigint[],
    durable text
) RETURNS TABLE (id bigint, number bigint) LANGUAGE plpgsql
SET search_path FROM CURRENT SET lock_timeout = '5s' SET jit = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    durable := set_config('synchronous_commit', durable, true);
    RETURN QUERY WITH given AS MATERIALIZED (
        SELECT * FROM unnest(deliveries, numbers, ended, took, summaries, excerpts, states, due)
            AS given (delivery, number, ended_at, took_ms, summary, excerpt, state, due_at)
    ), settled AS (
        UPDATE delivery
        SET state = given.state, due_at = given.due_at, ready_at = given.due_at, settled_attempt = given.number, gateway = NULL,
            uncounted_attempts = delivery.uncounted_attempts + given.number - 1 - delivery.settled_attempt
        FROM given
        WHERE delivery.id = given.delivery AND delivery.claimed_attempt = given.number AND delivery.settled_attempt < given.number
            AND delivery.state = 'waiting'
        RETURNING given.*
    ), recorded AS (
        INSERT INTO attempt (delivery, number, ended_at, took_ms, summary, excerpt)
        SELECT delivery, number, ended_at, took_ms, summary, excerpt FROM settled
    )
    SELECT delivery, number::int8 FROM settled
    UNION ALL
    SELECT given.delivery, given.number::int8
    FROM given JOIN delivery ON delivery.id = given.delivery AND delivery.settled_attempt = given.number
        AND delivery.state = given.state AND delivery.due_at = given.due_at
    JOIN attempt ON attempt.delivery = given.delivery AND attempt.number = given.number
        AND attempt.ended_at = given.ended_at AND attempt.took_ms = given.took_ms AND attempt.summary = given.summary
    WHERE (SELECT count(*) FROM settled) < cardinality(deliveries); -- else there is nothing to look for
END $$;
