-- The usual hand-written order submit, the other side of bench/orders: a row lock on stock, the rows
-- of the order, no foreign key from lines to stock (its share lock would make a hot SKU far worse).
CREATE SCHEMA baseline;
CREATE TABLE baseline.stock (sku bigint PRIMARY KEY, on_hand int NOT NULL, reserved int NOT NULL DEFAULT 0,
    CHECK (reserved <= on_hand)) WITH (fillfactor = 50);
INSERT INTO baseline.stock SELECT g, 1000000000 FROM generate_series(1, 10000) g;
CREATE TABLE baseline.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint, status text,
    total numeric(12,2), created_at timestamptz DEFAULT now(), expires_at timestamptz);
CREATE INDEX ON baseline.orders (expires_at) WHERE status = 'pending';
CREATE TABLE baseline.order_line (order_id bigint REFERENCES baseline.orders (id), sku bigint, qty int,
    price numeric(12,2), PRIMARY KEY (order_id, sku));
CREATE TABLE baseline.history (order_id bigint, at timestamptz DEFAULT now(), from_s text, to_s text, actor text);

CREATE FUNCTION baseline.submit(p_customer bigint, p_sku bigint, p_qty int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE oid bigint;
BEGIN
    INSERT INTO baseline.orders (customer, status, total, expires_at)
        VALUES (p_customer, 'pending', 10.00 * p_qty, now() + interval '15 min') RETURNING id INTO oid;
    INSERT INTO baseline.order_line VALUES (oid, p_sku, p_qty, 10.00);
    UPDATE baseline.stock SET reserved = reserved + p_qty WHERE sku = p_sku AND on_hand - reserved >= p_qty;
    IF NOT FOUND THEN RAISE EXCEPTION 'out of stock'; END IF;
    INSERT INTO baseline.history (order_id, from_s, to_s, actor) VALUES (oid, 'new', 'pending', current_user);
    RETURN oid;
END $$;

-- The same for an order of many lines, one call.
CREATE FUNCTION baseline.submit_lines(p_customer bigint, p_sku bigint[], p_qty int[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE oid bigint;
BEGIN
    INSERT INTO baseline.orders (customer, status, total, expires_at)
        SELECT p_customer, 'pending', sum(10.00 * q), now() + interval '15 min' FROM unnest(p_qty) q RETURNING id INTO oid;
    INSERT INTO baseline.order_line SELECT oid, s, q, 10.00 FROM unnest(p_sku, p_qty) AS l (s, q);
    FOR i IN 1 .. array_length(p_sku, 1) LOOP
        UPDATE baseline.stock SET reserved = reserved + p_qty[i] WHERE sku = p_sku[i] AND on_hand - reserved >= p_qty[i];
        IF NOT FOUND THEN RAISE EXCEPTION 'out of stock'; END IF;
    END LOOP;
    INSERT INTO baseline.history (order_id, from_s, to_s, actor) VALUES (oid, 'new', 'pending', current_user);
    RETURN oid;
END $$;
