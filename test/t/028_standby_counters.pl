# A standby sells only when it is promoted, and then by the rows alone: what sessions looked at
# before, in whatever they were in the middle of, and what was open on the primary, is nothing to
# it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Cluster;
use Sessions;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
configure($primary, 'ordflow.workers = off', 'hot_standby_feedback = on');
$primary->start;
answer($primary, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 10)
	FROM unnest('{lamp,rug,vase}'::text[]) AS sku));
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# ---- read on the standby, again and again, while the primary sells ----
my ($reader, $old, $stuck, $idle) = map { session($standby) } 1 .. 4;
my $look = q(SELECT ordflow.available_stock('lamp'));
for my $left (8, 6, 4)
{
	answer($primary, hold("cart $left", 'lamp', 2));
	$primary->wait_for_catchup($standby);
	is(act($reader, $look), $left, "the standby sees what is left: $left");
}
is(act($reader, $_), '25006', 'it does not sell') for submission('lamp'), hold('s', 'lamp');
is(answer($standby, 'SELECT count(*) FROM ordflow.counter_differences()'), 0,
	'nor does it count');
answer($primary, q(UPDATE ordflow.stock SET on_hand = on_hand + 10 WHERE sku = 'lamp'));
$primary->wait_for_catchup($standby);
is(act($reader, $look), 14, 'a direct write arrives');
all_right($standby, 'on the standby');

# ---- promoted, with readers in the middle ----
# what is open on the primary is lost with it; it locks what one reads, another has an old snapshot
answer($primary, hold('last', 'rug', 3));
act($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ordflow.machines');
my $open = session($primary);
act($open, 'BEGIN; ' . hold('open', 'lamp', 5)
	. q(; SELECT ordflow.release_stock('cart 8'); LOCK TABLE ordflow.stock_movements));
$primary->wait_for_catchup($standby);
wait_until($standby, q(SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock'
	AND relation = 'ordflow.stock_movements'::regclass));
start($stuck, $look);
waits($standby, $stuck, 'a reader on the standby');
$primary->stop('immediate');
$standby->promote;
is(result($stuck), 14, 'promoted, the reader goes on');
is(act($old, $look), 14, 'so does the one with an old snapshot');
is(act($old, hold('no', 'lamp')), '25006',
	'whose transaction began on a standby, and sells nothing');
act($old, 'ROLLBACK');
$open->{stdin} = '';
eval { $open->{run}->finish };

exactly($standby, $_->[0], $_->[1], 'promoted') for [ 'lamp', 14 ], [ 'rug', 7 ], [ 'vase', 10 ];
my @sold = map { act($_, hold("new $_->{pid}", 'lamp', 5)) } $stuck, $old, $reader, $idle;
is("@sold", '5 5 OF002 OF002', 'all sessions sell what there is');
exactly($standby, 'lamp', 4, 'sold');
all_right($standby, 'promoted');
$_->quit for $reader, $old, $stuck, $idle;

done_testing();
