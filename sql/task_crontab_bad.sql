-- What is no schedule is refused: 22023 that names the field and the text.
CREATE FUNCTION pg_temp.refused(schedule text, zone text DEFAULT 'UTC') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ordflow.next_slot(schedule, zone, '2024-01-01');
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END $$;
SELECT schedule, pg_temp.refused(schedule)
FROM unnest(ARRAY['60 * * * *', '-1 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 0 *', '* * * 13 *', '* * * * 8',
                  '61 0 0 1 1 *', '5-1 * * * *', '* * * dec-jan *', '* * * * sat-mon', '1-60 * * * *', '*/0 * * * *', '*/60 * * * *',
                  '*/x * * * *', '1- * * * *', '1,,2 * * * *', ',1 * * * *', '1, * * * *', '/5 * * * *', '1.5 * * * *', '*5 * * * *',
                  '1-5-7 * * * *', '1/2/3 * * * *', '* * * foo *', '* * * january *', '* * * * monday', '* * L-3 * *', '* * LW * *',
                  '* * * * 5L', '* * * * 5#2', '* * 15W * *', '99999999999 * * * *', '* * * *', '* * * * * * *', '@reboot', '@', 'daily',
                  '0 seconds', '3601 seconds', '-5 seconds', '99999999999999999999 seconds', '5 minutes', 'seconds', 'x']) AS schedule;
SELECT pg_temp.refused(''), pg_temp.refused(NULL), pg_temp.refused(repeat('1,', 200) || '1 * * * *');
SELECT zone, pg_temp.refused('@daily', zone) FROM unnest(ARRAY['Mars/Olympus', '', NULL]) AS zone;
SELECT ordflow.next_slot('@daily', 'UTC', NULL);
