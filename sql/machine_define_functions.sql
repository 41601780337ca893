-- Guards and effects of a definition: which functions are fit, and who may name them.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA mdf;
CREATE FUNCTION mdf.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mdf.effect(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION mdf."Odd, name"(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mdf.one(jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mdf.texts(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mdf.many(jsonb, jsonb) RETURNS SETOF boolean LANGUAGE sql AS 'SELECT true';
CREATE PROCEDURE mdf.proc(jsonb, jsonb) LANGUAGE sql AS '';
CREATE FUNCTION pg_temp.temporary(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';

CREATE FUNCTION mdf.define(hook text, function text) RETURNS void LANGUAGE sql AS $$
SELECT ordflow.define_machine('mdf', jsonb_build_object('states', '{"a": "initial"}'::jsonb, 'transitions',
  jsonb_build_array(jsonb_build_object('from', 'a', 'event', 'go', 'to', 'a', hook, function)))) $$;

SELECT mdf.define('guard', 'mdf.guard(jsonb,jsonb)');
SELECT mdf.define('guard', 'mdf."Odd, name"(jsonb, jsonb)');
SELECT guard FROM ordflow.transitions WHERE machine = 'mdf';
SELECT mdf.define('effect', 'mdf.effect(jsonb,jsonb)');
SELECT guard, effect FROM ordflow.transitions WHERE machine = 'mdf';

-- not there, or not named in full
SELECT mdf.define('guard', 'mdf.nothing(jsonb,jsonb)');
SELECT mdf.define('guard', 'guard(jsonb,jsonb)');
SELECT mdf.define('guard', 'mdf.guard');
SELECT mdf.define('guard', 'mdf.guard(jsonb)');
SELECT mdf.define('guard', 'nowhere.guard(jsonb,jsonb)');
SELECT mdf.define('effect', 'mdf.effect(jsonb,jsonb); DROP TABLE x');
SELECT mdf.define('guard', '');

-- not fit
SELECT mdf.define('guard', 'mdf.effect(jsonb,jsonb)');
SELECT mdf.define('effect', 'mdf.guard(jsonb,jsonb)');
SELECT mdf.define('guard', 'mdf.one(jsonb)');
SELECT mdf.define('guard', 'mdf.texts(text,text)');
SELECT mdf.define('guard', 'mdf.many(jsonb,jsonb)');
SELECT mdf.define('effect', 'mdf.proc(jsonb,jsonb)');

-- not the caller's to execute
CREATE ROLE regress_mdf;
GRANT USAGE ON SCHEMA mdf, ordflow TO regress_mdf;
SELECT ordflow.grant_access('regress_mdf', 'admin');
REVOKE EXECUTE ON FUNCTION mdf.guard FROM PUBLIC;
SET ROLE regress_mdf;
SELECT mdf.define('guard', 'mdf.guard(jsonb,jsonb)');
SELECT mdf.define('effect', 'mdf.effect(jsonb,jsonb)');
RESET ROLE;
SELECT effect, role FROM ordflow.transitions WHERE machine = 'mdf';
ROLLBACK;
