/* Tables, servers and syncs of bench/sync. */
CREATE EXTENSION ordflow;
CREATE SCHEMA bench;
CREATE SERVER redis_a FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port :'port_a');
CREATE SERVER redis_b FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port :'port_b');
CREATE USER MAPPING FOR PUBLIC SERVER redis_a;
CREATE USER MAPPING FOR PUBLIC SERVER redis_b;

CREATE TABLE bench.near (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE bench.both (id int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO bench.near SELECT id, 0 FROM generate_series(1, 4) AS id;
INSERT INTO bench.both SELECT id, 0 FROM generate_series(1, 4) AS id;

CREATE TABLE bench.event (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text,
    price numeric(10, 2),
    note  text
);
CREATE TABLE bench.hundred AS
SELECT 'article ' || n AS name, (n * 1.25)::numeric(10, 2) AS price, repeat('note ', 10) AS note
FROM generate_series(1, 100) AS n;

CREATE TABLE bench.small (id int PRIMARY KEY, n bigint NOT NULL);
INSERT INTO bench.small SELECT id, 0 FROM generate_series(1, 100) AS id;
CREATE TABLE bench.other (id int PRIMARY KEY, n bigint NOT NULL, note text) WITH (fillfactor = 70);
INSERT INTO bench.other SELECT id, 0, repeat('note ', 10) FROM generate_series(1, 100000) AS id;
CREATE PUBLICATION small FOR TABLE bench.small;

SELECT ordflow.create_sync('near', 'bench.near', 'redis_a', 'near:{id}',
    options => '{"copy": false, "type": "string", "value": "n"}');
SELECT ordflow.create_sync('event', 'bench.event', 'redis_a', 'events',
    options => '{"copy": false, "type": "stream"}');
SELECT ordflow.create_sync('small', 'bench.small', 'redis_a', 'small:{id}', options => '{"copy": false}');
SELECT ordflow.create_sync('both_a', 'bench.both', 'redis_a', 'both:{id}',
    options => '{"copy": false, "type": "string", "value": "n"}');
SELECT ordflow.create_sync('both_b', 'bench.both', 'redis_b', 'both:{id}',
    options => '{"copy": false, "type": "string", "value": "n"}');

/* Seconds from the first sign of life of the decoder until it has got there. */
CREATE FUNCTION bench.reach(lsn pg_lsn, OUT decoded numeric, OUT durable numeric, OUT confirmed numeric) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    first pg_lsn;
    s ordflow.sync_status;
BEGIN
    WHILE confirmed IS NULL LOOP
        SELECT * INTO s FROM ordflow.sync_status WHERE name = 'small';
        first := coalesce(first, s.decoded);
        IF s.decoded > first THEN began := coalesce(began, clock_timestamp()); END IF;
        IF s.decoded >= lsn THEN decoded := coalesce(decoded, round(extract(epoch FROM clock_timestamp() - began), 3)); END IF;
        IF s.durable >= lsn THEN durable := coalesce(durable, round(extract(epoch FROM clock_timestamp() - began), 3)); END IF;
        IF (SELECT confirmed_flush_lsn >= lsn FROM pg_replication_slots WHERE slot_name LIKE 'ordflow%') THEN
            confirmed := round(extract(epoch FROM clock_timestamp() - began), 3);
        END IF;
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
