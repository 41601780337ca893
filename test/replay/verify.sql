/*
 * verify.sql: the figures of the file, computed by plain SQL over its lines as they were read, against
 * what stands in ordflow's tables. Prints TAP, one test a comparison.
 * Variable: lines, how many the file has, as counted by other means than COPY.
 *
 * Of the plan it takes what was chosen for an invoice (its coupon, its fate), never what a line
 * means: that is worked out here a second time, by other means.
 */
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
SET client_min_messages = warning;

CREATE TEMP TABLE result (
    test     int GENERATED ALWAYS AS IDENTITY,
    claim    text NOT NULL,
    expected text,
    found    text
);

/* ---- the file ---- */

CREATE TEMP TABLE readable AS
SELECT line_no, invoice, sku, quantity::int AS quantity, unit_price::numeric AS price, nullif(customer, '') AS customer,
       lower(left(invoice, 1)) = 'c' AS is_credit,
       trim(lower(sku)) = ANY ('{post,dot,c2,m,d,s,b,cruk,amazonfee,bank charges}') AS is_charge,
       make_timestamp(d[3]::int, d[1]::int, d[2]::int, d[4]::int, d[5]::int, 0) AS at
FROM replay.raw, regexp_split_to_array(invoiced_at, '[^0-9]+') AS d
WHERE quantity ~ '^-?[1-9][0-9]*$' AND unit_price ~ '^[0-9]+[.]?[0-9]*$' AND invoiced_at ~ '^[0-9/-]+ [0-9:]+$' AND sku <> '';
DELETE FROM readable WHERE is_credit AND quantity > 0;

CREATE TEMP TABLE sold AS SELECT * FROM readable WHERE NOT is_credit AND NOT is_charge AND quantity > 0;
CREATE TEMP TABLE charged AS
SELECT *, round(quantity * price, 2) AS amount FROM readable
WHERE NOT is_credit AND is_charge AND invoice IN (SELECT invoice FROM sold);
DELETE FROM charged c
WHERE amount < 0 AND 0 > (SELECT sum(round(quantity * price, 2)) FROM sold WHERE invoice = c.invoice)
                       + (SELECT sum(amount) FROM charged WHERE invoice = c.invoice);
CREATE INDEX ON sold (invoice);
ANALYZE sold;
ANALYZE charged;

INSERT INTO result (claim, expected, found)
SELECT 'every line of the file was read', :lines, count(*) FROM replay.raw;
INSERT INTO result (claim, expected, found)
SELECT 'the counts of the kinds sum to the lines of the file', :lines, sum(lines)
FROM (SELECT count(*) AS lines FROM replay.line JOIN replay.kind USING (kind) GROUP BY kind) AS kinds;
INSERT INTO result (claim, expected, found)
SELECT 'every sold line is a line of an order', (SELECT count(*) FROM sold), count(*) FROM ordflow.order_lines;
INSERT INTO result (claim, expected, found)
SELECT 'every charge is a charge of an order', (SELECT count(*) FROM charged), count(*) FROM ordflow.order_charges;

/* ---- orders ---- */

INSERT INTO result (claim, expected, found)
SELECT 'order ' || coalesce(f.invoice, o.invoice) || ': customer and lines, in the order of the file', f.lines, o.lines
FROM (SELECT invoice, coalesce(min(customer), 'a guest') || string_agg(
                 format(E'\n%s x %s at %s', quantity, sku, trim_scale(price)), '' ORDER BY line_no) AS lines
      FROM sold GROUP BY invoice) AS f
FULL JOIN (SELECT order_no AS invoice, coalesce(min(customer), 'a guest') || string_agg(
                 format(E'\n%s x %s at %s', quantity, sku, trim_scale(unit_price)), '' ORDER BY line_no) AS lines
      FROM ordflow.orders JOIN ordflow.order_lines USING (order_id) GROUP BY order_no) AS o USING (invoice);

INSERT INTO result (claim, expected, found)
SELECT 'order ' || coalesce(f.invoice, o.invoice) || ': charges, in the order of the file', f.charges, o.charges
FROM (SELECT invoice, string_agg(format('%s %s', sku, amount), E'\n' ORDER BY line_no) AS charges
      FROM charged GROUP BY invoice) AS f
FULL JOIN (SELECT order_no AS invoice, string_agg(format('%s %s', code, amount), E'\n' ORDER BY charge_no) AS charges
      FROM ordflow.orders JOIN ordflow.order_charges USING (order_id) GROUP BY order_no) AS o USING (invoice);

CREATE TEMP TABLE money AS
SELECT invoice, goods, charges, coalesce(discount, 0) AS discount, goods - coalesce(discount, 0) + charges AS payable
FROM (SELECT invoice, sum(round(quantity * price, 2)) AS goods,
             coalesce((SELECT sum(amount) FROM charged c WHERE c.invoice = s.invoice), 0) AS charges
      FROM sold s GROUP BY invoice) AS sums
JOIN replay.invoice USING (invoice),
LATERAL (SELECT CASE coupon WHEN 'WINTER10' THEN least(round(goods * 0.10, 2), 50)
                            WHEN 'FIVEOFF' THEN 5 END AS discount) AS given;

INSERT INTO result (claim, expected, found)
SELECT 'order ' || invoice || ': goods - discount + charges = payable, GBP',
       format('%s - %s + %s = %s', goods, trim_scale(m.discount), trim_scale(m.charges), m.payable),
       format('%s - %s + %s = %s', subtotal, trim_scale(o.discount), trim_scale(o.charges), o.payable)
FROM money m FULL JOIN (SELECT order_no AS invoice, * FROM ordflow.orders WHERE currency = 'GBP') AS o USING (invoice);

-- Largest remainder, in pence: every line its whole pence, the pence left over by the size of the rest.
INSERT INTO result (claim, expected, found)
WITH share AS (
    SELECT invoice, row_number() OVER invoice_lines AS line_no, discount,
           div(discount * 100 * round(quantity * price, 2), goods) AS pence,
           mod(discount * 100 * round(quantity * price, 2), goods) AS rest
    FROM sold JOIN money USING (invoice) WHERE discount > 0
    WINDOW invoice_lines AS (PARTITION BY invoice ORDER BY line_no)
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY invoice ORDER BY rest DESC, line_no) AS place,
           discount * 100 - sum(pence) OVER (PARTITION BY invoice) AS left_over
    FROM share
)
SELECT 'order ' || invoice || ': each line''s share of the discount', f.shares, o.shares
FROM (SELECT invoice, string_agg(trim_scale((pence + (place <= left_over)::int) / 100)::text, ' ' ORDER BY line_no) AS shares
      FROM placed GROUP BY invoice) AS f
FULL JOIN (SELECT order_no AS invoice, string_agg(trim_scale(l.discount)::text, ' ' ORDER BY line_no) AS shares
      FROM ordflow.orders o JOIN ordflow.order_lines l USING (order_id) WHERE o.discount > 0 GROUP BY order_no) AS o
      USING (invoice);

INSERT INTO result (claim, expected, found)
SELECT 'order ' || invoice || ': sent twice with one key, answered the same', order_id, second_id
FROM replay.invoice WHERE twice;

INSERT INTO result (claim, expected, found)
SELECT 'order ' || invoice || ': paid once, in full',
       CASE WHEN payable > 0 AND fate NOT IN ('open', 'never paid') THEN payable::text END, paid
FROM money JOIN replay.invoice USING (invoice)
LEFT JOIN (SELECT order_id, string_agg(amount::text, ' and ') AS paid
           FROM ordflow.payments WHERE result = 'applied' AND currency = 'GBP' GROUP BY order_id) AS payment USING (order_id);

/* ---- returns: one line after the other, each takes what is left of the oldest sale before it ---- */

CREATE TEMP TABLE sale AS
SELECT line_no, invoice, sku, price, customer, at, is_charge, quantity AS units_left,
       CASE WHEN NOT is_charge
            THEN row_number() OVER (PARTITION BY invoice, is_charge ORDER BY line_no) END AS order_line
FROM (TABLE sold UNION ALL SELECT line_no, invoice, sku, quantity, price, customer, is_credit, is_charge, at
      FROM charged WHERE quantity > 0) AS every_sale;
CREATE INDEX ON sale (line_no);
CREATE INDEX ON sale (customer, sku, price);
ANALYZE sale;
CREATE TEMP TABLE taken (credit_note text, sale_line bigint, quantity int);
CREATE TEMP TABLE not_taken (sku text, quantity int);

DO $$
DECLARE
    credit record;
    oldest record;
    wanted int;
BEGIN
    FOR credit IN SELECT * FROM readable WHERE is_credit ORDER BY at, line_no LOOP
        wanted := -credit.quantity;
        FOR oldest IN SELECT * FROM sale
            WHERE customer = credit.customer AND sku = credit.sku AND price = credit.price
              AND (at, line_no) < (credit.at, credit.line_no) AND units_left > 0
            ORDER BY at, line_no
        LOOP
            EXIT WHEN wanted = 0;
            INSERT INTO taken VALUES (credit.invoice, oldest.line_no, least(wanted, oldest.units_left));
            UPDATE sale SET units_left = units_left - least(wanted, oldest.units_left) WHERE line_no = oldest.line_no;
            wanted := wanted - least(wanted, oldest.units_left);
        END LOOP;
        IF wanted > 0 AND NOT credit.is_charge THEN
            INSERT INTO not_taken VALUES (credit.sku, wanted);
        END IF;
    END LOOP;
END $$;

INSERT INTO result (claim, expected, found)
SELECT format('return %s: units of order %s line %s', credit_note, invoice, order_line), f.quantity, o.quantity
FROM (SELECT credit_note, invoice, order_line, sum(quantity) AS quantity
      FROM taken JOIN sale ON sale.line_no = sale_line WHERE NOT is_charge GROUP BY 1, 2, 3) AS f
FULL JOIN (SELECT substr(reason, 8) AS credit_note, order_no AS invoice, line_no AS order_line, sum(quantity) AS quantity
      FROM ordflow.refunds JOIN ordflow.orders USING (order_id) JOIN ordflow.refund_lines USING (refund_id)
      WHERE reason LIKE 'return %' GROUP BY 1, 2, 3) AS o USING (credit_note, invoice, order_line);

INSERT INTO result (claim, expected, found)
SELECT format('return %s: charges of order %s, GBP', credit_note, invoice), f.amount, o.amount
FROM (SELECT credit_note, invoice, sum(round(quantity * price, 2)) AS amount
      FROM taken JOIN sale ON sale.line_no = sale_line WHERE is_charge GROUP BY 1, 2) AS f
FULL JOIN (SELECT substr(reason, 8) AS credit_note, order_no AS invoice, sum(amount) AS amount
      FROM ordflow.refunds r JOIN ordflow.orders USING (order_id)
      WHERE reason LIKE 'return %' AND NOT EXISTS (SELECT FROM ordflow.refund_lines l WHERE l.refund_id = r.refund_id)
      GROUP BY 1, 2) AS o USING (credit_note, invoice);

INSERT INTO result (claim, expected, found)
SELECT format('order %s line %s: the money of %s of %s units', order_no, line_no, l.returned, l.quantity),
       round(l.payable * l.returned / l.quantity, 2), l.refunded
FROM ordflow.order_lines l JOIN ordflow.orders USING (order_id) WHERE l.returned > 0;

INSERT INTO result (claim, expected, found)
SELECT 'order ' || invoice || ': given back in full when it was called off', payable, refunded
FROM money JOIN replay.invoice USING (invoice)
LEFT JOIN (SELECT order_id, sum(amount) AS refunded FROM ordflow.refunds GROUP BY order_id) AS refund USING (order_id)
WHERE fate = 'called off';

/* ---- states ---- */

INSERT INTO result (claim, expected, found)
SELECT 'order ' || invoice || ': ' || fate,
       CASE WHEN invoice IN (SELECT invoice FROM sale WHERE NOT is_charge
                             GROUP BY invoice HAVING sum(units_left) = 0) THEN 'cancelled: refund'
            WHEN fate = 'open' THEN 'pending_payment'
            WHEN fate = 'packing' THEN 'pending_shipment'
            WHEN fate = 'on its way' THEN 'pending_receipt'
            WHEN fate = 'confirmed' THEN 'completed'
            WHEN fate = 'never paid' THEN 'cancelled: timeout'
            WHEN fate = 'called off' THEN 'cancelled: customer' END,
       concat_ws(': ', state, cancel_reason)
FROM replay.invoice LEFT JOIN ordflow.orders USING (order_id);

/* ---- stock ---- */

INSERT INTO result (claim, expected, found)
SELECT 'sku ' || sku || ': units ordered', f.quantity, o.quantity
FROM (SELECT sku, sum(quantity) AS quantity FROM sold GROUP BY sku) AS f
FULL JOIN (SELECT sku, sum(quantity) AS quantity FROM ordflow.order_lines GROUP BY sku) AS o USING (sku);

INSERT INTO result (claim, expected, found)
SELECT 'sku ' || sku || ': units received as returns of an earlier day', f.quantity, o.quantity
FROM (SELECT sku, sum(quantity) AS quantity FROM not_taken GROUP BY sku) AS f
FULL JOIN (SELECT sku, sum(m.on_hand) AS quantity FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
           WHERE kind = 'received' AND reference = 'return of an earlier day' GROUP BY sku) AS o USING (sku);

INSERT INTO result (claim, expected, found)
SELECT 'sku ' || sku || ': units written off', f.quantity, o.quantity
FROM (SELECT sku, sum(quantity) AS quantity FROM readable
      WHERE NOT is_credit AND NOT is_charge AND quantity < 0 GROUP BY sku) AS f
FULL JOIN (SELECT sku, sum(m.on_hand) AS quantity FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
           WHERE kind = 'adjusted' GROUP BY sku) AS o USING (sku);

-- All goods of C invoices come back into stock, whenever they were sold.
INSERT INTO result (claim, expected, found)
SELECT 'sku ' || sku || ': on hand, reserved, available',
       format('%s, %s, %s', f.on_hand, f.reserved, f.on_hand - f.reserved),
       format('%s, %s, %s', o.on_hand, o.reserved, o.available)
FROM (SELECT sku, sum(on_hand) AS on_hand, sum(reserved) AS reserved
      FROM (SELECT sku, m.on_hand, 0 AS reserved
            FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id) WHERE reference = 'opening'
            UNION ALL
            SELECT sku, CASE WHEN fate IN ('confirmed', 'on its way') THEN -quantity ELSE 0 END,
                   CASE WHEN fate IN ('open', 'packing') THEN quantity ELSE 0 END
            FROM sold JOIN replay.invoice USING (invoice)
            UNION ALL
            SELECT sku, abs(quantity), 0 FROM readable WHERE is_credit AND NOT is_charge
            UNION ALL
            SELECT sku, quantity, 0 FROM readable WHERE NOT is_credit AND NOT is_charge AND quantity < 0) AS every_change
      GROUP BY sku) AS f
FULL JOIN ordflow.stock_levels o USING (sku);

INSERT INTO result (claim, expected, found)
SELECT 'audit() finds nothing', '', coalesce(string_agg(concat_ws(' ', check_name, object, detail), E'\n'), '')
FROM ordflow.audit();

SELECT CASE WHEN expected IS NOT DISTINCT FROM found THEN 'ok - ' || replace(claim, '#', '\#')
       ELSE 'not ok - ' || replace(claim, '#', '\#') || regexp_replace(format(E'\nexpected: %s\n   found: %s',
           coalesce(left(expected, 1000), 'nothing'), coalesce(left(found, 1000), 'nothing')), E'\n', E'\n#   ', 'g') END
FROM result ORDER BY test;
