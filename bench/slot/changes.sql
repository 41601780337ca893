-- bench/slot/changes.sql: what is decoded; as bench/slot/run, needs :rows.
CREATE TABLE ev (id bigint PRIMARY KEY, customer bigint, state text, total numeric(12, 2), note text, created_at timestamptz);
CREATE PUBLICATION peers FOR TABLE ev;
SELECT pg_create_logical_replication_slot(plugin, plugin) FROM unnest(regexp_split_to_array(:'plugins', ' ')) AS plugin;
INSERT INTO ev SELECT g, g % 1000, 'pending_payment', (g % 10000) / 100.0, 'note ' || g, now() FROM generate_series(1, :rows) AS g;
UPDATE ev SET state = 'paid' WHERE id <= :rows * 2 / 3;
