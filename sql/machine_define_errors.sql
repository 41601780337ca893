-- What is no definition is refused, each with its SQLSTATE, and leaves no row.
\a \t
\set VERBOSITY sqlstate
\set define 'SELECT ordflow.define_machine(''mde'','
CREATE FUNCTION pg_temp.define(transitions jsonb) RETURNS void LANGUAGE sql AS $$
SELECT ordflow.define_machine('mde', '{"states": {"a": "initial", "b": "normal", "c": "final"}}'
  || jsonb_build_object('transitions', transitions)) $$;

-- the arguments
SELECT ordflow.define_machine(NULL, '{}');
SELECT ordflow.define_machine('mde', NULL);
SELECT ordflow.define_machine('', '{"states": {"a": "initial"}, "transitions": []}');
SELECT ordflow.define_machine(repeat('m', 256), '{"states": {"a": "initial"}, "transitions": []}');
SELECT ordflow.define_machine('mde', '{"states": ');

-- the object and its keys
:define '[]');
:define '"states"');
:define '{}');
:define '{"states": {"a": "initial"}}');
:define '{"transitions": []}');
:define '{"states": {"a": "initial"}, "transitions": [], "colour": 1}');
:define '{"states": ["a"], "transitions": []}');
:define '{"states": {"a": "initial"}, "transitions": {}}');
:define '{"states": null, "transitions": []}');

-- states
:define '{"states": {}, "transitions": []}');
:define '{"states": {"a": "normal"}, "transitions": []}');
:define '{"states": {"a": "first"}, "transitions": []}');
:define '{"states": {"a": 1}, "transitions": []}');
:define '{"states": {"a": null}, "transitions": []}');
:define '{"states": {"a": {"label": "A"}}, "transitions": []}');
:define '{"states": {"a": {"kind": "initial", "label": 1}}, "transitions": []}');
:define '{"states": {"a": {"kind": "initial", "color": "red"}}, "transitions": []}');
:define '{"states": {"": "initial"}, "transitions": []}');
:define jsonb_build_object('states', jsonb_build_object(repeat('s', 256), 'initial'), 'transitions', '[]'::jsonb));
:define jsonb_build_object('transitions', '[]'::jsonb,
  'states', (SELECT jsonb_object_agg('s' || n, 'initial') FROM generate_series(1, 1001) n)));

-- transitions
SELECT pg_temp.define('["a"]');
SELECT pg_temp.define('[{"event": "go", "to": "b"}]');
SELECT pg_temp.define('[{"from": "a", "to": "b"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": null}]');
SELECT pg_temp.define('[{"from": "a", "event": "", "to": "b"}]');
SELECT pg_temp.define('[{"from": "a", "event": 7, "to": "b"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "when": "now"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "z"}]');
SELECT pg_temp.define('[{"from": "z", "event": "go", "to": "a"}]');
SELECT pg_temp.define('[{"from": null, "event": "make", "to": "b"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b"}, {"from": "a", "event": "go", "to": "b"}]');
SELECT pg_temp.define('[{"from": null, "event": "make", "to": "a"}, {"from": null, "event": "make", "to": "a"}]');
:define jsonb_build_object('states', '{"a": "initial"}'::jsonb, 'transitions',
  (SELECT jsonb_agg('{"from": "a", "event": "go", "to": "a"}'::jsonb) FROM generate_series(1, 10001))));

-- timeouts: an interval above zero that today's clock can be added to, one a state
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "soon"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": 15}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "0"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "-1 day"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "300000 years"}]');
SELECT pg_temp.define('[{"from": null, "event": "make", "to": "a", "after": "1 day"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "1 day"}, {"from": "a", "event": "end", "to": "c", "after": "1 day"}]');
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "1 day"}, {"from": "a", "event": "go", "to": "c", "after": "2 days"}]');

SELECT count(*) FROM ordflow.machines WHERE machine = 'mde';
SELECT count(*) FROM ordflow.states WHERE machine = 'mde';

-- the same with nothing wrong
BEGIN;
SELECT pg_temp.define('[{"from": "a", "event": "go", "to": "b", "after": "1 day"}]');
SELECT count(*) FROM ordflow.states WHERE machine = 'mde';
ROLLBACK;
