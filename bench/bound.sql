-- The bound of bench/orders: tables of the shape of ordflow's, filled by bound.c.
-- Variable: library, the path of bound.so.
CREATE SCHEMA bound;
CREATE SEQUENCE bound.serial;
CREATE TABLE bound.orders (LIKE ordflow.orders INCLUDING INDEXES);
CREATE TABLE bound.order_lines (LIKE ordflow.order_lines INCLUDING INDEXES);
CREATE TABLE bound.order_history (LIKE ordflow.order_history INCLUDING INDEXES);
CREATE TABLE bound.stock_movements (LIKE ordflow.stock_movements INCLUDING INDEXES);

-- A copy of the rows of the order template, for another customer, with these SKUs in its lines.
CREATE FUNCTION bound.submit(template bigint, customer text, VARIADIC skus int[]) RETURNS bigint
LANGUAGE c AS :'library', 'bound_submit';
