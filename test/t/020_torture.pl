# A minute of the torture: see test/torture/torture.pl. "make torture MINUTES=60" takes an hour.
use strict;
use warnings;
use FindBin;

$ENV{MINUTES} = 1;
exec $^X, "$FindBin::Bin/../torture/torture.pl" or die "torture.pl: $!";
