-- The order tables of three open shops, as far as their cancel and pay statements touch them: mall
-- (int codes 0 to 5, stock in two counters), litemall (smallint codes, the time of the last change
-- as version, to the second) and yudao (smallint codes, compare-and-set).
CREATE SCHEMA mall;
CREATE TABLE mall.oms_order (
    id bigint PRIMARY KEY,
    member_id bigint NOT NULL DEFAULT 1,
    order_sn varchar(64),
    create_time timestamp NOT NULL DEFAULT localtimestamp,
    pay_amount numeric(10, 2) DEFAULT 10,
    pay_type int DEFAULT 0,
    status int DEFAULT 0,
    confirm_status int DEFAULT 0,
    delete_status int NOT NULL DEFAULT 0,
    delivery_company varchar(64),
    delivery_sn varchar(64),
    payment_time timestamp,
    delivery_time timestamp,
    receive_time timestamp,
    modify_time timestamp
);
CREATE TABLE mall.oms_order_item (order_id bigint, product_sku_id bigint, product_quantity int);
CREATE TABLE mall.pms_sku_stock (id bigint PRIMARY KEY, stock int DEFAULT 0, lock_stock int DEFAULT 0);

CREATE SCHEMA litemall;
CREATE TABLE litemall.litemall_order (
    id int PRIMARY KEY,
    user_id int NOT NULL DEFAULT 1,
    order_status smallint NOT NULL DEFAULT 101,
    actual_price numeric(10, 2) NOT NULL DEFAULT 10,
    pay_id varchar(63),
    pay_time timestamp(0),
    ship_sn varchar(63),
    ship_time timestamp(0),
    confirm_time timestamp(0),
    end_time timestamp(0),
    update_time timestamp(0) DEFAULT '2026-01-01 12:00:00',
    deleted boolean DEFAULT false
);
CREATE TABLE litemall.litemall_order_goods (order_id int, product_id int, number smallint);
CREATE TABLE litemall.litemall_goods_product (id int PRIMARY KEY, number int NOT NULL);

CREATE SCHEMA yudao;
CREATE TABLE yudao.trade_order (
    id bigint PRIMARY KEY,
    no varchar(32) UNIQUE,
    status smallint NOT NULL DEFAULT 0,
    pay_status boolean NOT NULL DEFAULT false,
    pay_order_id bigint,
    pay_time timestamp,
    delivery_time timestamp,
    receive_time timestamp,
    cancel_type smallint,
    cancel_time timestamp,
    refund_status smallint NOT NULL DEFAULT 0,
    refund_price int NOT NULL DEFAULT 0,
    pay_price int NOT NULL DEFAULT 1000
);
CREATE TABLE yudao.product_sku (id bigint PRIMARY KEY, stock int);

-- Unpaid orders, each with two units of the sku of its own number that its submit has taken.
CREATE PROCEDURE public.submit(first int, last int) LANGUAGE sql AS $$
    INSERT INTO mall.pms_sku_stock SELECT n, 10, 2 FROM generate_series(first, last) AS n;
    INSERT INTO mall.oms_order_item SELECT n, n, 2 FROM generate_series(first, last) AS n;
    INSERT INTO mall.oms_order (id) SELECT n FROM generate_series(first, last) AS n;
    INSERT INTO litemall.litemall_goods_product SELECT n, 8 FROM generate_series(first, last) AS n;
    INSERT INTO litemall.litemall_order_goods SELECT n, n, 2 FROM generate_series(first, last) AS n;
    INSERT INTO litemall.litemall_order (id) SELECT n FROM generate_series(first, last) AS n;
    INSERT INTO yudao.product_sku SELECT n, 8 FROM generate_series(first, last) AS n;
    INSERT INTO yudao.trade_order (id, no) SELECT n, 'o' || n FROM generate_series(first, last) AS n;
$$;
