-- dual_write: whatever changes the source, the target has changed in the same statement.
\a \t
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.customers (id int PRIMARY KEY);
INSERT INTO dual.customers VALUES (1), (2);
CREATE TABLE dual.orders (id int PRIMARY KEY, price numeric, quantity int, note text,
    customer int DEFAULT 1 REFERENCES dual.customers ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE dual.orders_copy (made serial, id int PRIMARY KEY, total numeric(10, 2), customer text, seen boolean DEFAULT false);
SELECT ordflow.create_sync('dual_orders', source => 'dual.orders', target => 'dual.orders_copy', mode => 'dual_write',
    options => '{"columns": {"total": "price * quantity", "id": "id", "customer": "''c'' || customer"}, "filter": "price > 0", "key": ["id"]}');
CREATE VIEW dual.copy AS SELECT id, total, customer FROM dual.orders_copy ORDER BY id;

-- INSERT, UPDATE, DELETE; the filter is told of rows that come and go
INSERT INTO dual.orders SELECT i, i - 1, 2 FROM generate_series(1, 4) AS i;
TABLE dual.copy;
UPDATE dual.orders SET price = CASE id WHEN 1 THEN 9 WHEN 2 THEN 0 WHEN 3 THEN NULL ELSE 5 END;
TABLE dual.copy;
DELETE FROM dual.orders WHERE id IN (1, 2);
TABLE dual.copy;

-- a key that changes
UPDATE dual.orders SET id = 40, quantity = 1 WHERE id = 4;
TABLE dual.copy;
UPDATE dual.orders SET id = 30, price = 1 WHERE id = 3;
TABLE dual.copy;

-- an expression is not asked about a row that the filter leaves out
SELECT ordflow.drop_sync('dual_orders');
SELECT ordflow.create_sync('dual_orders', source => 'dual.orders', target => 'dual.orders_copy', mode => 'dual_write',
    options => '{"columns": {"total": "price / quantity", "id": "id", "customer": "customer"}, "filter": "quantity <> 0", "key": ["id"]}');
INSERT INTO dual.orders VALUES (5, 10, 0), (6, 10, 3);
UPDATE dual.orders SET quantity = 4 WHERE id = 5;
UPDATE dual.orders SET quantity = 0 WHERE id = 6;
TABLE dual.copy;

-- what the copy has of its own stays, and nothing is written where nothing that is copied changes
UPDATE dual.orders_copy SET seen = true;
CREATE TEMP TABLE before AS SELECT id, ctid AS place FROM dual.orders_copy;
UPDATE dual.orders SET note = 'looked at';
SELECT count(*) FROM before JOIN dual.orders_copy c USING (id) WHERE c.ctid = place;
UPDATE dual.orders SET price = price + 1;
SELECT count(*), sum(total), bool_and(seen) FROM dual.orders_copy;

-- ON CONFLICT, MERGE, COPY, a writing CTE
INSERT INTO dual.orders VALUES (5, 100, 1), (7, 100, 1) ON CONFLICT (id) DO UPDATE SET price = 200;
INSERT INTO dual.orders VALUES (5, 999, 1) ON CONFLICT DO NOTHING;
TABLE dual.copy;
MERGE INTO dual.orders o USING (VALUES (7), (8), (30)) AS v (id) ON o.id = v.id
    WHEN MATCHED AND o.id = 7 THEN DELETE WHEN MATCHED THEN UPDATE SET price = 3, quantity = 1
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, 80, 1);
COPY dual.orders (id, price, quantity, customer) FROM stdin;
9	90	1	2
10	100	1	2
\.
WITH gone AS (DELETE FROM dual.orders WHERE id = 40 RETURNING id, price)
INSERT INTO dual.orders SELECT id + 1, price, 1 FROM gone;
TABLE dual.copy;

-- foreign keys that change or delete rows of the source
UPDATE dual.customers SET id = 22 WHERE id = 2;
SELECT DISTINCT customer FROM dual.copy WHERE id IN (9, 10);
DELETE FROM dual.customers WHERE id = 22;
TABLE dual.copy;

-- a savepoint takes both back
SAVEPOINT s;
UPDATE dual.orders SET price = 0;
ROLLBACK TO s;
TABLE dual.copy;

-- what the target refuses fails the statement
ALTER TABLE dual.orders_copy ADD CHECK (total < 1000);
SAVEPOINT s;
\set VERBOSITY sqlstate
UPDATE dual.orders SET price = 1000;
\set VERBOSITY default
ROLLBACK TO s;
SELECT max(price) < 1000 FROM dual.orders;

-- TRUNCATE, also by whom a reference keeps from it
TRUNCATE dual.orders;
SELECT count(*) FROM dual.copy;
INSERT INTO dual.orders VALUES (1, 1, 1);
CREATE TABLE dual.refers (id int REFERENCES dual.orders_copy);
TRUNCATE dual.orders;
SELECT count(*) FROM dual.copy;

-- the target may be renamed
ALTER TABLE dual.orders_copy RENAME TO renamed;
INSERT INTO dual.orders VALUES (1, 1, 1);
TABLE dual.copy;
-- without it the source is as it was; without the sync the target stays
DROP TABLE dual.renamed CASCADE;
UPDATE dual.orders SET price = 2;
TRUNCATE dual.orders;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'dual.orders'::regclass AND NOT tgisinternal;
SELECT ordflow.drop_sync('dual_orders');
ROLLBACK;
