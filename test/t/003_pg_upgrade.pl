# pg_upgrade takes a cluster with a shop in full swing, in --check and in earnest: no reg* column
# and nothing else stands in its way, and the shop goes on. A database that is active stays so: what
# came due meanwhile is cancelled when the new server starts. So does one that is not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = server('old');
my $new = server('new');
answer($old, 'CREATE DATABASE shop');
shop($old, 'shop');
spread_ledger($old, 'shop');
my $rows = checksums($old, 'shop');
my $activation = answer($old, 'SELECT * FROM ordflow.activation', 'shop');
answer($old, 'CREATE DATABASE live');
answer($old, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 10)), 'live');
order_lamp($old, 'live', '3 s');
$_->stop for $old, $new;

my $bindir = $old->config_data('--bindir');
my @upgrade = (
	'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $old->data_dir, '-D',
	$new->data_dir, '-s', $new->host, '-p', $old->port, '-P', $new->port);
chdir PostgreSQL::Test::Utils::tempdir;
command_like([ @upgrade, '--check' ], qr/Clusters are compatible/, 'pg_upgrade --check passes');
command_ok([@upgrade], 'pg_upgrade passes');

$new->start;
same_checksums(checksums($new, 'shop'), $rows, 'upgraded');
is(answer($new, 'SELECT * FROM ordflow.activation', 'shop'), $activation, 'so is the activation');
all_cancelled($new, 'live', 'upgraded, active');
audits_clean($new, 'upgraded, active', 'live');
audits_clean($new, 'upgraded', 'shop');
my $lines = q('[{"sku": "lamp", "quantity": 1, "unit_price": 1}]');
is(answer($new, "SELECT ordflow.submit_order('new', $lines)", 'shop'), 31,
	'a new order gets the next id');
is(answer($new, 'SELECT ordflow.run_due()', 'shop'), 5,
	'what was overdue is left to run_due(), as the shop is not active');
audits_clean($new, 'upgraded, having sold', 'shop');

done_testing();
