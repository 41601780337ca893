/* sound.sql: what audit() says when all is done. */
\set ON_ERROR_STOP on
\set QUIET on
\pset border 0
\pset footer off

\echo AUDIT
SELECT count(*) = 0 AS sound FROM ordflow.audit() \gset
\if :sound
    \echo SELECT * FROM ordflow.audit() returns no row: every promise holds.
\else
    SELECT * FROM ordflow.audit();
\endif
