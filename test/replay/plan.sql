/*
 * plan.sql: what each line of replay.raw means, and what will happen to each invoice.
 *
 * Nothing of ordflow is called here. The choices (who has a coupon, who never pays) hang on the
 * invoice's number alone, so that two runs over one file do the same.
 */
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET work_mem = '64MB';

-- The codes of this shop that are money beside the goods, in any case.
CREATE FUNCTION replay.is_charge(sku text) RETURNS boolean IMMUTABLE
RETURN upper(btrim(sku)) IN ('POST', 'DOT', 'C2', 'M', 'D', 'S', 'B', 'CRUK', 'AMAZONFEE', 'BANK CHARGES');

-- One row a line of the file, each of exactly one kind.
CREATE TABLE replay.line AS
WITH typed AS MATERIALIZED (
    SELECT line_no, invoice, sku, description, nullif(customer, '') AS customer, country,
           invoice ~* '^C' AS credit,
           CASE WHEN quantity ~ '^-?\d{1,9}$' THEN quantity::bigint END AS quantity,
           CASE WHEN unit_price ~ '^-?\d{1,9}(\.\d+)?$' THEN unit_price::numeric END AS unit_price,
           CASE WHEN invoiced_at ~ '^(0?[1-9]|1[0-2])[-/](0?[1-9]|[12]\d|3[01])[-/]\d{4} \d{1,2}:\d\d$'
                THEN to_timestamp(invoiced_at, 'MM-DD-YYYY HH24:MI')::timestamp END AS at
    FROM replay.raw
), priced AS MATERIALIZED (
    SELECT *, round(quantity * unit_price, 2) AS amount,
           CASE WHEN coalesce(quantity, 0) = 0 OR unit_price IS NULL OR at IS NULL OR sku = ''
                     OR credit AND quantity > 0 THEN 'unreadable'
                WHEN unit_price < 0 THEN 'negative price'
                WHEN credit AND replay.is_charge(sku) THEN 'credit'
                WHEN credit THEN 'return'
                WHEN replay.is_charge(sku) THEN 'charge'
                WHEN quantity < 0 THEN 'adjustment'
                ELSE 'goods' END AS kind
    FROM typed
), summed AS (
    SELECT *, bool_or(kind = 'goods') OVER invoice_lines AS has_goods,
           sum(amount) FILTER (WHERE kind IN ('goods', 'charge')) OVER invoice_lines AS total
    FROM priced
    WINDOW invoice_lines AS (PARTITION BY invoice)
)
SELECT line_no, invoice, sku, description, customer, country, quantity, unit_price, at, amount,
       CASE WHEN kind = 'charge' AND NOT has_goods THEN 'charge without goods'
            WHEN kind = 'charge' AND amount < 0 AND total < 0 THEN 'discount below zero'
            ELSE kind END AS kind,
       CASE WHEN kind = 'goods'
            THEN row_number() OVER (PARTITION BY invoice, kind ORDER BY line_no) END AS order_line
FROM summed;
ALTER TABLE replay.line ADD PRIMARY KEY (line_no);
CREATE INDEX ON replay.line (invoice);
ANALYZE replay.line;

/*
 * Which units of which sale a return takes back: same customer, code and price, earlier, oldest
 * first. A guest is nobody in particular, so his returns match nothing.
 *
 * Units sold and units returned are laid along one axis. What exceeds all that was sold until then
 * is lost to the return (of an earlier day); the n-th unit that is not lost is the n-th unit sold.
 */
CREATE TABLE replay.match AS
WITH event AS (
    SELECT line_no, kind IN ('return', 'credit') AS is_return, customer, sku, unit_price, at,
           abs(quantity) AS quantity
    FROM replay.line l
    WHERE kind IN ('goods', 'charge', 'return', 'credit') AND customer IS NOT NULL
      AND (quantity > 0 OR kind IN ('return', 'credit'))
      AND (customer, sku, unit_price) IN (SELECT customer, sku, unit_price FROM replay.line
                                          WHERE kind IN ('return', 'credit'))
), running AS (
    SELECT *, coalesce(sum(quantity) FILTER (WHERE NOT is_return) OVER until, 0) AS sold,
           coalesce(sum(quantity) FILTER (WHERE is_return) OVER until, 0) AS returned
    FROM event
    WINDOW until AS (PARTITION BY customer, sku, unit_price ORDER BY at, line_no)
), placed AS (
    SELECT *, CASE WHEN is_return
                   THEN returned - greatest(0, max(returned - sold) FILTER (WHERE is_return) OVER until)
                   ELSE sold END AS upper
    FROM running
    WINDOW until AS (PARTITION BY customer, sku, unit_price ORDER BY at, line_no)
), spans AS (
    SELECT *, lag(upper, 1, 0) OVER (PARTITION BY customer, sku, unit_price, is_return
                                     ORDER BY at, line_no) AS lower
    FROM placed
)
SELECT r.line_no AS return_line, s.line_no AS sale_line,
       (least(r.upper, s.upper) - greatest(r.lower, s.lower))::bigint AS quantity
FROM spans r
JOIN spans s USING (customer, sku, unit_price)
WHERE r.is_return AND NOT s.is_return AND r.lower < s.upper AND s.lower < r.upper;
CREATE INDEX ON replay.match (return_line);

UPDATE replay.line l
SET kind = l.kind || CASE WHEN m.quantity IS NULL THEN ' of an earlier day'
                          WHEN m.quantity < -l.quantity THEN ' in part of an earlier day' ELSE '' END
FROM replay.line c
LEFT JOIN (SELECT return_line AS line_no, sum(quantity) AS quantity
           FROM replay.match GROUP BY return_line) m USING (line_no)
WHERE l.line_no = c.line_no AND c.kind IN ('return', 'credit')
  AND m.quantity IS DISTINCT FROM -l.quantity;

-- One row an invoice with goods: it becomes an order. seq is the order of the file.
CREATE TABLE replay.invoice AS
WITH summed AS (
    SELECT invoice, min(line_no) AS first_line,
           (array_agg(customer ORDER BY line_no))[1] AS customer,
           (array_agg(country ORDER BY line_no))[1] AS country, min(at) AS at,
           right(regexp_replace(invoice, '\D', '', 'g'), 9) AS digits,
           coalesce(sum(amount) FILTER (WHERE kind = 'goods'), 0) AS goods,
           sum(amount) AS payable, min(amount) < 0 AS discounted,
           bool_or(line_no IN (SELECT sale_line FROM replay.match)) AS comes_back
    FROM replay.line
    WHERE kind IN ('goods', 'charge')
    GROUP BY invoice
), numbered AS (
    SELECT *, CASE WHEN digits = '' THEN first_line ELSE digits::bigint END AS n FROM summed
)
SELECT row_number() OVER (ORDER BY first_line) AS seq, invoice, customer, country, at,
       CASE WHEN customer IS NULL OR discounted OR n % 7 <> 0 THEN NULL
            WHEN goods >= 100 THEN 'WINTER10'
            WHEN goods >= 30 THEN 'FIVEOFF' END AS coupon,
       CASE WHEN comes_back OR payable = 0
            THEN CASE WHEN n % 2 = 0 THEN 'confirmed' ELSE 'on its way' END
            WHEN n % 10 = 3 THEN 'never paid'
            WHEN n % 20 = 4 THEN 'open'
            WHEN n % 23 = 8 THEN 'called off'
            WHEN n % 20 = 9 THEN 'packing'
            WHEN n % 6 = 1 THEN 'on its way'
            ELSE 'confirmed' END AS fate,
       n % 5 = 0 AS twice,
       n % 12 IN (0, 7) AS two_parcels,
       NULL::jsonb AS request, NULL::bigint AS order_id, NULL::bigint AS second_id
FROM numbered;
ALTER TABLE replay.invoice ADD PRIMARY KEY (seq);
CREATE UNIQUE INDEX ON replay.invoice (invoice);

-- An order as submit_orders() takes it.
UPDATE replay.invoice i
SET request = jsonb_build_object(
        'customer', i.customer, 'order_no', i.invoice, 'idempotency_key', i.invoice,
        'currency', 'GBP', 'coupon', i.coupon,
        'pay_within', CASE WHEN i.fate = 'never paid' THEN '15 min' ELSE '1 day' END,
        'metadata', jsonb_build_object('country', i.country, 'invoiced_at', i.at),
        'lines', l.lines, 'charges', coalesce(l.charges, '[]'))
FROM (SELECT invoice,
             jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'unit_price', unit_price::text)
                       ORDER BY line_no) FILTER (WHERE kind = 'goods') AS lines,
             jsonb_agg(jsonb_build_object('code', sku, 'amount', amount::text)
                       ORDER BY line_no) FILTER (WHERE kind = 'charge') AS charges
      FROM replay.line WHERE kind IN ('goods', 'charge') GROUP BY invoice) l
WHERE l.invoice = i.invoice;
VACUUM ANALYZE replay.invoice;

/*
 * One refund for each C invoice and order that it takes goods from, and one for the charges that it
 * gives back: these first, while the order is sure to have goods left.
 */
CREATE TABLE replay.refund AS
WITH taken AS (
    SELECT r.invoice AS credit_note, s.invoice AS sale, s.kind, s.order_line, sum(m.quantity) AS quantity,
           sum(round(m.quantity * s.unit_price, 2)) AS amount, min(r.line_no) AS line_no, min(r.at) AS at
    FROM replay.match m
    JOIN replay.line r ON r.line_no = m.return_line
    JOIN replay.line s ON s.line_no = m.sale_line
    GROUP BY r.invoice, s.invoice, s.kind, s.order_line
)
SELECT row_number() OVER (ORDER BY kind, min(at), min(line_no), sale) AS seq, credit_note, sale,
       jsonb_agg(jsonb_build_object('line', order_line, 'quantity', quantity) ORDER BY order_line)
           FILTER (WHERE kind = 'goods') AS lines,
       sum(amount) FILTER (WHERE kind = 'charge') AS charges, NULL::bigint AS refund_id
FROM taken
GROUP BY credit_note, sale, kind;
ALTER TABLE replay.refund ADD PRIMARY KEY (seq);

/* Where the lines went, in the order in which they are printed. */
CREATE TABLE replay.kind (ordinal int, kind text PRIMARY KEY, listed boolean, became text);
INSERT INTO replay.kind VALUES
    (1, 'goods', false, 'goods: lines of orders'),
    (2, 'charge', false, 'charges of orders, no stock'),
    (3, 'return', false, 'returns of goods sold in this file: refunds'),
    (4, 'return in part of an earlier day', true, 'returns sold only in part in this file: refunds, the rest received'),
    (5, 'return of an earlier day', true, 'returns of an earlier day: stock received'),
    (6, 'credit', false, 'charges given back, charged in this file: refunds'),
    (7, 'credit in part of an earlier day', true, 'charges given back, charged only in part in this file: refunds'),
    (8, 'credit of an earlier day', true, 'charges given back, of an earlier day: listed'),
    (9, 'adjustment', false, 'negative lines without C: stock adjusted'),
    (10, 'charge without goods', true, 'charges on an invoice without goods: listed'),
    (11, 'discount below zero', true, 'discounts above what the order comes to: listed'),
    (12, 'negative price', true, 'negative prices: listed and left out'),
    (13, 'unreadable', true, 'no quantity, price or date to read: listed and left out');

CREATE VIEW replay.listed AS
SELECT l.line_no, l.kind AS reason, r.invoice, r.sku, r.quantity, r.unit_price, r.customer, r.description
FROM replay.line l
JOIN replay.kind k USING (kind)
JOIN replay.raw r USING (line_no)
WHERE k.listed
ORDER BY l.line_no;
