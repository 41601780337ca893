-- Random orders with coupons, charges and odd prices in JPY, CNY and KWD: all amounts add up exactly, none is below zero.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT setseed(0.75);
CREATE TABLE pg_temp.currencies AS
SELECT *, (10.0 ^ d)::int AS units FROM (VALUES ('JPY', 0), ('CNY', 2), ('KWD', 3)) AS v (currency, d);
CREATE TABLE pg_temp.coupons AS
SELECT format('money_shares %s %s', currency, k) AS code, kind, skus, currency, round(max / units, d) AS max,
    round(value / CASE kind WHEN 'fixed' THEN units ELSE 1 END, 4) AS value
FROM currencies, (VALUES (1, 'percent', 7.5, NULL::numeric, NULL::text[]), (2, 'percent', 33.3333, 97, NULL),
    (3, 'percent', 12.5, NULL, '{a,b}'), (4, 'fixed', 100, NULL, NULL), (5, 'fixed', 777, NULL, '{b}'),
    (6, 'percent', 100, NULL, '{a}')) AS v (k, kind, value, max, skus);
SELECT count(ordflow.create_coupon(code, kind, value, jsonb_strip_nulls(jsonb_build_object('currency', currency, 'max_discount', max,
    'skus', skus)))) FROM coupons;
-- lines of at most nine units, one in five for nothing, prices of up to four decimals more than the currency has
CREATE TABLE pg_temp.lines AS
SELECT currency, d, units, n, l AS line_no, (ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)::int] AS sku,
    1 + floor(random() * 9)::int AS quantity,
    CASE WHEN random() < 0.8 THEN round((random() * 99)::numeric / units, d + 4) ELSE 0 END AS price
FROM currencies, generate_series(1, 100) n, generate_series(1, 1 + n % 9) l;
CREATE TABLE pg_temp.asked AS
SELECT currency, n, CASE WHEN n % 7 > 0 THEN format('money_shares %s %s', currency, n % 7) END AS code,
    round((random() * 200 - 60)::numeric / units, d) AS charge,
    jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'unit_price', price, 'stock', false) ORDER BY line_no) AS lines
FROM lines GROUP BY currency, d, units, n;

-- the same by plain arithmetic: amounts, discount, and its shares by largest remainder in whole minor units
CREATE TABLE pg_temp.expected AS
WITH l AS (
    SELECT l.*, c.kind, c.value, c.max, code, charge, round(quantity * price, l.d) AS amount,
        CASE WHEN code IS NOT NULL AND (c.skus IS NULL OR sku = ANY (c.skus)) THEN round(quantity * price, l.d) END AS scope
    FROM lines l JOIN asked USING (currency, n) LEFT JOIN coupons c USING (code)
), o AS (
    SELECT currency, n, sum(amount) AS subtotal, sum(scope) AS scope, min(charge) AS charge,
        count(code) > 0 AND count(scope) = 0 AS no_scope,
        CASE WHEN count(scope) = 0 THEN 0
             ELSE least(CASE min(kind) WHEN 'fixed' THEN min(value) ELSE round(sum(scope) * min(value) / 100, min(d)) END,
                        min(max), sum(scope)) END AS discount
    FROM l GROUP BY currency, n
), s AS (
    SELECT currency, units, n, line_no, l.amount, o.discount * units AS discount,
        coalesce(div(o.discount * units * l.scope, nullif(o.scope, 0)), 0) AS share,
        coalesce(mod(o.discount * units * l.scope, nullif(o.scope, 0)), 0) AS rest
    FROM l JOIN o USING (currency, n)
), r AS (
    SELECT *, row_number() OVER w AS place, discount - sum(share) OVER (PARTITION BY currency, n) AS left_over FROM s
    WINDOW w AS (PARTITION BY currency, n ORDER BY rest DESC, line_no)
)
SELECT currency, n, line_no, r.amount, (share + CASE WHEN place <= left_over THEN 1 ELSE 0 END) / units AS share,
    o.subtotal, o.discount, o.charge,
    CASE WHEN o.subtotal - o.discount + o.charge < 0 THEN 'invalid' WHEN no_scope THEN 'coupon_refused' ELSE 'ok' END AS result
FROM r JOIN o USING (currency, n);

CREATE TABLE pg_temp.answers AS
SELECT a.currency, a.n, s.order_id, s.result
FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('lines', lines, 'coupon', code, 'currency', currency,
    'charges', jsonb_build_array(jsonb_build_object('code', 'c', 'amount', charge))) ORDER BY currency, n) FROM asked)) s
JOIN (SELECT *, row_number() OVER (ORDER BY currency, n) AS ordinality FROM asked) a USING (ordinality);
SELECT result, count(*) > 5 AS many FROM answers GROUP BY 1 ORDER BY 1;
SELECT count(*) FILTER (WHERE e.result <> a.result) AS otherwise FROM expected e JOIN answers a USING (currency, n);
SELECT a.currency, count(*) > 200 AS many,
    count(*) FILTER (WHERE (l.amount, l.discount, l.payable) <> (e.amount, e.share, e.amount - e.share)) AS lines,
    count(*) FILTER (WHERE (o.subtotal, o.discount, o.charges) <> (e.subtotal, e.discount, e.charge)) AS orders
FROM answers a JOIN ordflow.orders o USING (order_id) JOIN ordflow.order_lines l USING (order_id)
JOIN expected e ON (e.currency, e.n, e.line_no) = (a.currency, a.n, l.line_no) GROUP BY 1 ORDER BY 1;
SELECT count(*) FILTER (WHERE o.payable <> l.payable + o.charges) AS sums,
    count(*) FILTER (WHERE o.payable < 0 OR least < 0) AS below_zero,
    count(*) FILTER (WHERE scale(o.payable) > d OR l.scale > d) AS too_fine, count(*) FILTER (WHERE o.discount > 0) > 100 AS discounted
FROM answers a JOIN currencies USING (currency) JOIN ordflow.orders o USING (order_id)
JOIN (SELECT order_id, sum(payable) AS payable, min(least(payable, discount)) AS least, max(scale(payable)) AS scale
      FROM ordflow.order_lines GROUP BY 1) l USING (order_id);
SELECT * FROM ordflow.audit(:'began');
