\set ECHO none
-- sql/include/slots.sql: what the tests of the output plugin share. A slot is the cluster's, and
-- so has the test's name; what a run would change is masked.

-- what the slot :slot has to tell, read to its end; options by name and value
CREATE FUNCTION pg_temp.told(slot name, VARIADIC options text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(data,
           '"(lsn|commit_lsn|committed_at)":("[^"]+"|\d+)', '"\1":*', 'g'),
           '"(xid|top_xid|txId|ts|es|ts_ms|ts_us|ts_ns|version)":("[^"]+"|\d+)', '"\1":*', 'g'),
           '"sequence":"([^"]|\\")*"', '"sequence":*', 'g'),
           '"id":("\d+:\d+"|\d{6,})', '"id":*', 'g')
FROM pg_logical_slot_get_changes(slot, NULL, NULL, VARIADIC options)
$$;

-- the same of Debezium's without what all its messages have
CREATE FUNCTION pg_temp.told_rows(slot name, VARIADIC options text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE sql AS $$
SELECT regexp_replace(data, ',"source":.*?,"op":("."),"ts_ms":.*?"transaction":null}', ',"op":\1}')
FROM pg_logical_slot_get_changes(slot, NULL, NULL, VARIADIC ARRAY['format', 'debezium'] || options)
$$;

-- one that a broken run left
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = :'slot';
SELECT 'made' AS made FROM pg_create_logical_replication_slot(:'slot', 'ordflow') \gset
\set ECHO all
