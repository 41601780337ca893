/* src/base/schema.sql: where everything lives */

CREATE SCHEMA ordflow;
COMMENT ON SCHEMA ordflow IS 'Orders, stock, coupons, timeouts and state machines: everything of extension ordflow.';
