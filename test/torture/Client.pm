# test/torture/Client.pm: one of the clients: what it does, what it may be answered, and what it
# writes down.
#
# Two clients out of three work on orders and holds of their own, the others all on the same. No
# transaction waits for another after it has made others wait, so none may end in a deadlock: what
# others may have locked comes first in a transaction, and once. What is new, or the client's own
# and without a deadline, may come at any time.
package Client;

use strict;
use warnings;
use List::Util qw(shuffle sum0);
use Psql;
use Time::HiRes qw(time usleep);

use constant KEPT => 12;	# orders, and holds, that a client has in hand
use constant PRICE => 10;
use constant SKUS => 64;
my @levels = ('read committed', 'repeatable read', 'serializable');
my @coupons = qw(FEW MOVING EACH);	# EACH: two for each customer, who would wait for himself

# SQLSTATEs of calls that a shop has to expect; 40001 and 53400 are looked at in allowed().
my %expected = map { $_ => 1 } qw(OF001 OF002 OF003 OF004 OF005 57014 57P01 57P02 57P03);

# number, connstr, seed, until (a time), over (a file that tells the end), log, counters, sales (do
# nothing but sell)
sub new
{
	my ($class, %self) = @_;
	my $self = bless { %self, stats => {}, errors => [], calls => 0 }, $class;
	srand($self->{seed} * 1000 + $self->{number});
	$self->{shared} = $self->{number} % 4 == 3;
	$self->{customer} = $self->{shared} ? 'shared' : "client $self->{number}";
	$self->{level} = $levels[ $self->{number} % 3 ];
	$self->{serial} = $self->{seed} . '.' . $self->{number} . '.';
	open $self->{file}, '>>', $self->{log} or die "$self->{log}: $!";
	return $self;
}

sub run
{
	my ($self) = @_;
	local $SIG{PIPE} = 'IGNORE';
	until ($self->is_over)
	{
		eval { $self->turn; 1 }
		  or $@ eq "lost\n"
		  or $self->complain("client: $@");
	}
	$self->{psql}->quit if $self->{psql};
	close $self->{file};
	return;
}

sub turn
{
	my ($self) = @_;
	return unless $self->connect;
	return rand() < 0.65 ? $self->single : $self->transaction;
}

sub is_over
{
	my ($self) = @_;
	return time >= $self->{until} || -e $self->{over} || @{ $self->{errors} } >= 5;
}

sub connect
{
	my ($self) = @_;
	return 1 if $self->{psql};
	my $options = '-c client_min_messages=error -c log_min_messages=fatal -c synchronous_commit=on';
	$self->{psql} = Psql->new($self->{connstr}, "shopper $self->{number}", $options);
	if (!$self->{psql})
	{
		usleep(100_000);
		return 0;
	}
	$self->{orders} = [];
	$self->{holds} = [];
	$self->recall;
	return 1;
}

# What this client has in hand, as the tables tell: it forgets when it loses its connection. Only
# then it is given its isolation level: at SERIALIZABLE this look would be in everybody's way.
sub recall
{
	my ($self) = @_;
	my $orders = $self->{psql}->ask("SELECT order_id, payable, state, expires_at > now() + '10 min'
		FROM ordflow.orders WHERE customer = '$self->{customer}' AND state <> 'cancelled'
		ORDER BY order_id DESC LIMIT @{[KEPT]}");
	my $holds = $self->{psql}->ask("SELECT reference, expires_at IS NULL FROM ordflow.holds
		WHERE reference LIKE '%h@{[$self->{number}]}' AND state = 'held' LIMIT @{[KEPT]}");
	my $level = $self->{psql}->ask("SET default_transaction_isolation = '$self->{level}'");
	if (grep { $_->{lost} || $_->{state} } $orders, $holds, $level)
	{
		$self->{psql}->kill;
		$self->{psql} = undef;
		die "lost\n";
	}
	for (@{ $orders->{lines} })
	{
		my ($id, $payable, $state, $free) = split /\|/;
		push @{ $self->{orders} },
		  { id => $id, payable => $payable, state => $state, free => $free eq 't' };
	}
	for (@{ $holds->{lines} })
	{
		my ($reference, $free) = split /\|/;
		push @{ $self->{holds} }, { id => $reference, free => $free eq 't' };
	}
	return;
}

# ---- asking ----

# Nobody reads the answer to some statements: the client is killed while it waits.
sub ask
{
	my ($self, $verb, $sql) = @_;
	$self->{psql}->send($sql);
	if (rand() < 0.002)
	{
		usleep(rand 15_000);
		$self->count('', 'clients killed');
		$self->{psql}->kill;
		$self->lost($verb, 'client killed');
	}
	my $answer = $self->{psql}->answered;
	$self->allowed($verb, $sql, $answer);
	$self->lost($verb, $answer->{state} // $answer->{lost}) if $answer->{lost};
	return $answer;
}

sub lost
{
	my ($self, $verb, $how) = @_;
	$self->{psql} = undef;
	$self->count($verb, $how eq 'lost' ? 'connection lost' : $how);
	$self->{doubt} = $self->{call} if $self->{call} && $self->{call}{keyed} && !$self->{open};
	$self->{call} = undef;
	die "lost\n";
}

sub allowed
{
	my ($self, $verb, $sql, $answer) = @_;
	my $state = $answer->{state} // '';
	return $self->complain("$verb: no answer for a minute: $sql") if $answer->{lost} eq 'no answer';
	return if $state eq '' || $expected{$state};
	return if $state eq '40001' && $self->may_conflict;
	return if $state eq '40001' && $answer->{message} =~ /concurrent change of coupon "MOVING"/;
	return if $state eq '53400' && $self->{counters} < 1000;
	return if $state eq '22023' && $verb eq 'refund';	# more than is left
	return $self->complain("$verb, $self->{level}: $state $answer->{message}: $sql");
}

# Sales do not conflict with each other. What SERIALIZABLE makes of other calls beside them is
# another matter: it tells pages apart, not rows.
sub may_conflict
{
	my ($self) = @_;
	return !$self->{fresh} if $self->{level} eq 'repeatable read';
	return $self->{level} eq 'serializable' && !($self->{fresh} && $self->{sales});
}

sub complain
{
	my ($self, $what) = @_;
	push @{ $self->{errors} }, $what =~ s/\s+/ /gr;
	return;
}

sub count
{
	my ($self, $verb, $outcome) = @_;
	$self->{stats}{"$verb\t$outcome"}++;
	return;
}

# A row for torture.log.
sub note
{
	my ($self, $mark, @fact) = @_;
	my @row = ($self->{number}, $mark, map { $_ // '\N' } @fact[ 0 .. 3 ]);
	print { $self->{file} } join("\t", @row), "\n";
	return;
}

# ---- transactions ----

# A call: verb; sql; fresh (40001 would be wrong); facts, [verb, tag, target, answer] each, that are
# tried; done(@lines), which returns those that are acknowledged with the transaction; refused(),
# where there is nothing more to be done.
sub call
{
	my ($self, $call) = @_;
	my $timeout = rand() < 0.03 ? 1 + int rand 8 : 0;
	my $local = $self->{open} ? 'LOCAL' : '';
	$self->note('T', @$_) for @{ $call->{facts} };
	$self->{fresh} &&= $call->{fresh};
	my $answer = { state => undef };
	$answer = $self->ask('timeout', "SET $local statement_timeout = $timeout") if $timeout;
	$self->{call} = $call;
	$answer = $self->ask($call->{verb}, $call->{sql}) if !$answer->{state};
	$self->{call} = undef;
	if ($answer->{state})
	{
		$self->note('R', @$_) for $call->{again} ? () : @{ $call->{facts} };
	}
	else
	{
		push @{ $self->{facts} }, $call->{done}->(@{ $answer->{lines} });
	}
	my $one = @{ $answer->{lines} } == 1 && $answer->{lines}[0] =~ /^[a-z_]+$/;
	$call->{refused}->() if $call->{refused} && ($answer->{state} // '') =~ /^OF00[14]$|^22023$/;
	$self->count($call->{verb}, $answer->{state} // ($one ? $answer->{lines}[0] : 'ok'));
	return $answer->{state} // '' if !$timeout || $self->{open} && $answer->{state};
	my $reset = $self->ask('timeout', "SET $local statement_timeout = 0");
	return $answer->{state} // $reset->{state} // '' if $self->{open};
	$reset = $self->ask('timeout', 'SET statement_timeout = 0') while $reset->{state};
	return $answer->{state} // '';
}

sub begin
{
	my ($self) = @_;
	$self->{facts} = [];
	$self->{fresh} = 1;
	$self->{coupon} = $coupons[ rand($self->{shared} ? 2 : 3) ];
	return $self->belief;
}

# What the client believes to have in hand, to go back to after a rollback.
sub belief
{
	my ($self) = @_;
	return { map { $_ => [ map { {%$_} } @{ $self->{$_} } ] } qw(orders holds) };
}

sub believe
{
	my ($self, $belief) = @_;
	@$self{qw(orders holds)} = @{$belief}{qw(orders holds)};
	return;
}

sub acknowledged
{
	my ($self) = @_;
	$self->note('A', @$_) for @{ $self->{facts} };
	delete $_->{new} for @{ $self->{orders} }, @{ $self->{holds} };
	for my $kind (qw(orders holds))
	{
		shift @{ $self->{$kind} } while @{ $self->{$kind} } > KEPT;
	}
	return;
}

# Rolled back are the facts from the given one on.
sub rolled_back
{
	my ($self, $first, $belief) = @_;
	$self->note('R', @$_) for splice @{ $self->{facts} }, $first;
	$self->believe($belief);
	return;
}

sub single
{
	my ($self) = @_;
	my $before = $self->begin;
	my $call = $self->in_doubt // $self->any_call;
	my $state = $self->call($call);
	return $state ? $self->believe($before) : $self->acknowledged;
}

# A submit that nobody knows the end of is repeated with its key. The first may still be at work.
sub in_doubt
{
	my ($self) = @_;
	my $call = delete $self->{doubt} or return;
	return { %$call, verb => 'submit again', again => 1, fresh => 0, keyed => 0 };
}

sub transaction
{
	my ($self) = @_;
	my $before = $self->begin;
	local $self->{open} = 1;
	return if $self->ask('begin', 'BEGIN')->{state};
	my $state = $self->call(rand() < 0.4 ? $self->any_call : $self->new_call);
	for (1 .. 1 + int rand 4)
	{
		last if $state;
		$state = rand() < 0.4 ? $self->savepoint(1) : $self->call($self->own_call);
		usleep(rand 40_000) if rand() < 0.05;
	}
	my $end = $state || rand() < 0.2 ? 'ROLLBACK' : 'COMMIT';
	my $answer = $self->ask($end, $end);
	$self->count($end, $answer->{state} // 'ok');
	return $self->acknowledged if ($answer->{lines}[0] // '') eq 'COMMIT';
	$answer = $self->ask('rollback', 'ROLLBACK') while $answer->{state};
	return $self->rolled_back(0, $before);
}

# Returns the SQLSTATE that ends the whole transaction, or ''.
sub savepoint
{
	my ($self, $depth) = @_;
	my ($facts, $belief) = (scalar @{ $self->{facts} }, $self->belief);
	my $state = $self->ask('savepoint', "SAVEPOINT s$depth")->{state};
	return $state if $state;
	for (1 .. 1 + int rand 2)
	{
		$state = $depth < 3 && rand() < 0.2 ? $self->savepoint($depth + 1)
		  : $self->call($self->own_call);
		last if $state;
	}
	return $state if $state && $state eq '40001';
	my $end = $state || rand() < 0.6 ? 'ROLLBACK TO' : 'RELEASE';
	my $ended = $self->ask('savepoint', "$end s$depth")->{state};
	$self->count('savepoint', lc $end);
	return $ended if $ended;
	$self->rolled_back($facts, $belief) if $end eq 'ROLLBACK TO';
	return '';
}

# ---- calls ----

sub tag
{
	my ($self, $kind) = @_;
	return $self->{serial} . ++$self->{calls} . ($kind ? $kind . $self->{number} : '');
}

sub sku { return 's' . (1 + int(SKUS * rand()**3)) }

# One to five lines, in no order.
sub lines
{
	my ($more) = @_;
	my %quantity = map { sku() => 1 + int rand 2 } 1 .. 1 + int(5 * rand()**2);
	my @lines = map { qq({"sku": "$_", "quantity": $quantity{$_}$more}) } shuffle keys %quantity;
	return ('[' . join(', ', @lines) . ']', sum0 values %quantity);
}

# The arguments of a submit as JSON, and what is told of it. A transaction uses one coupon: who
# alters two would wait for it in turn.
sub order
{
	my ($self) = @_;
	my $coupon = rand() < 0.3 ? $self->{coupon} : undef;
	my ($lines, $units) = lines(', "unit_price": ' . PRICE);
	my $tag = $self->tag;
	my $free = rand() < 0.5;
	my $key = $self->{shared} && rand() < 0.2 ? 'shared key ' . int rand 1000
	  : rand() < 0.6 ? "key $tag" : undef;
	my $within = $free ? '1 hour' : (100 + int rand 2000) . ' ms';
	my $json = qq({"customer": "$self->{customer}", "pay_within": "$within", "lines": $lines)
	  . qq(, "metadata": {"tag": "$tag"})
	  . ($coupon ? qq(, "coupon": "$coupon") : '')
	  . ($key ? qq(, "idempotency_key": "$key") : '') . '}';
	my $payable = $units * ($coupon ? PRICE - 1 : PRICE);
	return { json => $json, tag => $tag, key => $key, payable => $payable, free => $free,
		fresh => !$key || $key !~ /^shared/ };
}

sub have_order
{
	my ($self, $order, $id) = @_;
	push @{ $self->{orders} }, { id => $id, payable => $order->{payable}, free => $order->{free},
		state => 'pending_payment', new => 1 } if !$order->{key} || $order->{key} !~ /^shared/;
	return [ 'submit', $order->{tag}, $order->{key}, $id ];
}

sub submit
{
	my ($self) = @_;
	my $order = $self->order;
	my $sql = "SELECT ordflow.submit_order(j->>'customer', j->'lines', j->>'coupon',
		j->>'idempotency_key', (j->>'pay_within')::interval, j->'metadata')
		FROM (SELECT '$order->{json}'::jsonb AS j) AS j";
	return { verb => 'submit', sql => $sql, fresh => $order->{fresh},
		keyed => defined $order->{key},
		facts => [ [ 'submit', $order->{tag}, $order->{key} ] ],
		done => sub { $self->have_order($order, $_[0]) } };
}

sub submit_many
{
	my ($self) = @_;
	my @orders = map { $self->fresh_order } 1 .. 1 + int rand 4;
	my $json = join ', ', map { $_->{json} } @orders;
	return { verb => 'submit many', fresh => 1,
		sql => "SELECT order_id, result, detail FROM ordflow.submit_orders('[$json]')
			ORDER BY ordinality",
		facts => [ map { [ 'submit', $_->{tag}, $_->{key} ] } @orders ],
		done => sub { $self->many_done(\@orders, @_) } };
}

# An order that nobody else submits.
sub fresh_order
{
	my ($self) = @_;
	my $order;
	do { $order = $self->order } until $order->{fresh};
	return $order;
}

sub many_done
{
	my ($self, $orders, @lines) = @_;
	my @facts;
	for my $order (@$orders)
	{
		my ($id, $result, $detail) = split /\|/, shift @lines, 3;
		$self->count('order of many', $result);
		if ($result eq 'ok')
		{
			push @facts, $self->have_order($order, $id);
			next;
		}
		$self->note('R', 'submit', $order->{tag}, $order->{key});
		$self->complain("submit many: $result $detail")
		  if $result !~ /^(?:insufficient_stock|coupon_refused)$/;
	}
	return @facts;
}

sub reserve
{
	my ($self) = @_;
	my ($lines, $units) = lines('');
	my $shared = $self->{shared} && !$self->{open} && !$self->{sales} && rand() < 0.5;
	my $reference = $shared ? 'shared ' . int rand 12 : $self->tag('h');
	my $free = rand() < 0.4;
	my $expires = $free ? 'NULL' : "clock_timestamp() + '@{[50 + int rand 1500]} ms'";
	return { verb => 'reserve', fresh => !$shared,
		facts => [ [ 'reserve', $reference, $reference ] ],
		sql => "SELECT ordflow.reserve_stock('$reference', '$lines', $expires)",
		done => sub {
			$self->complain("reserve: $_[0] units of $lines") if $_[0] != $units;
			push @{ $self->{holds} }, { id => $reference, free => $free, new => 1 } if !$shared;
			return [ 'reserve', $reference, $reference, $_[0] ];
		} };
}

# Any of what the client has in hand that need not come first in a transaction.
sub pick
{
	my ($self, $kind, $any) = @_;
	my @list = grep { $any || $_->{new} || $_->{free} && !$self->{shared} } @{ $self->{$kind} };
	return $list[ rand @list ];
}

my %next = (
	pending_payment => [qw(pay pay pay cancel cancel)],
	pending_shipment => [qw(ship ship cancel refund)],
	pending_receipt => [qw(confirm refund)],
	completed => ['refund']);
my %leads_to = (pay => 'pending_shipment', ship => 'pending_receipt', confirm => 'completed',
	cancel => 'cancelled', refund => 'cancelled');

sub order_verb
{
	my ($self, $any) = @_;
	my $order = $self->pick('orders', $any) or return;
	my $verbs = $next{ $order->{state} } // [ keys %leads_to ];
	my $verb = rand() < 0.05 ? (keys %leads_to)[ rand 5 ] : $verbs->[ rand @$verbs ];
	my ($id, $tag) = ($order->{id}, $self->tag);
	my $amount = rand() < 0.02 ? 1 : $order->{payable};
	my $restock = rand() < 0.8 ? 'true' : 'false';
	my $part = rand() < 0.3 ? q('[{"line": 1, "quantity": 1}]') : 'NULL';
	my $confirm = $verb eq 'confirm' ? $id : undef;
	my %sql = (
		pay => "pay_order($id, 'bank', '$tag', $amount)",
		ship => "ship_order($id, 'post', '$tag')",
		confirm => "confirm_order($id)",
		cancel => "cancel_order($id, '$tag')",
		refund => "refund_order($id, $part, NULL, $restock, 'torture', '$tag')");
	return { verb => $verb, sql => "SELECT ordflow.$sql{$verb}", facts => [ [ $verb, $tag, $id ] ],
		refused => sub { @{ $self->{orders} } = grep { $_ != $order } @{ $self->{orders} } },
		done => sub {
			my $moved = $_[0] eq 'applied' || $verb eq 'refund' && $part eq 'NULL';
			$order->{state} = $leads_to{$verb} if $moved;
			@{ $self->{orders} } = grep { $_->{state} ne 'cancelled' } @{ $self->{orders} };
			return [ $verb, $tag, $id, $_[0] ];
		} };
}

sub hold_verb
{
	my ($self, $any) = @_;
	my $hold = $self->pick('holds', $any);
	$hold = { id => 'shared ' . int rand 12 } if $self->{shared} && $any && rand() < 0.5;
	return unless $hold;
	my $verb = rand() < 0.3 ? 'commit' : 'release';
	my ($id, $tag) = ($hold->{id}, $self->tag);
	return { verb => $verb, sql => "SELECT ordflow.${verb}_stock('$id')",
		facts => [ [ $verb, $tag, $id ] ],
		done => sub {
			@{ $self->{holds} } = grep { $_->{id} ne $id } @{ $self->{holds} };
			return [ $verb, $tag, $id, $_[0] ];
		} };
}

sub goods
{
	my ($self) = @_;
	my ($sku, $tag) = (sku(), $self->tag);
	my $n = 1 + int rand 3;
	my $receive = rand() < 0.5;
	my $delta = $receive || rand() < 0.1 ? $n : -$n;
	my $verb = $receive ? 'receive' : 'adjust';
	return { verb => $verb, fresh => 1, facts => [ [ $verb, $tag, $sku ] ],
		sql => $receive ? "SELECT ordflow.receive_stock('$sku', $n, reference => '$tag')"
		  : "SELECT ordflow.adjust_stock('$sku', $delta, '$tag')",
		done => sub { [ $verb, $tag, $sku, $delta ] } };
}

sub look
{
	my ($self) = @_;
	my $sku = sku();
	my $quote = rand() < 0.5 && !$self->{fresh};
	my ($lines) = lines(', "unit_price": 10');
	return { verb => 'look', fresh => 1, facts => [],
		sql => $quote ? "SELECT ordflow.quote_order('$self->{customer}', '$lines')->>'payable'"
		  : "SELECT ordflow.available_stock('$sku')",
		done => sub {
			$self->complain("available_stock('$sku') is $_[0]") if !$quote && $_[0] < 0;
			return ();
		} };
}

# Seldom, and by itself: the limit of a coupon is moved, a sku is counted.
sub rare
{
	my ($self) = @_;
	my $tag = $self->tag;
	if (rand() < 0.5)
	{
		my $limit = 3 + int rand 10;
		return { verb => 'alter', done => sub { () },
			facts => [ [ 'alter', $tag, 'MOVING', $limit ] ],
			sql => qq(SELECT ordflow.alter_coupon('MOVING', '{"usage_limit": $limit}')) };
	}
	return { verb => 'set', facts => [ [ 'set', $tag ] ], done => sub { () },
		sql => "SELECT ordflow.set_stock('@{[sku()]}', @{[3 + int rand 6]}, '$tag')" };
}

sub new_call
{
	my ($self) = @_;
	my $r = rand;
	return $r < 0.5 ? $self->submit_fresh : $r < 0.6 ? $self->submit_many
	  : $r < 0.85 ? $self->reserve : $r < 0.92 || $self->{sales} ? $self->goods : $self->look;
}

# A key that others use comes first in a transaction or not at all.
sub submit_fresh
{
	my ($self) = @_;
	my $call;
	do { $call = $self->submit } until $call->{fresh};
	return $call;
}

# What may come anywhere in a transaction.
sub own_call
{
	my ($self) = @_;
	return $self->new_call if $self->{sales};
	my $r = rand;
	my $call = $r < 0.25 ? $self->order_verb : $r < 0.4 ? $self->hold_verb : undef;
	return $call // $self->new_call;
}

sub any_call
{
	my ($self) = @_;
	return $self->new_call if $self->{sales};
	my $r = rand;
	my $full = @{ $self->{orders} } + @{ $self->{holds} } > KEPT;
	my $call =
		$r < ($full ? 0.6 : 0.35) ? $self->order_verb(1)
	  : $r < ($full ? 0.8 : 0.45) ? $self->hold_verb(1)
	  : $r > 0.99 && !$self->{open} ? $self->rare
	  : $r > 0.85 ? $self->submit : undef;
	return $call // $self->new_call;
}

1;
