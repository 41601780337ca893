-- What a trigger of an attached table sets is set back when the step is over, whoever fires it: a search_path that stays would
-- have statements of ours, and of the caller, find the functions and operators of somebody else.
\set VERBOSITY sqlstate
CREATE ROLE settings_owner;
CREATE SCHEMA settings AUTHORIZATION settings_owner;
SELECT ordflow.define_machine('settings', '{"states": {"new": "initial", "old": "final"},
    "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 microsecond"}]}');
SET ROLE settings_owner;
CREATE TABLE settings.object (id text PRIMARY KEY, state text NOT NULL DEFAULT 'new', due timestamptz);
CREATE INDEX ON settings.object (due);
CREATE FUNCTION settings.take_over() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'settings, pg_catalog', false), set_config('default_transaction_read_only', 'on', false);
    RETURN NEW;
END $$;
CREATE TRIGGER take_over BEFORE UPDATE ON settings.object FOR EACH ROW EXECUTE FUNCTION settings.take_over();
RESET ROLE;
SELECT ordflow.attach('settings.object', 'settings', 'state', due_column => 'due');
INSERT INTO settings.object (id) VALUES ('1'), ('2');

CREATE TEMP VIEW now_set AS SELECT current_setting('search_path') AS path, current_setting('default_transaction_read_only') AS read_only;
SELECT * FROM now_set;
SELECT ordflow.run_due() > 0 AS fired;
SELECT * FROM now_set;
SELECT state, count(*) FROM settings.object GROUP BY state;
INSERT INTO settings.object (id) VALUES ('3');
SELECT ordflow.fire('settings.object', '3', 'age');
SELECT * FROM now_set;

-- a plain UPDATE runs triggers as PostgreSQL does
BEGIN;
INSERT INTO settings.object (id) VALUES ('4');
UPDATE settings.object SET state = 'old' WHERE id = '4';
SELECT * FROM now_set;
ROLLBACK;

SELECT ordflow.detach('settings.object');
DROP SCHEMA settings CASCADE;
DROP ROLE settings_owner;
DELETE FROM ordflow.transitions WHERE machine = 'settings';
DELETE FROM ordflow.states WHERE machine = 'settings';
DELETE FROM ordflow.machines WHERE machine = 'settings';
