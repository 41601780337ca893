-- Whether workers may act in this database: the first thing created says so by itself, activate() and deactivate() say so for good.
\set VERBOSITY sqlstate
BEGIN;
DELETE FROM ordflow.activation;
SELECT ordflow.is_active('timer') AS fresh, ordflow.is_active('fold') AS fold;

-- nothing but an order, a hold with a deadline or attach() activates the timer; the first movement activates the fold
SELECT ordflow.receive_stock('activation', 10) > 0 AS received;
SELECT ordflow.reserve_stock('activation', '[{"sku": "activation", "quantity": 1}]');
SELECT ordflow.is_active('timer') AS still_fresh, ordflow.is_active('fold') AS by_movement;
SAVEPOINT before;
SELECT ordflow.submit_order('activation', '[{"sku": "activation", "quantity": 1, "unit_price": 1}]') > 0 AS submitted;
SELECT ordflow.is_active('timer') AS by_order;
SELECT part, database = (SELECT oid FROM pg_database WHERE datname = current_database()) AS ours, active, automatic, actor = session_user AS actor
FROM ordflow.activation ORDER BY part;
SELECT ordflow.submit_order('activation', '[{"sku": "activation", "quantity": 1, "unit_price": 1}]') > 0 AS submitted;
SELECT part, count(*) AS once FROM ordflow.activation GROUP BY part ORDER BY part;
ROLLBACK TO before;
SELECT ordflow.is_active('timer') AS rolled_back;
SELECT ordflow.reserve_stock('activation 2', '[{"sku": "activation", "quantity": 1}]', clock_timestamp() + interval '1 day');
SELECT ordflow.is_active('timer') AS by_hold;
ROLLBACK TO before;
SELECT ordflow.define_machine('activation', '{"states": {"new": "initial", "old": "final"},
    "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 day"}]}');
CREATE TABLE activation_objects (id int PRIMARY KEY, state text NOT NULL DEFAULT 'new', due timestamptz);
CREATE INDEX ON activation_objects (due);
SELECT ordflow.attach('activation_objects', 'activation', 'state', due_column => 'due');
SELECT ordflow.is_active('timer') AS by_attach;
ROLLBACK TO before;
SELECT result FROM ordflow.submit_orders('[{"customer": "activation", "lines": [{"sku": "activation", "quantity": 1, "unit_price": 1}]}]');
SELECT ordflow.is_active('timer') AS by_bulk;
ROLLBACK TO before;

-- a copy: the row is another database's
DELETE FROM ordflow.activation WHERE part = 'fold';
INSERT INTO ordflow.activation (part, database, active, automatic, at, actor) VALUES ('timer', 1, true, false, now(), 'original');
SELECT ordflow.is_active('timer') AS copied;
SELECT worker, state, problem IS NOT NULL AS problem, fix FROM ordflow.workers WHERE state = 'inactive';

-- said by somebody, it counts more than what comes by itself, before or after
SELECT ordflow.deactivate();
SELECT ordflow.submit_order('activation', '[{"sku": "activation", "quantity": 1, "unit_price": 1}]') > 0 AS submitted;
INSERT INTO ordflow.activation (part, database, active, automatic, at, actor)
SELECT part, database, true, true, at, actor FROM ordflow.activation WHERE database > 1;
SELECT ordflow.is_active('timer') AS deactivated;
SELECT ordflow.activate();
SELECT ordflow.is_active('timer') AS activated;
SELECT ordflow.deactivate();
SELECT ordflow.is_active('timer') AS the_last_counts;
TRUNCATE ordflow.activation;
SELECT ordflow.is_active('timer') AS truncated;
ROLLBACK;

-- bad input
SELECT ordflow.is_active(NULL);
SELECT ordflow.is_active('');
SELECT ordflow.is_active('stock');
BEGIN READ ONLY;
SELECT ordflow.activate();
ROLLBACK;
CREATE ROLE activation_nobody;
SET ROLE activation_nobody;
SELECT ordflow.activate();
SELECT ordflow.deactivate();
SELECT ordflow.is_active('timer');
SELECT * FROM ordflow.workers;
RESET ROLE;
SELECT ordflow.grant_access('activation_nobody', 'read');
SET ROLE activation_nobody;
SELECT ordflow.is_active('timer') IS NOT NULL AS may_read;
SELECT count(*) > 0 AS may_read FROM ordflow.workers;
SELECT ordflow.activate();
RESET ROLE;
SELECT ordflow.grant_access('activation_nobody', 'admin');
SET ROLE activation_nobody;
BEGIN;
SELECT ordflow.deactivate();
SELECT ordflow.is_active('timer') AS as_admin;
ROLLBACK;
RESET ROLE;
SELECT ordflow.revoke_access('activation_nobody', 'admin');
SELECT ordflow.revoke_access('activation_nobody', 'read');
DROP ROLE activation_nobody;
