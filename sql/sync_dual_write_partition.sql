-- dual_write: a partitioned source, whose partitions have their columns in an order of their own, and a partitioned target.
\a \t
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.orders (gone int, id int, region text, price numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
ALTER TABLE dual.orders DROP COLUMN gone;
CREATE TABLE dual.north PARTITION OF dual.orders FOR VALUES IN ('north');
CREATE TABLE dual.south (price numeric, extra int, region text NOT NULL, id int NOT NULL);
ALTER TABLE dual.south DROP COLUMN extra;
ALTER TABLE dual.orders ATTACH PARTITION dual.south FOR VALUES IN ('south');
CREATE TABLE dual.copy (region text, total numeric, id int, whole jsonb, PRIMARY KEY (id, region)) PARTITION BY HASH (id);
CREATE TABLE dual.copy0 PARTITION OF dual.copy FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE dual.copy1 PARTITION OF dual.copy FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT ordflow.create_sync('dual_partition', source => 'dual.orders', target => 'dual.copy', mode => 'dual_write', options =>
    '{"columns": {"id": "id", "region": "region", "total": "orders.price * 2", "whole": "pg_catalog.to_jsonb(orders) - ''id''"}, "key": ["region", "id"]}');
CREATE VIEW dual.look AS SELECT id, region, total, whole FROM dual.copy ORDER BY 1, 2;

INSERT INTO dual.orders VALUES (1, 'north', 1), (2, 'south', 2), (3, 'south', 3);
TABLE dual.look;
-- within a partition, to another one with and without its key, through the partition itself
UPDATE dual.orders SET price = price + 1;
TABLE dual.look;
UPDATE dual.orders SET region = CASE region WHEN 'north' THEN 'south' ELSE 'north' END, id = id + 10;
TABLE dual.look;
UPDATE dual.south SET price = 7;
DELETE FROM dual.north WHERE id = 12;
TABLE dual.look;

-- a partition that comes later
CREATE TABLE dual.west (LIKE dual.orders INCLUDING ALL);
ALTER TABLE dual.orders ATTACH PARTITION dual.west FOR VALUES IN ('west');
INSERT INTO dual.orders VALUES (4, 'west', 4);
UPDATE dual.orders SET region = 'west' WHERE id = 11;
TABLE dual.look;
-- and goes: its rows stay in the target, and are written no more
ALTER TABLE dual.orders DETACH PARTITION dual.west;
UPDATE dual.west SET price = 99;
SELECT * FROM dual.look WHERE region = 'west';
ALTER TABLE dual.orders ATTACH PARTITION dual.west FOR VALUES IN ('west');
UPDATE dual.orders SET price = price + 1 WHERE region = 'west';
TABLE dual.look;

-- an earlier trigger changes the row again, in another partition
CREATE FUNCTION dual.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dual.orders SET region = 'south', price = 50 WHERE id = NEW.id AND region = 'north' AND price = 49;
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT OR UPDATE ON dual.orders FOR EACH ROW EXECUTE FUNCTION dual.again();
INSERT INTO dual.orders VALUES (5, 'north', 49);
UPDATE dual.orders SET price = 49 WHERE id = 13;
TABLE dual.look;
SELECT id, region, price FROM dual.orders ORDER BY 1, 2;

TRUNCATE dual.orders;
SELECT count(*) FROM dual.copy;
SELECT ordflow.drop_sync('dual_partition');
SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text IN ('dual.orders', 'dual.south', 'dual.north') AND tgname LIKE '~ordflow%';
ROLLBACK;
