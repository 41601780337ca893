-- Who may: attach asks for the table's owner; an UPDATE asks for what UPDATE asks for and nothing of ordflow.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_rol;
CREATE ROLE regress_att_owner;
CREATE ROLE regress_att_clerk;
GRANT USAGE, CREATE ON SCHEMA att_rol TO regress_att_owner;
GRANT USAGE ON SCHEMA att_rol TO regress_att_clerk;
SELECT ordflow.grant_access('regress_att_owner', 'admin');
CREATE TABLE att_rol.strange (id int PRIMARY KEY, status text);
SET ROLE regress_att_owner;
CREATE TABLE att_rol.bill (id int PRIMARY KEY, status text);
CREATE TABLE att_rol.log (who text, line text);
CREATE FUNCTION att_rol.log(o jsonb, a jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO att_rol.log VALUES (current_user, o->>'event') $$;
SELECT ordflow.define_machine('att_rol', '{"states": {"open": "initial", "paid": "final"}, "transitions": [
  {"from": "open", "event": "pay", "to": "paid", "effect": "att_rol.log(jsonb,jsonb)"}]}');
SELECT ordflow.attach('att_rol.strange', 'att_rol', 'status');
SELECT ordflow.detach('att_rol.strange');
SELECT ordflow.attach('att_rol.bill', 'att_rol', 'status');
GRANT SELECT, INSERT, UPDATE (status) ON att_rol.bill TO regress_att_clerk;

-- the clerk has no right to schema ordflow, nor to the owner's log
SET ROLE regress_att_clerk;
SET ordflow.actor = 'clerk 7';
INSERT INTO att_rol.bill VALUES (1, 'open'), (2, 'open');
UPDATE att_rol.bill SET status = 'paid' WHERE id = 1;
UPDATE att_rol.bill SET status = 'open' WHERE id = 1;
SELECT ordflow.fire('att_rol.bill', '2', 'pay');
SELECT ordflow.attach('att_rol.bill', 'att_rol', 'status');
SELECT ordflow.detach('att_rol.bill');
SELECT * FROM ordflow.object_history;
ALTER TABLE att_rol.bill DISABLE TRIGGER USER;
RESET ROLE;
TABLE att_rol.log;
SELECT key, event, actor FROM ordflow.object_history WHERE target = 'att_rol.bill' ORDER BY history_id;

-- nobody writes the history or calls our triggers himself
SET ROLE regress_att_owner;
INSERT INTO ordflow.object_history (target, key, event, to_state, actor, at) VALUES ('att_rol.bill', '2', 'pay', 'paid', 'me', now());
CREATE TRIGGER mine AFTER UPDATE ON att_rol.log FOR EACH ROW EXECUTE FUNCTION ordflow.machine_changed('order', 'who', 'line', '');
SELECT ordflow.detach('att_rol.bill');
RESET ROLE;

-- it takes a superuser to put such a trigger anywhere else; then it says how it is to be called
CREATE TRIGGER mine BEFORE UPDATE ON att_rol.log FOR EACH ROW EXECUTE FUNCTION ordflow.machine_changed('order', 'who', 'line', '');
INSERT INTO att_rol.log VALUES ('x', 'y');
UPDATE att_rol.log SET line = 'z';
SELECT ordflow.machine_changed();
ROLLBACK;
