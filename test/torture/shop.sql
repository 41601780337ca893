-- test/torture/shop.sql: skus s1 .. s64 with a few units each, coupons with few uses, and the schema
-- torture: what clients have written down, and a look at the counters from outside.
CREATE EXTENSION ordflow;
-- one by one, as there may be few counters
SELECT format('SELECT ordflow.receive_stock(%L, %s, reference => %L)', 's' || i, 2 + i % 8, 'the beginning')
FROM generate_series(1, 64) AS i \gexec
SELECT ordflow.receive_stock('plenty', 1000000000);
SELECT ordflow.create_coupon('FEW', 'percent', 10, '{"usage_limit": 6}'),
	ordflow.create_coupon('EACH', 'percent', 10, '{"usage_limit": 20, "per_customer": 2}'),
	ordflow.create_coupon('MOVING', 'percent', 10, '{"usage_limit": 10}');

CREATE SCHEMA torture;

-- One row a call and what became of it. mark: T tried, A acknowledged, R rolled back for certain; so
-- a T alone is a call of which nobody knows. tag: told to ordflow with the call, unique.
CREATE TABLE torture.log (
	client int NOT NULL,
	mark text NOT NULL,
	verb text NOT NULL,
	tag text NOT NULL,
	target text,			-- the order, the reference of the hold, the key of the submit
	answer text
);
CREATE INDEX ON torture.log (tag);
CREATE INDEX ON torture.log (target);

-- What can be had of every sku and coupon, tried out; a row for each that is not what rows say. It
-- changes nothing: each attempt is rolled back.
CREATE FUNCTION torture.probe() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	s record;
	c record;
	got bigint;
	problem jsonb;
	detail text;
BEGIN
	FOR s IN SELECT l.sku, l.on_hand - l.reserved + COALESCE((SELECT sum(q.quantity)
			FROM ordflow.holds h JOIN ordflow.hold_lines q USING (reference) JOIN ordflow.stock k USING (stock_id)
			WHERE h.state = 'held' AND h.expires_at <= clock_timestamp() AND k.sku = l.sku), 0) AS units
		FROM ordflow.stock_levels l WHERE l.sku <> 'plenty' ORDER BY l.sku
	LOOP
		got := ordflow.available_stock(s.sku);
		IF got <> s.units THEN
			RETURN NEXT format('%s: available_stock() is %s, the rows make %s', s.sku, got, s.units);
		END IF;
		BEGIN
			PERFORM ordflow.reserve_stock('probe', jsonb_build_array(jsonb_build_object('sku', s.sku, 'quantity', s.units + 1)));
			RETURN NEXT format('%s: %s units could be had, the rows have %s', s.sku, s.units + 1, s.units);
			RAISE SQLSTATE 'ROLLB';
		EXCEPTION
		WHEN SQLSTATE 'ROLLB' THEN NULL;
		WHEN SQLSTATE 'OF002' THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
			problem := detail::jsonb -> 0;
			IF (problem ->> 'available')::bigint <> s.units OR problem ? 'in_flight' THEN
				RETURN NEXT format('%s: %s, the rows make %s', s.sku, problem, s.units);
			END IF;
		END;
		CONTINUE WHEN s.units = 0;
		BEGIN
			PERFORM ordflow.reserve_stock('probe', jsonb_build_array(jsonb_build_object('sku', s.sku, 'quantity', s.units)));
			RAISE SQLSTATE 'ROLLB';
		EXCEPTION
		WHEN SQLSTATE 'ROLLB' THEN NULL;
		WHEN SQLSTATE 'OF002' THEN
			RETURN NEXT format('%s: %s units cannot be had', s.sku, s.units);
		END;
	END LOOP;
	FOR c IN SELECT code, greatest(usage_limit - (SELECT count(*) FROM ordflow.coupon_redemptions r
			WHERE r.coupon_id = p.coupon_id AND r.state IN ('locked', 'used')), 0) AS uses
		FROM ordflow.coupons p
	LOOP
		got := 0;
		BEGIN
			LOOP
				PERFORM ordflow.submit_order('probe ' || got, '[{"sku": "plenty", "quantity": 1, "unit_price": 1}]', c.code);
				got := got + 1;
			END LOOP;
		EXCEPTION WHEN SQLSTATE 'OF003' THEN NULL;
		END;
		IF got <> c.uses THEN
			RETURN NEXT format('%s: %s uses could be had, the rows leave %s', c.code, got, c.uses);
		END IF;
	END LOOP;
	RETURN QUERY SELECT format('%s has %s of %s, though nobody is there', pid, quantity, sku)
		FROM ordflow.reservations WHERE pid IS NOT NULL AND pid <> pg_backend_pid();
END $$;
