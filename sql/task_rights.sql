-- Who may do what with tasks: the owner of a kind and its members, who was granted it, who submitted.
\a \t
\set VERBOSITY sqlstate
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_tr_owner, regress_tr_member, regress_tr_clerk, regress_tr_other;
CREATE ROLE regress_tr_owner LOGIN;
CREATE ROLE regress_tr_member LOGIN IN ROLE regress_tr_owner;
CREATE ROLE regress_tr_clerk LOGIN;
CREATE ROLE regress_tr_other LOGIN;
SELECT ordflow.grant_access(r::regrole, 'tasks') FROM unnest(ARRAY['regress_tr_owner', 'regress_tr_member', 'regress_tr_clerk', 'regress_tr_other']) AS r;
CREATE SCHEMA tright AUTHORIZATION regress_tr_owner;
GRANT USAGE ON SCHEMA tright TO PUBLIC;
SET ROLE regress_tr_owner;
CREATE FUNCTION tright.echo(p jsonb) RETURNS jsonb LANGUAGE sql RETURN p;
SELECT ordflow.define_task('tright');
SELECT ordflow.define_task('tright run', 'tright.echo(jsonb)');

-- no grant: nothing
SET ROLE regress_tr_clerk;
SELECT ordflow.submit_task('tright');
SELECT ordflow.submit_batch('tright', '{}');
SELECT ordflow.submit_shards('tright', 2);
SELECT ordflow.schedule_task('tright', '@daily', 'tright');
SELECT * FROM ordflow.claim_tasks('tright');
SELECT ordflow.pause_kind('tright');
SELECT ordflow.resume_kind('tright');
SELECT ordflow.grant_kind('tright', 'regress_tr_clerk');
SELECT ordflow.define_task('tright');
SELECT ordflow.define_task('tright stolen', 'tright.echo(jsonb)');

-- granted: may submit, on_finish too where that is granted; sees and cancels what is his
SET ROLE regress_tr_member;
SELECT ordflow.grant_kind('tright', 'regress_tr_clerk'), ordflow.grant_kind('tright', 'regress_tr_clerk');
SET ROLE regress_tr_clerk;
SELECT ordflow.submit_task('tright', '"clerk"') AS t \gset
SELECT ordflow.submit_batch('tright', ARRAY['"clerk"']::jsonb[], '{"on_finish": "tright run"}');
SELECT ordflow.submit_batch('tright', ARRAY['"clerk"']::jsonb[], '{"on_finish": "tright"}') AS b \gset
SELECT * FROM ordflow.claim_tasks('tright');
SELECT * FROM ordflow.claim_task(:t);
SELECT * FROM ordflow.tasks;
SELECT * FROM ordflow.task_queue;
SET ROLE regress_tr_other;
SELECT ordflow.cancel_task(:t);
SELECT ordflow.cancel_batch(:b);
SELECT ordflow.retry_task(:t);
SELECT ordflow.retry_batch(:b);
SELECT ordflow.complete_task(:t, 1);
CALL ordflow.wait_for_tasks('tright', '0 s');
SET ROLE regress_tr_clerk;
SELECT ordflow.cancel_batch(:b);

-- members of the owner claim and finish
SET ROLE regress_tr_member;
SELECT payload, token FROM ordflow.claim_task(:t) \gset
SELECT submitter FROM ordflow.current_task();
SELECT * FROM ordflow.claim_tasks('tright run');
SET ROLE regress_tr_other;
SELECT ordflow.complete_task(:t, :token);
SELECT ordflow.release_task(:t, :token);
SET ROLE regress_tr_member;
SELECT ordflow.complete_task(:t, :token);

-- taken back
SELECT ordflow.revoke_kind('tright', 'regress_tr_clerk');
SET ROLE regress_tr_clerk;
SELECT ordflow.submit_task('tright');

-- replaced by a member: the owner stays; by who is none: not at all
SET ROLE regress_tr_member;
SELECT ordflow.define_task('tright', NULL, '{"max_attempts": 2}');
RESET ROLE;
SELECT kind, owner, max_attempts FROM ordflow.task_kinds WHERE kind LIKE 'tright%' ORDER BY kind;

-- who lost everything can do nothing, not even call
SELECT ordflow.revoke_access('regress_tr_other', 'tasks');
SET ROLE regress_tr_other;
SELECT ordflow.submit_task('tright');
SELECT ordflow.try_lock('x');
RESET ROLE;
DROP SCHEMA tright CASCADE;
SELECT ordflow.revoke_access(r::regrole, 'tasks') FROM unnest(ARRAY['regress_tr_owner', 'regress_tr_member', 'regress_tr_clerk']) AS r;
DROP ROLE regress_tr_owner, regress_tr_member, regress_tr_clerk, regress_tr_other;
