/*
 * sink_check.c
 *	  What every sink must do, tried without a server of PostgreSQL; prints TAP.
 *
 *		sink_check MODULE NAME=VALUE ... -- TARGET NAME=VALUE ... -- CASE ...
 *
 * First the options of the server, then the target ('order:{id}'; - for none) and the options of
 * the route, then cases, each of which goes on where the one before it, or an earlier call, ended:
 *
 *		refused						the route is refused
 *		fresh						clears, then sends rows 1 to 10; the same again is refused
 *		write						changes and deletes some, through two connections
 *		truncate					row 20, a TRUNCATE, row 21
 *		large						a batch of as many bytes as there may be
 *		cancel						asked to leave while it works
 *		replay						a dead letter: row 30
 *		clear						what the sink keeps for itself is gone
 *		down NAME=VALUE				with that option of the server there is nobody
 *		denied NAME=VALUE			with that one it is turned away
 *		poison ID					the target refuses that row
 *		whole						a transaction over several batches, of sinks of transactions
 *		copy						rows as they stand, twice
 *		partial						an update of a row that is not there
 *		compare, scan				what the target holds is told
 *		fault OUTCOME BREAK MEND	two commands of the shell: apply() fails between them
 *		kill ROUNDS					a process that sends is killed, and another one goes on
 *
 * A row has the columns id, name, amount (which updates leave alone) and note (null at first).
 */
#include "sync/sink.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME_SPACE "ordflow:check:"
#define OPTIONS_MAX 32
#define FIELDS 4
#define LARGE_ROWS 1000
#define LARGE_BYTES (SINK_BYTES_MAX / LARGE_ROWS - 200)
#define KILL_ROWS 400
#define KILL_BATCH 50
#define KILL_BYTES 2000
#define KILL_FIRST_ID 5000
#define PATIENCE_MS 1000		/* to leave, and beyond the timeout of the server */

typedef bool (*Case) (char **arguments);

static ModuleOption options[OPTIONS_MAX];
static ModuleConfig config = {.server = "test",.options = options};
static ModuleOption route_options[OPTIONS_MAX];
static const char *const keys[] = {"id"};
static SinkRoute route = {.sync = "check",.options = route_options,.nkeys = 1,.keys = keys};
static const Sink *sink;
static void *state;
static ModuleError error;
static SinkResult result;
static SinkPosition at;			/* of the last item that was made */
static SinkItem items[SINK_ITEMS_MAX];
static SinkBatch batch = {.items = items};
static volatile bool leave;
static int	ntests;
static int	nfailed;

static int64
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- TAP ---- */

static bool
ok(bool good, const char *name)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++ntests, name);
	nfailed += !good;
	return good;
}

static void
show(const char *what, const SinkPosition *position)
{
	char		text[SINK_POSITION_TEXT_MAX];

	sink_position_print(position, text);
	printf("# %s %s\n", what, text);
}

/* An error says something, and nothing that is secret. */
static bool
speaks(const ModuleError *said, const char *name)
{
	const char *password = module_option(&config, "password");
	bool		good = said->message[0] != '\0';

	if (password != NULL && password[0] != '\0')
		good = good && !strstr(said->message, password) && !strstr(said->hint, password);
	printf("# %s | %s\n", said->message, said->hint);
	return ok(good, name);
}

static const char *
name_of(SinkOutcome outcome)
{
	static const char *const names[] = {
		"DONE", "RETRY", "MOVED", "REJECT", "MISCONFIGURED"
	};

	return names[outcome];
}

/* ---- rows ---- */

static char pg_attribute_printf(1, 2) *
format_text(const char *format,...)
{
	char		made[1024];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(made, sizeof(made), format, arguments);
	va_end(arguments);
	return strdup(made);
}

/* The route's target with the id, or as the pattern of all: as the core makes them. */
static char *
target_of(const char *id, bool pattern)
{
	char	   *made = calloc(2 * strlen(route.target) + strlen(id) + 1, 1);
	char	   *to = made;

	for (const char *from = route.target; *from; from++)
	{
		if (strncmp(from, "{id}", 4) == 0)
		{
			to = stpcpy(to, pattern ? "*" : id);
			from += 3;
			continue;
		}
		if (pattern && strchr("*?[]\\", *from))
			*to++ = '\\';
		*to++ = *from;
	}
	return made;
}

/* Of a given length, where that is more than it takes, and with what must be quoted. */
static char *
row_name(int id, int revision, int bytes)
{
	char	   *head = format_text("name %d \"\\ '{}\n \xc3\xa9 r%d", id, revision);
	int			length = strlen(head);
	char	   *made = calloc(Max(length, bytes) + 1, 1);

	memcpy(made, head, length);
	if (bytes > length)
		memset(made + length, 'x', bytes - length);
	free(head);
	return made;
}

static void
add_fields(SinkItem *item, int id, int revision, int bytes)
{
	SinkField  *fields = calloc(FIELDS, sizeof(SinkField));
	int			n = 0;

	fields[n++] = (SinkField) {.name = "id",.value = format_text("%d", id)};
	if (item->op == SINK_PUT)
		fields[n++] = (SinkField) {.name = "name",.value = row_name(id, revision, bytes)};
	if (item->is_insert)
		fields[n++] = (SinkField) {.name = "amount",.value = format_text("%d", id * 100)};
	if (item->op == SINK_PUT)
		fields[n++] = (SinkField) {.name = "note",.value = revision % 2 ? NULL : "noted"};
	item->is_partial = item->op == SINK_PUT && !item->is_insert;
	for (int i = 0; i < n; i++)
		fields[i].length = fields[i].value ? strlen(fields[i].value) : 0;
	item->fields = fields;
	item->nfields = n;
}

/* Revision 1 is new; of events there is a tombstone for a row that is gone. */
static void
add_item(SinkOp op, int id, int revision, int bytes)
{
	SinkItem   *item = &items[batch.n++];
	char	   *key = format_text("%d", id);

	at.ordinal++;
	*item = (SinkItem) {.op = op,.route = &route,.at = at,.is_insert = revision == 1};
	item->target = target_of(key, op == SINK_TRUNCATE && route.shape != SHAPE_EVENT);
	item->target_length = strlen(item->target);
	if (op != SINK_TRUNCATE)
	{
		item->key = key;
		item->key_length = strlen(key);
	}
	if (route.shape == SHAPE_FIELDS && op != SINK_TRUNCATE)
		add_fields(item, id, revision, bytes);
	if (route.shape == SHAPE_EVENT)
		item->op = SINK_APPEND;
	if ((route.shape == SHAPE_DOCUMENT && op == SINK_PUT) ||
		(route.shape == SHAPE_EVENT && op != SINK_DELETE))
	{
		char	   *padding = calloc(bytes + 1, 1);
		char	   *body;

		memset(padding, 'x', bytes);
		body = malloc(bytes + 100);
		item->body_length = sprintf(body, "{\"id\": %d, \"revision\": %d%s%s%s}", id, revision,
									bytes ? ", \"padding\": \"" : "", padding, bytes ? "\"" : "");
		item->body = body;
		free(padding);
	}
}

static void
begin_transaction(void)
{
	at.lsn += 1000;
	at.ordinal = 0;
	at.part = 0;
}

/* An empty batch behind what was made last. */
static void
begin_batch(void)
{
	batch.n = 0;
	batch.was_empty = at.lsn == 0;
	batch.from = at;
	begin_transaction();
}

static void
add_rows(SinkOp op, int first, int last, int revision)
{
	for (int id = first; id <= last; id++)
		add_item(op, id, revision, 0);
	batch.to = at;
}

/* ---- calls ---- */

static SinkOutcome
apply_by(void *by)
{
	result = (SinkResult) {.rejected = -1};
	return sink->apply(by, &batch, &result);
}

static bool
applies_by(void *by, SinkOutcome expected, const char *name)
{
	SinkOutcome outcome = apply_by(by);

	if (outcome != expected)
		printf("# %s, not %s: %s | %s\n", name_of(outcome), name_of(expected),
			   result.error.message, result.error.hint);
	return ok(outcome == expected, name);
}

static bool
applies(SinkOutcome expected, const char *name)
{
	return applies_by(state, expected, name);
}

static bool
connects(void *by)
{
	error = (ModuleError) {0};
	if (sink->connect(by, &error))
		return true;
	printf("# connect: %s | %s\n", error.message, error.hint);
	return false;
}

/* The target's, or where there is none the zero position. */
static bool
ask(void *by, SinkPosition *position)
{
	bool		found = false;

	memset(position, 0, sizeof(SinkPosition));
	if (sink->position(by, position, &found, &error))
		return true;
	printf("# position: %s | %s\n", error.message, error.hint);
	return false;
}

static bool
stands_at(const SinkPosition *expected, const char *name)
{
	SinkPosition position;
	bool		good = ask(state, &position) && sink_position_compare(&position, expected) == 0;

	if (!good)
	{
		show("it is at", &position);
		show("not at", expected);
	}
	return ok(good, name);
}

/* Sends what of the batch the target does not have, as the core does after an error. */
static bool
resumes(const char *name)
{
	SinkPosition position = {0};
	SinkOutcome outcome = SINK_MOVED;
	SinkBatch	whole = batch;

	for (int i = 0; i < 100 && outcome == SINK_MOVED; i++)
	{
		int			first = 0;

		if (!connects(state) || !ask(state, &position))
			break;
		while (first < whole.n && sink_position_compare(&items[first].at, &position) <= 0)
			first++;
		batch = whole;
		batch.was_empty = position.generation == 0;
		batch.from = position;
		batch.items = items + first;
		batch.n -= first;
		outcome = batch.n > 0 ? apply_by(state) : SINK_DONE;
	}
	batch = whole;
	if (outcome != SINK_DONE)
		printf("# %s: %s\n", name_of(outcome), result.error.message);
	return ok(outcome == SINK_DONE, name);
}

static bool
asked_to_leave(void)
{
	return leave;
}

/* ---- cases ---- */

static bool
refused(char **arguments)
{
	ModuleError said = {0};

	return ok(!sink->route(&route, &said), "the route is refused") &&
		speaks(&said, "and says why");
}

static bool
fresh(char **arguments)
{
	SinkPosition none = {0};
	SinkPosition sent;

	if (!ok(sink->clear(state, &error), "clear()") || !stands_at(&none, "there is no position"))
		return false;
	/* a stream that was there before takes what a new generation says */
	at = (SinkPosition) {.generation = at.generation + 1};
	begin_batch();
	add_rows(SINK_PUT, 1, 10, 1);
	sent = at;
	if (!applies(SINK_DONE, "the first batch") || !stands_at(&sent, "moves the position"))
		return false;
	applies(SINK_MOVED, "a second time it is refused");
	batch.was_empty = false;
	batch.from.generation++;
	applies(SINK_MOVED, "and so is one of another position");
	return stands_at(&sent, "which both leave alone");
}

/* Two processes: the first does not know that it has a successor. */
static bool
write_rows(char **arguments)
{
	void	   *second = sink->open(&config, NAME_SPACE);

	if (!ok(connects(second), "a second connection"))
		return false;
	begin_batch();
	add_rows(SINK_PUT, 1, 5, 2);
	add_rows(SINK_DELETE, 6, 7, 0);
	add_rows(SINK_DELETE, 99, 99, 0);
	applies_by(second, SINK_DONE, "one changes and deletes");
	applies(SINK_MOVED, "the other is too late");
	sink->close(second);
	begin_batch();
	add_rows(SINK_PUT, 11, 12, 1);
	applies(SINK_DONE, "and goes on behind it");
	begin_batch();
	add_rows(SINK_PUT, 1, 1, 3);
	begin_transaction();
	batch.to = at;
	applies(SINK_DONE, "a batch that ends behind its items");
	stands_at(&batch.to, "moves the position there");
	begin_batch();
	add_rows(SINK_PUT, 13, 13, 1);
	applies(SINK_DONE, "the first half of a transaction");
	batch.from = at;
	batch.n = 0;
	add_rows(SINK_PUT, 13, 13, 2);
	at.part++;
	at.ordinal--;
	add_rows(SINK_PUT, 13, 13, 3);
	applies(SINK_DONE, "and the second, with a change in two parts");
	return stands_at(&at, "both count");
}

static bool
truncate_rows(char **arguments)
{
	begin_batch();
	add_rows(SINK_PUT, 20, 20, 1);
	add_rows(SINK_TRUNCATE, 0, 0, 0);
	add_rows(SINK_PUT, 21, 21, 1);
	applies(SINK_DONE, "a TRUNCATE between two rows");
	stands_at(&at, "moves the position");
	begin_batch();
	add_rows(SINK_PUT, 22, 22, 1);
	batch.from.ordinal++;
	add_rows(SINK_TRUNCATE, 0, 0, 0);
	applies(SINK_MOVED, "of another position it is refused");
	batch.n = 0;
	add_rows(SINK_TRUNCATE, 0, 0, 0);
	applies(SINK_MOVED, "also where it comes first");
	at = batch.from;
	at.ordinal--;
	return stands_at(&at, "and leaves the position alone");
}

static bool
large(char **arguments)
{
	begin_batch();
	for (int i = 0; i < LARGE_ROWS; i++)
		add_item(SINK_PUT, 1000 + i, 1, LARGE_BYTES);
	batch.to = at;
	applies(SINK_DONE, "a large batch");
	return stands_at(&at, "moves the position");
}

static bool
cancel(char **arguments)
{
	SinkOutcome outcome;
	int64		begun;

	begin_batch();
	for (int i = 0; i < LARGE_ROWS; i++)
		add_item(SINK_PUT, 1000 + i, 2, LARGE_BYTES);
	batch.to = at;
	begun = clock_ms();
	leave = true;
	outcome = apply_by(state);
	ok(outcome == SINK_RETRY || outcome == SINK_DONE, "asked to leave, it may try again");
	ok(clock_ms() - begun < PATIENCE_MS, "and returns soon");
	begun = clock_ms();
	ok(!sink->connect(state, &error) || clock_ms() - begun < PATIENCE_MS, "so does connect()");
	leave = false;
	resumes("later the batch is done");
	return stands_at(&at, "and the position is behind it");
}

/* It does not move the position: it has the one of what was sent last. */
static bool
replay(char **arguments)
{
	begin_batch();
	at = batch.from;
	at.ordinal--;
	add_rows(SINK_PUT, 30, 30, 1);
	items[0].is_replay = true;
	batch.to = at;
	applies(SINK_DONE, "a dead letter, sent again");
	applies(SINK_DONE, "and another one");
	stands_at(&at, "leave the position alone");
	begin_batch();
	add_rows(SINK_PUT, 31, 31, 1);
	return applies(SINK_DONE, "changes go on behind them");
}

static bool
clear(char **arguments)
{
	SinkPosition none = {0};

	begin_batch();
	add_rows(SINK_PUT, 40, 40, 1);
	ok(sink->clear(state, &error), "clear()");
	ok(sink->clear(state, &error), "once more");
	stands_at(&none, "there is no position");
	applies(SINK_MOVED, "a batch behind a position is refused");
	return stands_at(&none, "and makes none");
}

/* With one option of another value, or of its own; a state that was never connected closes. */
static bool
connects_with(char *pair, ModuleError *said)
{
	ModuleOption changed[OPTIONS_MAX];
	ModuleConfig other = config;
	char	   *value = strchr(pair, '=');
	void	   *by;
	bool		connected;

	*value++ = '\0';
	memcpy(changed, options, sizeof(changed));
	other.options = changed;
	for (int i = 0; i < config.noptions; i++)
		if (strcmp(options[i].name, pair) == 0)
			changed[i].value = value;
	if (module_option(&other, pair) == NULL)
		changed[other.noptions++] = (ModuleOption) {pair, value};
	by = sink->open(&other, NAME_SPACE);
	sink->close(by);
	by = sink->open(&other, NAME_SPACE);
	connected = sink->connect(by, said) || sink->connect(by, said);
	sink->close(by);
	if (strstr(said->message, value) && strcmp(pair, "password") == 0)
		ok(false, "the password is told");
	return connected;
}

static bool
down(char **arguments)
{
	ModuleError said = {0};
	int64		begun = clock_ms();
	int64		patience = 2000 * Max(1, module_option_int(&config, "timeout")) + PATIENCE_MS;

	ok(!connects_with(arguments[0], &said), "nobody is there");
	ok(clock_ms() - begun < patience, "which is found out in time");
	ok(!said.misconfigured, "and may pass");
	return speaks(&said, "it says so");
}

static bool
denied(char **arguments)
{
	ModuleError said = {0};

	ok(!connects_with(arguments[0], &said), "turned away");
	ok(said.misconfigured, "which does not pass by itself");
	return speaks(&said, "it says so");
}

/* Of four rows the third is refused; where that is not known which, the sink says -1. */
static bool
poison(char **arguments)
{
	int			id = atoi(arguments[0]);

	begin_batch();
	add_rows(SINK_PUT, id - 2, id - 1, 1);
	add_rows(SINK_PUT, id, id, 2);
	add_rows(SINK_PUT, id + 1, id + 1, 1);
	if (!applies(SINK_REJECT, "a row that the target refuses"))
		return false;
	ok(result.rejected == -1 || result.rejected == 2, "it is told which");
	ok(result.ndone >= 0 && result.ndone <= 2, "those before it may be done");
	speaks(&result.error, "and why");
	stands_at(result.ndone ? &items[result.ndone - 1].at : &batch.from,
			  "the position says how many are");
	if (result.ndone < 2)
		return true;
	items[0] = items[3];
	batch.n = 1;
	batch.from = items[1].at;
	applies(SINK_DONE, "without it the batch goes on");
	return stands_at(&at, "to its end");
}

/* What is refused in the second part leaves the first alone; before the last nothing is durable. */
static bool
whole(char **arguments)
{
	SinkPosition before = at;
	SinkPosition found;
	void	   *second = sink->open(&config, NAME_SPACE);

	begin_batch();
	add_rows(SINK_PUT, 70, 75, 1);
	batch.goes_on = true;
	applies(SINK_DONE, "the first part of a transaction");
	ok(connects(second) && ask(second, &found) && sink_position_compare(&found, &before) == 0,
	   "is not durable");
	sink->close(second);
	batch.n = 0;
	batch.from = batch.to;
	add_rows(SINK_PUT, 76, 79, 1);
	applies(SINK_DONE, "nor is the second");
	applies(SINK_MOVED, "which is refused a second time");
	batch.n = 0;
	batch.from = batch.to;
	add_rows(SINK_DELETE, 70, 70, 0);
	batch.goes_on = false;
	applies(SINK_DONE, "the last part");
	stands_at(&at, "moves the position");
	begin_batch();
	add_rows(SINK_PUT, 80, 81, 1);
	batch.goes_on = true;
	applies(SINK_DONE, "a part of which the rest does not come");
	connects(state);
	batch.goes_on = false;
	at = batch.from;
	return stands_at(&at, "is not there");
}

static bool
copy(char **arguments)
{
	begin_batch();
	add_rows(SINK_PUT, 200, 250, 1);
	batch.is_copy = true;
	applies(SINK_DONE, "rows that are not there");
	stands_at(&at, "move the position");
	begin_batch();
	add_rows(SINK_PUT, 240, 260, 1);
	applies(SINK_DONE, "rows of which some are there");
	begin_batch();
	add_rows(SINK_PUT, 200, 270, 1);
	applies(SINK_DONE, "and once more");
	batch.is_copy = false;
	return stands_at(&at, "move it too");
}

static bool
partial(char **arguments)
{
	SinkPosition before = at;

	begin_batch();
	add_rows(SINK_PUT, 90, 90, 1);
	add_rows(SINK_PUT, 91, 91, 2);
	applies(SINK_REJECT, "of a row that is not there the whole is wanted");
	ok(result.rejected == 1 && result.lacks_row, "it is told of which");
	stands_at(&before, "nothing is done");
	at = before;
	begin_batch();
	add_rows(SINK_PUT, 90, 91, 1);
	add_rows(SINK_PUT, 91, 91, 2);
	return applies(SINK_DONE, "then it is given");
}

static bool
compare(char **arguments)
{
	SinkFound	found[4];

	begin_batch();
	add_rows(SINK_PUT, 300, 302, 1);
	applies(SINK_DONE, "rows to compare");
	batch.n = 0;
	add_rows(SINK_PUT, 300, 300, 1);
	add_rows(SINK_PUT, 301, 301, 2);
	add_rows(SINK_PUT, 302, 303, 1);
	at = batch.items[0].at;
	at.ordinal--;
	if (!ok(sink->compare(state, items, 4, found, &error), "compare()"))
		return speaks(&error, "and why not"), false;
	ok(found[0] == SINK_FOUND_SAME && found[2] == SINK_FOUND_SAME, "those that are the same");
	ok(found[1] == SINK_FOUND_OTHER, "one that is not");
	return ok(found[3] == SINK_FOUND_NOTHING, "and one that is not there");
}

static char met[2000];

static bool
meet(void *context, const char *target, size_t target_length, const char *key, size_t key_length)
{
	int			id = atoi(key);

	(*(int *) context)++;
	if (id >= 0 && id < (int) lengthof(met))
		met[id]++;
	return true;
}

static bool
scan(char **arguments)
{
	char		cursor[SINK_CURSOR_MAX] = "";
	int			rows = 0;
	int			twice = 0;

	begin_batch();
	for (int id = 400; id < 1999; id++)
	{
		if (batch.n == SINK_ITEMS_MAX)
		{
			applies(SINK_DONE, "rows to meet");
			batch.n = 0;
			batch.from = batch.to;
			batch.was_empty = false;
		}
		add_rows(SINK_PUT, id, id, 1);
	}
	applies(SINK_DONE, "and more");
	do
		if (!ok(sink->scan(state, &route, target_of("", true), cursor, meet, &rows, &error),
				"scan()"))
			return speaks(&error, "and why not"), false;
	while (cursor[0] != '\0');
	for (int id = 400; id < 1999; id++)
		rows -= met[id] > 0, twice += met[id] != 1;
	printf("# beside them %d\n", rows);
	return ok(twice == 0, "each row is met once");
}

static bool
fault(char **arguments)
{
	static int	id = 50;
	SinkOutcome outcome;
	const char *what = format_text("%s between \"%.60s\" and its end", arguments[0], arguments[1]);

	begin_batch();
	add_rows(SINK_PUT, id, id + 1, 1);
	id += 2;
	if (system(arguments[1]) != 0)
		return ok(false, arguments[1]);
	outcome = apply_by(state);
	if (strcmp(name_of(outcome), arguments[0]) != 0)
		printf("# it is %s\n", name_of(outcome));
	ok(strcmp(name_of(outcome), arguments[0]) == 0, what);
	speaks(&result.error, "it says why");
	if (system(arguments[2]) != 0)
		return ok(false, arguments[2]);
	resumes("then the batch is done");
	return stands_at(&at, "and the position is behind it");
}

/* The rows of a round as batches, from the first that the target does not have. */
static bool
send_round(void *by)
{
	for (int first = 0; first < KILL_ROWS; first += KILL_BATCH)
	{
		SinkBatch	part = batch;

		part.items = items + first;
		part.n = KILL_BATCH;
		part.from = first == 0 ? batch.from : items[first - 1].at;
		part.to = part.items[KILL_BATCH - 1].at;
		if (sink->apply(by, &part, &result) != SINK_DONE)
			return false;
	}
	return true;
}

static void
send_and_die(int after_us)
{
	void	   *by = sink->open(&config, NAME_SPACE);
	pid_t		child = fork();

	if (child == 0)
		_exit(sink->connect(by, &error) && send_round(by) ? 0 : 1);
	usleep(after_us);
	(void) kill(child, SIGKILL);
	(void) waitpid(child, NULL, 0);
	sink->close(by);
}

static bool
kill_rounds(char **arguments)
{
	int			failures = nfailed;
	int			rounds = atoi(arguments[0]);

	srand(1);
	for (int i = 0; i < rounds && nfailed == failures; i++)
	{
		begin_batch();
		for (int row = 0; row < KILL_ROWS; row++)
			add_item(SINK_PUT, KILL_FIRST_ID + row, i + 1, KILL_BYTES);
		batch.to = at;
		send_and_die(rand() % 60000);
		resumes("what a killed process did not send is sent");
	}
	return stands_at(&at, "in the end the position is behind all");
}

static const struct
{
	const char *name;
	Case		run;
	int			narguments;
}			cases[] = {
	{"refused", refused, 0}, {"fresh", fresh, 0}, {"write", write_rows, 0},
	{"truncate", truncate_rows, 0}, {"large", large, 0}, {"cancel", cancel, 0},
	{"replay", replay, 0}, {"clear", clear, 0}, {"down", down, 1}, {"denied", denied, 1},
	{"whole", whole, 0}, {"copy", copy, 0}, {"partial", partial, 0}, {"compare", compare, 0},
	{"scan", scan, 0}, {"poison", poison, 1}, {"fault", fault, 3}, {"kill", kill_rounds, 1}
};

/* ---- the command line ---- */

static int
read_options(char **words, int n, ModuleOption *into, int *nread)
{
	int			i = 0;

	for (; i < n && strcmp(words[i], "--") != 0 && *nread < OPTIONS_MAX - 1; i++)
	{
		char	   *value = strchr(words[i], '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		into[(*nread)++] = (ModuleOption) {words[i], value};
	}
	return i + 1;
}

static bool
load(const char *path)
{
	void	   *module = dlopen(path, RTLD_NOW);
	OrdflowModuleFunction function;

	if (module == NULL)
		return printf("Bail out! %s\n", dlerror()), false;
	function = (OrdflowModuleFunction) dlsym(module, "ordflow_module");
	sink = function()->sink;
	if (sink == NULL || !(sink->flags & SINK_KEEPS_POSITION))
		return printf("Bail out! it has no sink that keeps its position\n"), false;
	return true;
}

/* Every option of the sink has an entry, as the core has it. */
static void
add_defaults(void)
{
	const ModuleConfig given = {.noptions = route.noptions,.options = route_options};

	for (int i = 0; i < sink->noptions && route.noptions < OPTIONS_MAX; i++)
		if (module_option(&given, sink->options[i].name) == NULL)
			route_options[route.noptions++] = (ModuleOption) {
				sink->options[i].name, sink->options[i].default_value
			};
}

static bool
start(void)
{
	ModuleError said = {0};

	if (!ok(sink->route(&route, &said), "the route"))
		return speaks(&said, "and why it is refused"), false;
	state = sink->open(&config, NAME_SPACE);
	if (!ok(state != NULL && connects(state), "connect()") || !ask(state, &at))
		return false;
	show("the target is at", &at);
	return true;
}

static void
run(char **words, int n)
{
	for (int i = 0; i < n;)
	{
		int			which = 0;

		while (which < (int) lengthof(cases) && strcmp(cases[which].name, words[i]) != 0)
			which++;
		if (which == (int) lengthof(cases) || i + cases[which].narguments >= n)
		{
			ok(false, words[i]);
			return;
		}
		printf("# %s\n", words[i]);
		cases[which].run(words + i + 1);
		fflush(stdout);
		i += 1 + cases[which].narguments;
	}
}

int
main(int argc, char **argv)
{
	int			next = 2;
	bool		connected;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 5 || !load(argv[1]))
		return 1;
	next += read_options(argv + next, argc - next, options, &config.noptions);
	config.cancelled = asked_to_leave;
	if (next < argc && strcmp(argv[next], "-") != 0)
		route.target = argv[next];
	next += read_options(argv + next, argc - next, route_options, &route.noptions);
	add_defaults();
	connected = next < argc && strcmp(argv[next], "refused") != 0;
	if (!connected || start())
		run(argv + next, argc - next);
	if (state != NULL)
		sink->close(state);
	printf("1..%d\n", ntests);
	return nfailed > 0;
}
