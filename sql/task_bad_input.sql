-- Bad input of tasks: a SQLSTATE, and nothing is changed.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tbad');
CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE sql INTO result;
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE calls (n serial, call text);
INSERT INTO calls (call) VALUES
    ('ordflow.submit_task(''tbad no'')'), ('ordflow.submit_task(NULL)'), ('ordflow.submit_task(''tbad'', NULL)'),
    ('ordflow.submit_task(''tbad'', ''{}'', NULL)'), ('ordflow.submit_task(''tbad'', ''{}'', ''[]'')'),
    ('ordflow.submit_task(''tbad'', ''{}'', ''{"on_finish": "tbad"}'')'), ('ordflow.submit_task(''tbad'', ''{}'', ''{"priority": 10}'')'),
    ('ordflow.submit_task(''tbad'', ''{}'', ''{"priority": -1}'')'), ('ordflow.submit_task(''tbad'', ''{}'', ''{"priority": 1.5}'')'),
    ('ordflow.submit_task(''tbad'', ''{}'', ''{"run_at": "never"}'')'), ('ordflow.submit_task(''tbad'', ''{}'', ''{"run_at": "infinity"}'')'),
    ('ordflow.submit_task(''tbad'', ''{}'', ''{"key": ""}'')'),
    ('ordflow.submit_task(''tbad'', ''{}'', jsonb_build_object(''key'', repeat(''x'', 256)))'),
    ('ordflow.submit_task(''tbad'', ''{}'', ''{"unique_key": "schedule:mine"}'')'),
    ('ordflow.submit_task(''tbad'', to_jsonb(repeat(''x'', 17000000)))'),
    ('ordflow.submit_batch(''tbad no'', ''{}'')'), ('ordflow.submit_batch(''tbad'', NULL)'),
    ('ordflow.submit_batch(''tbad'', ARRAY[''1'', NULL]::jsonb[])'), ('ordflow.submit_batch(''tbad'', ''{}'', ''{"unique_key": "x"}'')'),
    ('ordflow.submit_batch(''tbad'', ''{}'', ''{"on_finish": "tbad no"}'')'),
    ('ordflow.submit_batch(''tbad'', array_fill(''1''::jsonb, ARRAY[1000001]))'),
    ('ordflow.submit_batch(''tbad'', ARRAY[''1'', to_jsonb(repeat(''x'', 17000000))])'),
    ('ordflow.submit_shards(''tbad'', 0)'), ('ordflow.submit_shards(''tbad'', 10001)'), ('ordflow.submit_shards(''tbad'', NULL)'),
    ('ordflow.submit_shards(''tbad'', 2, ''[]'')'), ('ordflow.submit_shards(''tbad'', 2, NULL)'),
    ('ordflow.claim_tasks(''tbad no'')'), ('ordflow.claim_tasks(NULL)'), ('ordflow.claim_tasks(''tbad'', 0)'),
    ('ordflow.claim_tasks(''tbad'', 10001)'), ('ordflow.claim_tasks(''tbad'', NULL)'), ('ordflow.claim_tasks(''tbad'', 1, ''0 s'')'),
    ('ordflow.claim_tasks(''tbad'', 1, ''-1 s'')'), ('ordflow.claim_tasks(''tbad'', 1, ''25 h'')'), ('ordflow.claim_tasks(''tbad'', 1, ''1 month'')'),
    ('ordflow.claim_tasks(''tbad'', 1, NULL, ''61 s'')'), ('ordflow.claim_tasks(''tbad'', 1, NULL, ''-1 s'')'),
    ('ordflow.claim_task(NULL)'), ('ordflow.claim_task(9000000000000)'), ('ordflow.claim_task(1, ''0 s'')'),
    ('ordflow.complete_task(NULL, 1)'), ('ordflow.complete_task(1, NULL)'), ('ordflow.complete_task(9000000000000, 1)'),
    ('ordflow.fail_task(9000000000000, 1, ''x'')'), ('ordflow.fail_task(1, 1, NULL)'), ('ordflow.fail_task(1, 1, ''x'', ''-1 s'')'),
    ('ordflow.extend_task(1, 1, NULL)'), ('ordflow.extend_task(1, 1, ''2 days'')'), ('ordflow.release_task(NULL, NULL)'),
    ('ordflow.wait_batch(NULL, ''1 s'')'), ('ordflow.wait_batch(9000000000000, ''1 s'')'), ('ordflow.wait_batch(1, NULL)'),
    ('ordflow.wait_batch(1, ''61 s'')'), ('ordflow.wait_batch(1, ''-1 s'')'),
    ('ordflow.cancel_task(NULL)'), ('ordflow.cancel_task(9000000000000)'), ('ordflow.cancel_batch(9000000000000)'),
    ('ordflow.retry_task(9000000000000)'), ('ordflow.retry_batch(NULL)'), ('ordflow.retry_batch(9000000000000)');
SELECT pg_temp.try('SELECT ' || call) AS result, left(call, 100) FROM calls ORDER BY n;
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tbad';
SELECT count(*) FROM ordflow.batches WHERE kind = 'tbad';

-- tokens: never given, of another claim, of a claim that has ended
SELECT ordflow.submit_batch('tbad', ARRAY['1', '2']::jsonb[]) AS b \gset
CREATE TEMP TABLE c AS SELECT * FROM ordflow.claim_tasks('tbad', 2);
SELECT a.task_id AS t1, a.token AS k1, b.task_id AS t2, b.token AS k2 FROM c a, c b WHERE a.payload = '1' AND b.payload = '2' \gset
SELECT pg_temp.try(format('SELECT ordflow.complete_task(%s, %s)', t, k)) AS result, what
FROM (VALUES (:t1, 0::bigint, 'zero'), (:t1, -1, 'negative'), (:t1, 1, 'of the past'), (:t1, :k1 + 1000000, 'of the future'), (:t1, :k2, 'of another'),
      (:t2, :k1, 'of another, older'), (:t1, :k1, 'the right one'), (:t1, :k1, 'the right one, again')) AS v (t, k, what);
SELECT pg_temp.try(format('SELECT ordflow.%s', call)) AS result, regexp_replace(call, '\(.*', '') AS call
FROM (VALUES (format('complete_task(%s, %s)', :t1, :k1)), (format('fail_task(%s, %s, ''x'')', :t1, :k1)), (format('release_task(%s, %s)', :t1, :k1)),
      (format('extend_task(%s, %s, ''1 s'')', :t1, :k1)), (format('extend_task(%s, %s, ''1 s'')', :t2, :k2)),
      (format('complete_task(%s, %s, to_jsonb(repeat(''x'', 17000000)))', :t2, :k2)), (format('release_task(%s, %s)', :t2, :k2)),
      (format('complete_task(%s, %s)', :t2, :k2))) AS v (call);
SELECT payload, state FROM ordflow.tasks WHERE batch_id = :b ORDER BY task_id;
