-- bench/task/task.sql: kinds, handlers and claimers of bench/task/run.
CREATE SCHEMA bench;

CREATE FUNCTION bench.noop(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;

SELECT ordflow.define_task('short', 'bench.noop(jsonb)', '{"short": true}');
SELECT ordflow.define_task('single', 'bench.noop(jsonb)');
SELECT ordflow.define_task('limited', 'bench.noop(jsonb)', '{"max_concurrent": 4}');
SELECT ordflow.define_task('external');
SELECT ordflow.define_task('limited external', NULL, '{"max_concurrent": 4}');

-- An external claimer: takes n at a time, completes them in one transaction, until nothing is left.
CREATE PROCEDURE bench.consume(kind text, n int, INOUT done bigint DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    claimed bigint;
BEGIN
    LOOP
        SELECT count(ordflow.complete_task(t.task_id, t.token)) INTO claimed FROM ordflow.claim_tasks(kind, n) AS t;
        COMMIT;
        EXIT WHEN claimed = 0;
        done := done + claimed;
    END LOOP;
END $$;

-- One of many that wait: the limit of the kind leaves most of them without a task.
CREATE PROCEDURE bench.consume_waiting(kind text, INOUT done bigint DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    claimed bigint;
BEGIN
    LOOP
        SELECT count(ordflow.complete_task(t.task_id, t.token)) INTO claimed
        FROM ordflow.claim_tasks(kind, 1, wait => '1 s') AS t;
        COMMIT;
        EXIT WHEN claimed = 0;
        done := done + claimed;
    END LOOP;
END $$;

CREATE FUNCTION bench.submit(kind text, n int) RETURNS bigint LANGUAGE sql AS $$
    SELECT ordflow.submit_batch(kind, array_fill('{}'::jsonb, ARRAY[n]));
$$;

-- What the same rows cost where nobody makes tasks of them.
CREATE TABLE bench.plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL);

-- Times of tasks whose payload holds when they were submitted, in ms: to the start, to the end.
CREATE FUNCTION bench.latency(kind text, OUT n bigint, OUT start_p50 float8, OUT start_p99 float8, OUT done_p50 float8,
    OUT done_p99 float8) LANGUAGE sql AS $$
    SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY s), percentile_cont(0.99) WITHIN GROUP (ORDER BY s),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY d), percentile_cont(0.99) WITHIN GROUP (ORDER BY d)
    FROM (SELECT 1000 * extract(epoch FROM started_at - (payload ->> 'at')::timestamptz)::float8 AS s,
                 1000 * extract(epoch FROM finished_at - (payload ->> 'at')::timestamptz)::float8 AS d
          FROM ordflow.tasks AS t WHERE t.kind = latency.kind AND t.state = 'succeeded' AND payload ? 'at') AS x;
$$;
