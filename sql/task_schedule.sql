-- schedule_task(): what it takes, and what the view shows; when it fires is told by test/t.
\a \t
\set VERBOSITY sqlstate
SET TimeZone = 'Europe/Berlin';
SELECT ordflow.define_task('tsch');
SELECT ordflow.schedule_task('tsch nightly', '30 2 * * *', 'tsch', '{"what": "report"}');
SELECT ordflow.schedule_task('tsch often', '10 seconds', 'tsch', '{}', '{"misfire": "all", "overlap": "queue", "time_zone": "Asia/Shanghai"}');
SELECT name, schedule, kind, payload, time_zone, misfire, overlap, owner = current_user AS mine, last_task, pending, state,
  next_slot > clock_timestamp() AS later FROM ordflow.schedules WHERE name LIKE 'tsch%' ORDER BY name;
SELECT to_char(next_slot AT TIME ZONE 'Europe/Berlin', 'HH24:MI:SS') FROM ordflow.schedules WHERE name = 'tsch nightly';

-- the same name replaces
SELECT ordflow.schedule_task('tsch nightly', '@hourly', 'tsch');
SELECT name, schedule, payload, misfire FROM ordflow.schedules WHERE name = 'tsch nightly';
SELECT ordflow.unschedule_task('tsch often'), ordflow.unschedule_task('tsch often'), ordflow.unschedule_task('tsch never');

SELECT ordflow.schedule_task(NULL, '@daily', 'tsch');
SELECT ordflow.schedule_task('', '@daily', 'tsch');
SELECT ordflow.schedule_task('tsch bad', NULL, 'tsch');
SELECT ordflow.schedule_task('tsch bad', '61 * * * *', 'tsch');
SELECT ordflow.schedule_task('tsch bad', '0 0 30 2 *', 'tsch');
SELECT ordflow.schedule_task('tsch bad', 'every day', 'tsch');
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch no');
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch', NULL);
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch', '{}', '{"time_zone": "Mars/Phobos"}');
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch', '{}', '{"misfire": "maybe"}');
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch', '{}', '{"overlap": "maybe"}');
SELECT ordflow.schedule_task('tsch bad', '@daily', 'tsch', '{}', '{"colour": "red"}');
SELECT ordflow.unschedule_task(NULL);
SELECT count(*) FROM ordflow.task_schedules WHERE name = 'tsch bad';
SELECT ordflow.unschedule_task('tsch nightly');
