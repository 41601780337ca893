-- test/t/lib/catalog.sql: everything that extension ordflow has made in a database but the rows, a line a fact, so that two
-- databases can be compared as texts
WITH
extension AS (SELECT * FROM pg_extension WHERE extname = 'ordflow'),
members AS (
    SELECT d.classid, d.objid, o.type, o.identity
    FROM extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e',
         pg_identify_object(d.classid, d.objid, d.objsubid) AS o
),
-- by name, not by membership: what forgets to become a member is seen too
relations AS (SELECT c.*, c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'ordflow'::regnamespace),
functions AS (SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc p WHERE p.pronamespace = 'ordflow'::regnamespace),
columns AS (
    SELECT a.*, r.name, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS place
    FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
),
-- what has privileges: the object and them
granted (object, classid, objid, objsubid, acl) AS (
    SELECT 'schema ' || nspname, 'pg_namespace'::regclass, oid, 0, nspacl FROM pg_namespace WHERE nspname = 'ordflow'
    UNION ALL SELECT name, 'pg_class'::regclass, oid, 0, relacl FROM relations
    UNION ALL SELECT name, 'pg_proc'::regclass, oid, 0, proacl FROM functions
    UNION ALL SELECT name || '.' || attname, 'pg_class'::regclass, attrelid, attnum, attacl FROM columns
),
privileges AS (
    SELECT object, what, coalesce(string_agg(format('%s=%s by %s%s', x.grantee::regrole, x.privilege_type, x.grantor::regrole,
                                                    CASE WHEN x.is_grantable THEN ' with grant option' END), ', '
                                             ORDER BY x.grantee, x.privilege_type), 'nobody') AS fact
    FROM (SELECT object, 'privileges' AS what, acl FROM granted
          UNION ALL
          SELECT object, 'privileges that pg_dump takes for granted', initprivs
          FROM granted g JOIN pg_init_privs i ON (i.classoid, i.objoid, i.objsubid) = (g.classid, g.objid, g.objsubid)) AS a
         LEFT JOIN LATERAL aclexplode(a.acl) AS x ON true
    WHERE a.acl IS NOT NULL
    GROUP BY object, what
),
facts (object, what, place, fact) AS (
    SELECT 'extension', 'is', 0, format('%s in %s, owner %s', extversion, extnamespace::regnamespace, extowner::regrole) FROM extension
    UNION ALL
    SELECT 'extension', 'dumps', 0, format('%s %s', t.config::regclass, t.condition)
    FROM extension, unnest(extconfig, extcondition) AS t (config, condition)
    UNION ALL
    SELECT 'extension', 'has', 0, format('%s %s', type, identity) FROM members
    UNION ALL
    SELECT name, 'is', 0, format('kind %s, owner %s, persistence %s, identity %s, security %s %s, method %s, options %s, toast %s, %s %s',
        relkind, relowner::regrole, relpersistence, relreplident, relrowsecurity, relforcerowsecurity,
        (SELECT amname FROM pg_am a WHERE a.oid = relam), reloptions,
        (SELECT t.reloptions FROM pg_class t WHERE t.oid = r.reltoastrelid), pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid))
    FROM relations r
    UNION ALL
    SELECT inhrelid::regclass::text, 'part of', 0, inhparent::regclass::text FROM pg_inherits JOIN relations ON oid = inhrelid
    UNION ALL
    SELECT format('%s.%s', a.name, a.attname), 'is', 0,
        format('%s. %s %s%s, default %s, identity %s, generated %s, storage %s %s, statistics %s, options %s',
        a.place, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
        (SELECT ' ' || a.attcollation::regcollation WHERE a.attcollation <> 0),
        (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE (d.adrelid, d.adnum) = (a.attrelid, a.attnum)),
        a.attidentity, a.attgenerated, a.attstorage, a.attcompression, a.attstattarget,
        -- but a stamp of the server's own
        (SELECT string_agg(o, ' ') FROM unnest(a.attoptions) AS o WHERE o !~ '^pg_attver='))
    FROM columns a
    UNION ALL
    SELECT r.name, 'constraint', 0, format('%s %s%s', c.conname, pg_get_constraintdef(c.oid),
        CASE WHEN NOT c.convalidated THEN ', not validated' END)
    FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid
    UNION ALL
    SELECT r.name, 'index', 0, format('%s%s%s%s', pg_get_indexdef(i.indexrelid), CASE WHEN NOT i.indisvalid THEN ', not valid' END,
        CASE WHEN i.indisclustered THEN ', clustered' END, CASE WHEN i.indisreplident THEN ', identity' END)
    FROM pg_index i JOIN relations r ON r.oid = i.indrelid
    UNION ALL
    SELECT r.name, 'trigger', 0, format('%s, enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT r.name, 'rule', w.place, format('%s %s', u.ev_enabled, w.line)
    FROM pg_rewrite u JOIN relations r ON r.oid = u.ev_class,
         regexp_split_to_table(pg_get_ruledef(u.oid, true), '\n') WITH ORDINALITY AS w (line, place)
    UNION ALL
    SELECT r.name, 'policy', 0, p.polname::text FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
    UNION ALL
    SELECT r.name, 'statistics', 0, pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s JOIN relations r ON r.oid = s.stxrelid
    UNION ALL
    SELECT r.name, 'sequence', 0, format('%s from %s by %s, %s to %s, cache %s, cycle %s, of %s', format_type(s.seqtypid, NULL),
        s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
        (SELECT string_agg(format('%s %s', pg_describe_object(refclassid, refobjid, refobjsubid), deptype), ', ')
         FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = r.oid AND deptype IN ('a', 'i')))
    FROM pg_sequence s JOIN relations r ON r.oid = s.seqrelid
    UNION ALL
    SELECT name, 'owner', 0, proowner::regrole::text FROM functions
    UNION ALL
    SELECT f.name, 'is', w.place, w.line
    FROM functions f, regexp_split_to_table(pg_get_functiondef(f.oid), '\n') WITH ORDINALITY AS w (line, place)
    UNION ALL
    SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid), 'comment', 0, d.description
    FROM pg_description d
    WHERE (d.classoid, d.objoid) IN (
        SELECT classid, objid FROM members
        UNION SELECT 'pg_class'::regclass, oid FROM relations
        UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid
        UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid)
    UNION ALL
    SELECT object, what, 0, fact FROM privileges
)
SELECT format('%s: %s: %s', object, what, replace(fact, E'\n', ' '))
FROM facts ORDER BY object COLLATE "C", what COLLATE "C", place, fact COLLATE "C";
