-- MERGE: inserted rows begin in an initial state, updated ones take legal steps.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_mrg;
CREATE TABLE att_mrg.item (id int PRIMARY KEY, status text);
CREATE TABLE att_mrg.feed (id int, status text);
SELECT ordflow.define_machine('att_mrg', '{"states": {"new": "initial", "live": "normal", "gone": "final"},
  "transitions": [{"from": "new", "event": "publish", "to": "live"}, {"from": "live", "event": "remove", "to": "gone"}]}');
SELECT ordflow.attach('att_mrg.item', 'att_mrg', 'status');
INSERT INTO att_mrg.item VALUES (1, 'new'), (2, 'new'), (3, 'new');
UPDATE att_mrg.item SET status = 'live' WHERE id = 2;

CREATE FUNCTION pg_temp.merge() RETURNS void LANGUAGE sql AS $$
MERGE INTO att_mrg.item i USING att_mrg.feed f ON i.id = f.id
WHEN MATCHED AND f.status = 'delete' THEN DELETE
WHEN MATCHED THEN UPDATE SET status = f.status
WHEN NOT MATCHED THEN INSERT VALUES (f.id, f.status) $$;

INSERT INTO att_mrg.feed VALUES (1, 'live'), (2, 'gone'), (3, 'delete'), (4, 'new'), (5, 'new');
SELECT pg_temp.merge();
SELECT * FROM att_mrg.item ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_mrg.item' ORDER BY history_id DESC LIMIT 4;

-- one row that may not is all that may not
TRUNCATE att_mrg.feed;
INSERT INTO att_mrg.feed VALUES (1, 'gone'), (4, 'gone');
SELECT pg_temp.merge();
TRUNCATE att_mrg.feed;
INSERT INTO att_mrg.feed VALUES (1, 'gone'), (6, 'live');
SELECT pg_temp.merge();
SELECT * FROM att_mrg.item ORDER BY id;
ROLLBACK;
