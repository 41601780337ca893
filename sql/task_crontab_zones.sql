-- Schedules where clocks change: a time that does not exist comes when they have gone forward, one that comes twice counts once,
-- but where every hour matches it is real time that counts.
CREATE FUNCTION pg_temp.slots(schedule text, zone text, after timestamptz, n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text[];
BEGIN
    FOR i IN 1..n LOOP
        after := ordflow.next_slot(schedule, zone, after);
        result := result || to_char(after AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS');
    END LOOP;
    RETURN array_to_string(result, ', ');
END $$;
SET timezone = 'UTC';
-- Berlin: 2024-03-31 01:00 UTC, 2:00 becomes 3:00; 2024-10-27 01:00 UTC, 3:00 becomes 2:00
SELECT pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2024-03-30 00:00+00', 3) AS gap;
SELECT pg_temp.slots('*/15 2 * * *', 'Europe/Berlin', '2024-03-31 00:00+00', 2) AS gap_once;
SELECT pg_temp.slots('0 2,3 * * *', 'Europe/Berlin', '2024-03-31 00:00+00', 2) AS gap_and_its_end;
SELECT pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2024-03-31 01:00+00', 1) AS after_gap;
SELECT pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2024-10-26 12:00+00', 2) AS twice;
SELECT pg_temp.slots('30 2 * * *', 'Europe/Berlin', '2024-10-27 00:45+00', 1) AS twice_between;
SELECT pg_temp.slots('*/30 2 * * *', 'Europe/Berlin', '2024-10-27 00:00+00', 3) AS twice_many;
SELECT pg_temp.slots('0 3 * * *', 'Europe/Berlin', '2024-10-27 00:00+00', 1) AS end_of_both;
SELECT pg_temp.slots('30 * * * *', 'Europe/Berlin', '2024-03-31 00:00+00', 3) AS hourly_gap;
SELECT pg_temp.slots('30 * * * *', 'Europe/Berlin', '2024-10-26 23:45+00', 3) AS hourly_twice;
-- Sao Paulo 2018: midnight of 4 November does not exist; 2018-02-18 has its last hour twice
SELECT pg_temp.slots('@daily', 'America/Sao_Paulo', '2018-11-03 12:00+00', 2) AS midnight_gone;
SELECT pg_temp.slots('30 23 * * *', 'America/Sao_Paulo', '2018-02-17 12:00+00', 2) AS before_midnight_twice;
-- Lord Howe: half an hour
SELECT pg_temp.slots('15 2 * * *', 'Australia/Lord_Howe', '2024-10-05 00:00+00', 2) AS half_gap;
SELECT pg_temp.slots('45 1 * * *', 'Australia/Lord_Howe', '2024-04-06 00:00+00', 2) AS half_twice;
SELECT pg_temp.slots('*/20 * * * *', 'Australia/Lord_Howe', '2024-10-05 15:00+00', 4) AS half_hourly;
-- Samoa left out 30 December 2011
SELECT pg_temp.slots('0 12 * * *', 'Pacific/Apia', '2011-12-29 12:00+00', 3) AS day_gone;
-- fixed offsets, the setting of the session does not count
SET timezone = 'Asia/Tokyo';
SELECT pg_temp.slots('0 9 * * *', '<-03>3', '2024-01-01 00:00+00', 1) AS fixed;
SELECT pg_temp.slots('0 9 * * 1', 'Asia/Kathmandu', '2024-01-01 03:00+00', 2) AS quarters;
-- a year of them is in order, and each of them is there once
SELECT zone, count(*), count(*) FILTER (WHERE next <= after) AS backwards
FROM unnest(ARRAY['Europe/Berlin', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Africa/Casablanca', 'UTC']) AS zone,
     LATERAL (WITH RECURSIVE s AS (SELECT timestamptz '2018-01-01 00:00+00' AS after, ordflow.next_slot('30 2 * * *', zone, '2018-01-01 00:00+00') AS next
                                   UNION ALL SELECT next, ordflow.next_slot('30 2 * * *', zone, next) FROM s WHERE next < '2019-01-01 00:00+00')
              SELECT * FROM s WHERE next < '2019-01-01 00:00+00') AS t
GROUP BY zone ORDER BY zone COLLATE "C";
