-- Names and labels of states and events are text in a diagram, never syntax.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA "dia gram";
CREATE FUNCTION "dia gram"."may ""go"""(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT ordflow.define_machine('odd "name" \ {', '{
  "states": {"10": "initial", "end": {"kind": "final", "label": "The \"End\"; {} #1"}, "two words": "normal",
             "s1": "normal", "Größe": {"kind": "normal", "label": "multi\nline\\"}, "plain_1": "initial"},
  "transitions": [
    {"from": null, "event": "create: it", "to": "10"},
    {"from": "10", "event": "go; [*] --> x", "to": "two words", "guard": "\"dia gram\".\"may \"\"go\"\"\"(jsonb,jsonb)"},
    {"from": "two words", "event": "a\"b<c>&%", "to": "Größe", "after": "1 mon 2 days 03:04:05.6"},
    {"from": "Größe", "event": "plain", "to": "s1"}, {"from": "s1", "event": "plain", "to": "end"},
    {"from": "plain_1", "event": "spin", "to": "plain_1"}]}');
SELECT ordflow.diagram('odd "name" \ {');
SELECT ordflow.diagram('odd "name" \ {', 'dot');

-- the shop's part of machine order is drawn with the rest
SELECT ordflow.define_machine('order', '{"states": {"on_hold": {"kind": "normal", "label": "on hold"}},
  "transitions": [{"from": "pending_shipment", "event": "hold", "to": "on_hold"},
                  {"from": "on_hold", "event": "resume", "to": "pending_shipment"}]}');
SELECT line FROM string_to_table(ordflow.diagram(), E'\n') AS line WHERE line ~ 'hold';

-- no interval style of the session, no end without a machine
SET intervalstyle = iso_8601;
SELECT line FROM string_to_table(ordflow.diagram('odd "name" \ {'), E'\n') AS line WHERE line ~ 'after';
SELECT ordflow.diagram('no such');
SELECT ordflow.diagram(NULL);
SELECT ordflow.diagram('order', NULL);
SELECT ordflow.diagram('order', 'svg');
SELECT ordflow.diagram('order', '');
ROLLBACK;
