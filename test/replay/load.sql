/*
 * load.sql: the lines of a file of invoices, as they stand there, into replay.raw.
 * Variable: encoding, of the file, which comes in on standard input.
 *
 * Every column is text: what a line means, and whether it means anything, is import.sql's
 * business and, independently, verify.sql's.
 */
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;

DROP SCHEMA IF EXISTS replay CASCADE;
CREATE SCHEMA replay;
CREATE TABLE replay.raw (
    line_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    invoice     text NOT NULL,
    sku         text NOT NULL,
    description text NOT NULL,
    quantity    text NOT NULL,
    invoiced_at text NOT NULL,
    unit_price  text NOT NULL,
    customer    text NOT NULL,
    country     text NOT NULL
);

-- The header line goes unread, and with it the byte order mark. Nothing is NULL: empty is empty.
SET client_encoding = :'encoding';
\copy replay.raw (invoice, sku, description, quantity, invoiced_at, unit_price, customer, country) FROM pstdin WITH (FORMAT csv, HEADER, NULL '\N')
ANALYZE replay.raw;
