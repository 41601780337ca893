-- bench/task/pgq.sql: one consumer of PgQ that acknowledges whole batches.
CREATE SCHEMA bench;

CREATE PROCEDURE bench.submit(n int) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgq.insert_event('bench', 'noop', '{}') FROM generate_series(1, n);
    COMMIT;
    PERFORM pgq.force_tick('bench');
    PERFORM pgq.ticker('bench');
END $$;

CREATE PROCEDURE bench.consume(n int, INOUT done bigint DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    batch bigint;
BEGIN
    WHILE done < n LOOP
        batch := pgq.next_batch('bench', 'consumer');
        IF batch IS NULL THEN
            PERFORM pgq.force_tick('bench');
            PERFORM pgq.ticker('bench');
        ELSE
            done := done + (SELECT count(*) FROM pgq.get_batch_events(batch));
            PERFORM pgq.finish_batch(batch);
        END IF;
        COMMIT;
    END LOOP;
END $$;
