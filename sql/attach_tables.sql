-- Tables of several kinds: temporary, unlogged, with children, behind a view.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA att_tab;
SET LOCAL client_min_messages = warning;
SELECT ordflow.define_machine('att_tab', '{"states": {"a": "initial", "b": "normal"}, "transitions": [{"from": "a", "event": "go", "to": "b", "after": "1 h"}]}');
CREATE TEMP TABLE temporary (id int PRIMARY KEY, s text, d timestamptz);
CREATE UNLOGGED TABLE att_tab.unlogged (id int PRIMARY KEY, s text, d timestamptz);
SELECT ordflow.attach(t, 'att_tab', 's', due_column => 'd') FROM unnest('{temporary,att_tab.unlogged}'::regclass[]) t;
INSERT INTO temporary VALUES (1, 'a'), (2, 'a');
INSERT INTO att_tab.unlogged VALUES (1, 'a'), (2, 'a');
SELECT ordflow.fire('temporary', '1', 'go'), ordflow.fire('att_tab.unlogged', '1', 'go');
UPDATE temporary SET s = 'c';
UPDATE temporary SET d = clock_timestamp() WHERE id = 2;
UPDATE att_tab.unlogged SET d = clock_timestamp() WHERE id = 2;
SELECT ordflow.run_due();
SELECT t.id, t.s, u.s FROM temporary t JOIN att_tab.unlogged u USING (id) ORDER BY id;

-- through a view: its columns are those of the table
CREATE VIEW att_tab.view AS SELECT id, s AS state FROM att_tab.unlogged;
INSERT INTO att_tab.view VALUES (3, 'a');
INSERT INTO att_tab.view VALUES (4, 'b');
UPDATE att_tab.view SET state = 'b' WHERE id = 3;
UPDATE att_tab.view SET state = 'a' WHERE id = 3;
SELECT ordflow.fire('att_tab.view', '3', 'go');

-- the machine of a parent is not that of its children
CREATE TABLE att_tab.parent (id int PRIMARY KEY, s text, d timestamptz);
CREATE TABLE att_tab.child (PRIMARY KEY (id)) INHERITS (att_tab.parent);
SELECT ordflow.attach('att_tab.parent', 'att_tab', 's', due_column => 'd');
INSERT INTO att_tab.parent VALUES (1, 'a');
INSERT INTO att_tab.child VALUES (1, 'anything', now()), (2, 'a', now());
SELECT ordflow.fire('att_tab.parent', '2', 'go');
SELECT ordflow.fire('att_tab.parent', '1', 'go');
SELECT ordflow.run_due();
SELECT tableoid::regclass, id, s FROM att_tab.parent ORDER BY 1, 2;

-- a rule that does something else instead is noticed
CREATE RULE no AS ON UPDATE TO att_tab.parent DO INSTEAD NOTHING;
INSERT INTO att_tab.parent VALUES (5, 'a');
SELECT ordflow.fire('att_tab.parent', '5', 'go');
SELECT s FROM ONLY att_tab.parent WHERE id = 5;
ROLLBACK;
