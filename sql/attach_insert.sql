-- INSERT: initial states only; by the event that creates the object, where the machine has one.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_ins;
CREATE TABLE att_ins.doc (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text DEFAULT 'draft', owner text);
CREATE FUNCTION att_ins.owned(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT object #>> '{row,owner}' IS NOT NULL $$;
CREATE TABLE att_ins.log (line text);
CREATE FUNCTION att_ins.log(object jsonb, args jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO att_ins.log VALUES (concat_ws(' ', object->>'event', object->>'from', object->>'to', object->>'key')) $$;
SELECT ordflow.define_machine('att_ins', '{
  "states": {"draft": "initial", "scan": "initial", "mail": "initial", "filed": "normal"},
  "transitions": [{"from": null, "event": "write", "to": "draft", "effect": "att_ins.log(jsonb,jsonb)"},
    {"from": null, "event": "receive", "to": "mail", "guard": "att_ins.owned(jsonb,jsonb)"},
    {"from": "draft", "event": "file", "to": "filed"}, {"from": "scan", "event": "file", "to": "filed"},
    {"from": "mail", "event": "file", "to": "filed"}]}');
SELECT ordflow.attach('att_ins.doc', 'att_ins', 'status');
INSERT INTO att_ins.doc DEFAULT VALUES;
INSERT INTO att_ins.doc (status) VALUES ('scan');
INSERT INTO att_ins.doc (status, owner) VALUES ('mail', 'ada') RETURNING id, status;
TABLE att_ins.log;

-- a state that is not initial, unknown, none; a guard that refuses
INSERT INTO att_ins.doc (status) VALUES ('filed');
INSERT INTO att_ins.doc (status) VALUES ('new');
INSERT INTO att_ins.doc (status) VALUES ('');
INSERT INTO att_ins.doc (status) VALUES (NULL);
INSERT INTO att_ins.doc (status) VALUES ('mail');
INSERT INTO att_ins.doc (status) VALUES ('draft'), ('scan'), ('filed');
INSERT INTO att_ins.doc (status) SELECT 'scan' FROM generate_series(1, 3);
SELECT status, count(*) FROM att_ins.doc GROUP BY 1 ORDER BY 1;
SELECT h.event, h.from_state, h.to_state, count(*), bool_and(d.id IS NOT NULL) AS key_is_there
FROM ordflow.object_history h LEFT JOIN att_ins.doc d ON d.id::text = h.key
WHERE target = 'att_ins.doc' GROUP BY 1, 2, 3 ORDER BY 1;

-- ordflow.event chooses between two events that create the same state
SELECT ordflow.define_machine('att_ins', '{"states": {"draft": "initial", "filed": "normal", "scan": "normal", "mail": "normal"},
  "transitions": [{"from": null, "event": "write", "to": "draft"}, {"from": null, "event": "copy", "to": "draft"},
                  {"from": "draft", "event": "file", "to": "filed"}]}');
INSERT INTO att_ins.doc DEFAULT VALUES;
SET LOCAL ordflow.event = 'copy';
INSERT INTO att_ins.doc DEFAULT VALUES;
SELECT event FROM ordflow.object_history WHERE target = 'att_ins.doc' ORDER BY history_id DESC LIMIT 2;
ROLLBACK;
