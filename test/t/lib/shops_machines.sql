-- What a shop adds to have ordflow watch over the tables of shops_tables.sql: a due column, a machine
-- by the shop's own codes, effects that do what the shop's timeout job did, and attach().
CREATE EXTENSION ordflow;
ALTER TABLE mall.oms_order ADD COLUMN due_at timestamptz;
ALTER TABLE litemall.litemall_order ADD COLUMN due_at timestamptz;
ALTER TABLE yudao.trade_order ADD COLUMN due_at timestamptz;
CREATE INDEX ON mall.oms_order (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ON litemall.litemall_order (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ON yudao.trade_order (due_at) WHERE due_at IS NOT NULL;

CREATE FUNCTION mall.unlock(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS $$
    UPDATE mall.pms_sku_stock AS s SET lock_stock = lock_stock - i.product_quantity
    FROM mall.oms_order_item AS i
    WHERE i.product_sku_id = s.id AND i.order_id = (object ->> 'key')::bigint;
$$;
CREATE FUNCTION litemall.give_back(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS $$
    UPDATE litemall.litemall_goods_product AS p SET number = p.number + g.number
    FROM litemall.litemall_order_goods AS g
    WHERE g.product_id = p.id AND g.order_id = (object ->> 'key')::int;
$$;
CREATE FUNCTION yudao.timed_out(object jsonb, args jsonb) RETURNS void LANGUAGE sql AS $$
    UPDATE yudao.trade_order SET cancel_type = 10, cancel_time = localtimestamp
    WHERE id = (object ->> 'key')::bigint;
    UPDATE yudao.product_sku SET stock = stock + 2 WHERE id = (object ->> 'key')::bigint;
$$;

SELECT ordflow.define_machine('mall', '{
    "states": {"0": {"kind": "initial", "label": "pending payment"},
               "1": {"kind": "normal", "label": "pending shipment"},
               "2": {"kind": "normal", "label": "shipped"},
               "3": {"kind": "final", "label": "completed"},
               "4": {"kind": "final", "label": "closed"},
               "5": {"kind": "final", "label": "invalid"}},
    "transitions": [
        {"from": "0", "event": "pay", "to": "1"},
        {"from": "0", "event": "cancel", "to": "4"},
        {"from": "0", "event": "expire", "to": "4", "after": "120 min", "effect": "mall.unlock(jsonb,jsonb)"},
        {"from": "0", "event": "invalidate", "to": "5"},
        {"from": "1", "event": "ship", "to": "2"},
        {"from": "2", "event": "confirm", "to": "3", "after": "15 days"}]}');
SELECT ordflow.define_machine('litemall', '{
    "states": {"101": "initial", "102": "final", "103": "final", "104": "final", "201": "normal", "202": "normal",
               "203": "final", "204": "normal", "301": "normal", "401": "final", "402": "final"},
    "transitions": [
        {"from": "101", "event": "cancel", "to": "102"},
        {"from": "101", "event": "expire", "to": "103", "after": "30 min", "effect": "litemall.give_back(jsonb,jsonb)"},
        {"from": "101", "event": "cancel by admin", "to": "104"},
        {"from": "101", "event": "pay", "to": "201"},
        {"from": "201", "event": "ask refund", "to": "202"},
        {"from": "201", "event": "group failed", "to": "204"},
        {"from": "202", "event": "refund", "to": "203"},
        {"from": "204", "event": "refund", "to": "203"},
        {"from": "201", "event": "ship", "to": "301"},
        {"from": "301", "event": "confirm", "to": "401"},
        {"from": "301", "event": "confirm by time", "to": "402", "after": "7 days"}]}');
SELECT ordflow.define_machine('yudao', '{
    "states": {"0": "initial", "10": "normal", "20": "normal", "30": "normal", "40": "final"},
    "transitions": [
        {"from": "0", "event": "pay", "to": "10"},
        {"from": "0", "event": "cancel", "to": "40"},
        {"from": "0", "event": "expire", "to": "40", "after": "2 hours", "effect": "yudao.timed_out(jsonb,jsonb)"},
        {"from": "10", "event": "deliver", "to": "20"},
        {"from": "20", "event": "receive", "to": "30", "after": "14 days"},
        {"from": "10", "event": "refunded", "to": "40"},
        {"from": "20", "event": "refunded", "to": "40"},
        {"from": "30", "event": "refunded", "to": "40"}]}');
SELECT ordflow.define_machine('yudao refund', '{
    "states": {"0": "initial", "10": "normal", "20": "final"},
    "transitions": [
        {"from": "0", "event": "refund part", "to": "10"},
        {"from": "0", "event": "refund all", "to": "20"},
        {"from": "10", "event": "refund rest", "to": "20"}]}');

SELECT ordflow.attach('mall.oms_order', 'mall', 'status', due_column => 'due_at');
SELECT ordflow.attach('litemall.litemall_order', 'litemall', 'order_status', due_column => 'due_at');
SELECT ordflow.attach('yudao.trade_order', 'yudao', 'status', due_column => 'due_at');
SELECT ordflow.attach('yudao.trade_order', 'yudao refund', 'refund_status');
