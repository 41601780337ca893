-- define_task(): a kind is what it was told to be, or nothing is changed.
\a \t
\set VERBOSITY sqlstate
CREATE SCHEMA tdef;
CREATE FUNCTION tdef.echo(p jsonb) RETURNS jsonb LANGUAGE sql RETURN p;
CREATE FUNCTION tdef.wrong(p text) RETURNS jsonb LANGUAGE sql RETURN '{}'::jsonb;
CREATE FUNCTION tdef.wrong_result(p jsonb) RETURNS text LANGUAGE sql RETURN 'x';
CREATE FUNCTION tdef.many(p jsonb) RETURNS SETOF jsonb LANGUAGE sql RETURN p;
CREATE PROCEDURE tdef.proc(p jsonb) LANGUAGE sql AS 'SELECT 1';

SELECT ordflow.define_task('tdef plain');
SELECT ordflow.define_task('tdef handled', 'tdef.echo(jsonb)');
SELECT ordflow.define_task('tdef all', 'tdef.echo(jsonb)', '{"short": true, "max_concurrent": 4, "per_key": 1, "rate": 12.5, "max_attempts": 7,
  "max_crashes": 2, "backoff": "10 ms", "backoff_max": "1 min", "timeout": "5 s", "retention": "2 d", "notify": true}');
SELECT kind, handler, short, max_concurrent, per_key, rate, max_attempts, max_crashes, backoff, backoff_max, timeout, retention, notify, paused
FROM ordflow.task_kinds WHERE kind LIKE 'tdef%' ORDER BY kind;
SELECT ordflow.is_active('task');

-- replaced: what is not told anew is the default again; a kind that is paused stays so
SELECT ordflow.pause_kind('tdef all'), ordflow.pause_kind('tdef all');
SELECT ordflow.define_task('tdef all', 'tdef.echo(jsonb)', '{"timeout": "0 s"}');
SELECT kind, short, max_concurrent, rate, max_attempts, timeout, notify, paused FROM ordflow.task_kinds WHERE kind = 'tdef all';
SELECT ordflow.resume_kind('tdef all');
SELECT kind, paused FROM ordflow.task_lanes WHERE kind = 'tdef all';

-- a savepoint that is rolled back leaves nothing of it, in this session's memory either
BEGIN;
SAVEPOINT s;
SELECT ordflow.define_task('tdef gone');
SELECT ordflow.submit_task('tdef gone') > 0;
ROLLBACK TO s;
SELECT ordflow.submit_task('tdef gone');
ROLLBACK;
SELECT ordflow.submit_task('tdef gone');

-- wrong handlers
SELECT ordflow.define_task('tdef bad', 'tdef.wrong(text)');
SELECT ordflow.define_task('tdef bad', 'tdef.wrong_result(jsonb)');
SELECT ordflow.define_task('tdef bad', 'tdef.many(jsonb)');
SELECT ordflow.define_task('tdef bad', 'tdef.proc(jsonb)');
SELECT ordflow.define_task('tdef bad', 'tdef.none(jsonb)');
SELECT ordflow.define_task('tdef bad', 4294967295::regprocedure);

-- wrong names and options
SELECT ordflow.define_task(NULL);
SELECT ordflow.define_task('');
SELECT ordflow.define_task(repeat('x', 256));
SELECT ordflow.define_task('tdef bad', NULL, NULL);
SELECT ordflow.define_task('tdef bad', NULL, '[]');
