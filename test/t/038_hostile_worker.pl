# The worker, who may do everything, fires the timeouts of tables whose owner has put code into
# them: it runs as the owner, restricted, and nothing is gained. What cannot be restricted, a
# deferred trigger, is parked, and holds up nobody.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('main');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE ROLE evil;
	SELECT ordflow.grant_access('evil', 'admin');
	CREATE SCHEMA evil AUTHORIZATION evil;
	CREATE TABLE treasure (gold int);
	INSERT INTO treasure VALUES (1);
	SET ROLE evil;
	CREATE TABLE evil.seen (via text, who text, command text, result text);
	CREATE FUNCTION evil.attack(via text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		who text := current_user;
		command text;
		result text;
	BEGIN
		FOREACH command IN ARRAY ARRAY['SET ROLE postgres', 'RESET ROLE',
			'SET SESSION AUTHORIZATION DEFAULT',
			'SELECT set_config(''role'', ''none'', false)', 'UPDATE public.treasure SET gold = 0',
			'CREATE TEMP TABLE machines (machine text)', 'ALTER ROLE evil SUPERUSER',
			'DELETE FROM ordflow.object_history', 'COPY evil.seen TO PROGRAM ''true'''] LOOP
			BEGIN
				EXECUTE command;
				result := 'done';
			EXCEPTION WHEN OTHERS THEN
				result := SQLSTATE;
			END;
			INSERT INTO evil.seen VALUES (via, who, command, result);
		END LOOP;
	END $$;
	CREATE FUNCTION evil.number(via text, n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN PERFORM evil.attack(via); RETURN n; END $$;
	CREATE FUNCTION evil.yes(via text) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN PERFORM evil.attack(via); RETURN true; END $$;
	CREATE FUNCTION evil.on_row() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM evil.attack(TG_ARGV[0]); RETURN NEW; END $$;
	CREATE FUNCTION evil.to_log() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO evil.log (id) VALUES (NEW.id); RETURN NEW; END $$;
	CREATE TABLE evil.log (id int, note int DEFAULT evil.number('default', 1));
	SELECT ordflow.define_machine('codes', '{"states": {"0": "initial", "10": "final"},
		"transitions": [{"from": "0", "event": "go", "to": "10", "after": "1 hour"}]}');

	-- traps are set before there are rows, whose deadlines come when all is ready
	CREATE TABLE evil.trigger (id int PRIMARY KEY, status int, due timestamptz);
	CREATE TRIGGER t BEFORE UPDATE ON evil.trigger
		FOR EACH ROW EXECUTE FUNCTION evil.on_row('before');
	CREATE TRIGGER u AFTER UPDATE ON evil.trigger
		FOR EACH ROW EXECUTE FUNCTION evil.on_row('after');
	CREATE TRIGGER v AFTER UPDATE ON evil.trigger FOR EACH ROW EXECUTE FUNCTION evil.to_log();
	CREATE TABLE evil.columns (id int PRIMARY KEY, status smallint, due timestamptz,
		CHECK (evil.number('check', status) >= 0),
		g int GENERATED ALWAYS AS (evil.number('generated', status)) STORED);
	CREATE TABLE evil.index (id int PRIMARY KEY, status int, due timestamptz);
	CREATE INDEX ON evil.index ((evil.number('index', status)), due);
	CREATE TABLE evil.policy (id int PRIMARY KEY, status int, due timestamptz);
	CREATE POLICY p ON evil.policy USING (evil.yes('policy')) WITH CHECK (evil.yes('policy'));
	ALTER TABLE evil.policy ENABLE ROW LEVEL SECURITY;
	ALTER TABLE evil.policy FORCE ROW LEVEL SECURITY;
	CREATE TABLE evil.deferred (id int PRIMARY KEY, status int, due timestamptz);
	CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON evil.deferred DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION evil.on_row('deferred');
	RESET ROLE;
	CREATE TABLE good (id int PRIMARY KEY, status int, due timestamptz);
SQL

# the rows come in by sessions of the owner, who has no more than his own rights there
answer($node, 'ALTER ROLE evil LOGIN');
my @tables = qw(evil.trigger evil.columns evil.index evil.policy evil.deferred good);
for my $table (@tables)
{
	my $role = $table eq 'good' ? 'postgres' : 'evil';
	$node->safe_psql('postgres', "SELECT ordflow.attach('$table', 'codes', 'status',
			due_column => 'due');
		INSERT INTO $table SELECT n, 0, now() + interval '3 s' FROM generate_series(1, 4) AS n",
		extra_params => [ '-U', $role ]);
}
answer($node, 'DELETE FROM evil.seen');

for my $table (grep { $_ ne 'evil.deferred' } @tables)
{
	becomes($node, "SELECT count(*) FROM $table WHERE status = 10", 4, "$table: all fire");
}
becomes($node, q(SELECT count(*) FROM ordflow.parked WHERE target = 'evil.deferred'
	AND sqlstate = '42501'), 4, 'evil.deferred: all are parked (42501)');
is(answer($node, 'SELECT string_agg(DISTINCT via, chr(32) ORDER BY via) FROM evil.seen'),
	'after before check default generated index policy', 'every trap was met');
is(answer($node, 'SELECT DISTINCT who, result FROM evil.seen'), 'evil|42501',
	'as the owner of the table, and every attack was refused');
is(answer($node, 'SELECT gold FROM treasure'), 1, 'nothing was taken');
is(answer($node, q(SELECT rolsuper FROM pg_roles WHERE rolname = 'evil')), 'f', 'nobody rose');
is(answer($node, q(SELECT count(*) FROM ordflow.object_history WHERE to_state = '10')), 20,
	'and the history tells of what fired');
is(answer($node, q(SELECT DISTINCT actor FROM ordflow.object_history WHERE to_state = '10')),
	'ordflow coordinator', 'by the worker');
done_testing();
