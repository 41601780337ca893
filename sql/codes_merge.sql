-- MERGE on a table with smallint status codes: inserted rows begin in an initial state, updated ones take legal steps.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA cod_mrg;
CREATE TABLE cod_mrg.parcel (no text PRIMARY KEY, status smallint NOT NULL);
CREATE TABLE cod_mrg.carrier (no text, status int);
SELECT ordflow.define_machine('cod_mrg', '{"states": {"0": "initial", "10": "normal", "20": "final", "-1": "final"},
  "transitions": [{"from": "0", "event": "send", "to": "10"}, {"from": "10", "event": "arrive", "to": "20"},
                  {"from": "10", "event": "lose", "to": "-1"}]}');
SELECT ordflow.attach('cod_mrg.parcel', 'cod_mrg', 'status');
INSERT INTO cod_mrg.parcel VALUES ('a', 0), ('b', 0), ('c', 0);
UPDATE cod_mrg.parcel SET status = 10 WHERE no IN ('b', 'c');

CREATE FUNCTION pg_temp.merge() RETURNS void LANGUAGE sql AS $$
MERGE INTO cod_mrg.parcel AS p USING cod_mrg.carrier AS c ON p.no = c.no
WHEN MATCHED AND p.status <> c.status THEN UPDATE SET status = c.status
WHEN MATCHED THEN DO NOTHING
WHEN NOT MATCHED THEN INSERT VALUES (c.no, c.status) $$;

INSERT INTO cod_mrg.carrier VALUES ('a', 10), ('b', 20), ('c', -1), ('d', 0);
SELECT pg_temp.merge();
SELECT pg_temp.merge();
SELECT * FROM cod_mrg.parcel ORDER BY no;

-- one row that may not is all that may not: an arrived parcel is lost, an unknown one arrives
UPDATE cod_mrg.carrier SET status = CASE no WHEN 'a' THEN 20 WHEN 'b' THEN -1 ELSE status END;
SELECT pg_temp.merge();
DELETE FROM cod_mrg.carrier WHERE no = 'b';
INSERT INTO cod_mrg.carrier VALUES ('e', 20);
SELECT pg_temp.merge();
SELECT * FROM cod_mrg.parcel ORDER BY no;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'cod_mrg.parcel' ORDER BY history_id;
ROLLBACK;
