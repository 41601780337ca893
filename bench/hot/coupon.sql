-- The usual hand-written coupon, on top of bench/baseline.sql: uses are counted in the coupon's row.
CREATE TABLE baseline.coupon (code text PRIMARY KEY, value numeric(12,2), usage_limit bigint, used bigint NOT NULL DEFAULT 0,
    CHECK (used <= usage_limit)) WITH (fillfactor = 50);
INSERT INTO baseline.coupon VALUES ('bench', 1.00, 1000000000);
CREATE TABLE baseline.redemption (order_id bigint PRIMARY KEY, code text, customer bigint, at timestamptz DEFAULT now());

CREATE FUNCTION baseline.submit_coupon(p_customer bigint, p_sku bigint, p_qty int, p_code text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    oid bigint;
    off numeric;
BEGIN
    UPDATE baseline.coupon SET used = used + 1 WHERE code = p_code AND used < usage_limit RETURNING value INTO off;
    IF NOT FOUND THEN RAISE EXCEPTION 'coupon refused'; END IF;
    INSERT INTO baseline.orders (customer, status, total, expires_at)
        VALUES (p_customer, 'pending', 10.00 * p_qty - off, now() + interval '15 min') RETURNING id INTO oid;
    INSERT INTO baseline.order_line VALUES (oid, p_sku, p_qty, 10.00);
    UPDATE baseline.stock SET reserved = reserved + p_qty WHERE sku = p_sku AND on_hand - reserved >= p_qty;
    IF NOT FOUND THEN RAISE EXCEPTION 'out of stock'; END IF;
    INSERT INTO baseline.redemption VALUES (oid, p_code, p_customer);
    INSERT INTO baseline.history (order_id, from_s, to_s, actor) VALUES (oid, 'new', 'pending', current_user);
    RETURN oid;
END $$;
