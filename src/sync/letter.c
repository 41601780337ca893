/*
 * letter.c
 *	  Dead letters: what could not be sent, what queues behind it, and what a paused sync keeps.
 *
 * A letter is committed before the position moves past it.  Its own place makes it unique, so what
 * is met with again after a crash is no second letter.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/json.h"
#include "sync/internal.h"

static Statement put_letter = {
	.sql = "INSERT INTO ordflow.sync_letters (sync_id, position, state, key, item, sqlstate, "
	"message) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (sync_id, position) DO NOTHING",
	.nargs = 7,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, TEXTOID}
};

static Statement read_letters = {
	.sql = "SELECT l.sync_id, CASE WHEN s.options ->> 'on_error' = 'skip' THEN NULL ELSE l.key "
	"END, "
	"l.position, l.item ->> 'body' = '" ITEM_REFETCH "' "
	"FROM ordflow.sync_letters l JOIN ordflow.syncs s USING (sync_id) WHERE l.sync_id = ANY($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement read_replays = {
	.sql = "SELECT l.letter_id, l.sync_id, l.key, l.item, l.message IS NOT NULL "
	"FROM ordflow.sync_letters l JOIN ordflow.syncs s USING (sync_id) "
	"WHERE l.sync_id = ANY($1) AND l.state = 'replay' AND NOT s.paused ORDER BY letter_id LIMIT $2",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, INT4OID}
};

static Statement delete_letter = {
	.sql = "DELETE FROM ordflow.sync_letters WHERE letter_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What waits behind it waits on. */
static Statement fail_letter = {
	.sql = "UPDATE ordflow.sync_letters l SET attempts = attempts + 1, sqlstate = $2, message = "
	"$3, state = 'dead', at = pg_catalog.clock_timestamp(), item = item OPERATOR(pg_catalog.-) 'to' "
	"WHERE letter_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, TEXTOID}
};

static Statement fail_followers = {
	.sql = "UPDATE ordflow.sync_letters f SET state = 'parked' FROM ordflow.sync_letters l "
	"WHERE l.letter_id = $1 AND f.sync_id = l.sync_id AND f.key OPERATOR(pg_catalog.=) l.key "
	"AND f.letter_id OPERATOR(pg_catalog.>) l.letter_id AND f.state = 'replay'",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* Hashes: two keys that share one are parked together, which only makes the other wait too. */
typedef struct ParkedKey
{
	uint64		hash;
} ParkedKey;

static HTAB *parked = NULL;
static HTAB *there = NULL;

static HTAB *
make_table(const char *name)
{
	HASHCTL		control = {.keysize = sizeof(uint64),.entrysize = sizeof(ParkedKey)};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS);
}

static uint64
hash_of(int64 sync_id, const char *text, Size length)
{
	return hash_combine64(hash_bytes_extended((const unsigned char *) &sync_id, sizeof(sync_id), 0),
						  hash_bytes_extended((const unsigned char *) text, length, 0));
}

static char *
position_text(const SinkPosition *at)
{
	char	   *text = palloc(SINK_POSITION_TEXT_MAX);

	sink_position_print(at, text);
	return text;
}

static const char *
op_name(SinkOp op)
{
	return op == SINK_PUT ? "put" : op == SINK_DELETE ? "delete" :
		op == SINK_TRUNCATE ? "truncate" : "append";
}

static Jsonb *
item_json(const SinkItem *item)
{
	JsonBuild	json = {0};

	ordflow_json_begin_object(&json);
	ordflow_json_put_text(&json, "op", op_name(item->op));
	ordflow_json_put_bool(&json, "insert", item->is_insert);
	if (item->is_partial)
		ordflow_json_put_bool(&json, "partial", true);
	ordflow_json_put_text(&json, "target", item->target);
	if (item->nfields > 0)
	{
		ordflow_json_key(&json, "fields");
		ordflow_json_begin_object(&json);
		for (int i = 0; i < item->nfields; i++)
			ordflow_json_put_text(&json, item->fields[i].name, item->fields[i].value);
		ordflow_json_end_object(&json);
	}
	ordflow_json_put_text(&json, "body", item->body);
	ordflow_json_end_object(&json);
	return ordflow_json_finish(&json);
}

void
ordflow_letter_put(const SyncDefinition *sync, const SinkItem *item, const char *state,
				   const char *sqlstate, const char *message)
{
	Datum		values[7];
	char		nulls[7];

	SPI_connect();
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(position_text(&item->at));
	values[2] = CStringGetTextDatum(state);
	ORDFLOW_SET_TEXT(values, nulls, 3, item->key);
	values[4] = JsonbPGetDatum(item_json(item));
	ORDFLOW_SET_TEXT(values, nulls, 5, sqlstate);
	ORDFLOW_SET_TEXT(values, nulls, 6, message);
	ordflow_execute(&put_letter, values, nulls);
	SPI_finish();
	ordflow_sync_count(sync->sync_id, 0, 1);
}

/* Has it been put aside?  whole: as a change that no items could be made of. */
static uint64
place_hash(int64 sync_id, const char *position, bool whole)
{
	return hash_of(whole ? -sync_id : sync_id, position, strlen(position));
}

static void
note_place(int64 sync_id, const char *position, bool whole)
{
	uint64		hash = place_hash(sync_id, position, false);
	bool		found;

	(void) hash_search(there, &hash, HASH_ENTER, &found);
	hash = place_hash(sync_id, position, true);
	if (whole)
		(void) hash_search(there, &hash, HASH_ENTER, &found);
}

static Datum
ids_of(List *syncs)
{
	int64	   *ids = palloc((list_length(syncs) + 1) * sizeof(int64));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, syncs)
		ids[n++] = ((SyncDefinition *) lfirst(cell))->sync_id;
	return ordflow_int8_array(ids, n);
}

void
ordflow_letters_load(List *syncs)
{
	Datum		ids = ids_of(syncs);
	uint64		n;
	bool		found;

	if (parked != NULL)
		hash_destroy(parked);
	if (there != NULL)
		hash_destroy(there);
	parked = make_table("ordflow parked keys");
	there = make_table("ordflow letters");
	SPI_connect();
	n = ordflow_execute(&read_letters, &ids, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		int64		sync_id = ordflow_result_int64(i, 1);
		char	   *key = ordflow_result_text(i, 2);
		bool		isnull;
		bool		whole = DatumGetBool(ordflow_result(i, 4, &isnull)) && !isnull;
		uint64		hash;

		note_place(sync_id, ordflow_result_text(i, 3), whole);
		if (key == NULL)
			continue;
		hash = hash_of(sync_id, key, strlen(key));
		(void) hash_search(parked, &hash, HASH_ENTER, &found);
	}
	SPI_finish();
}

bool
ordflow_letter_is_parked(int64 sync_id, const char *key, Size length)
{
	uint64		hash;

	if (key == NULL || parked == NULL || hash_get_num_entries(parked) == 0)
		return false;
	hash = hash_of(sync_id, key, length);
	return hash_search(parked, &hash, HASH_FIND, NULL) != NULL;
}

bool
ordflow_letter_is_there(int64 sync_id, const SinkPosition *at, bool whole)
{
	char		text[SINK_POSITION_TEXT_MAX];
	uint64		hash;

	if (there == NULL || hash_get_num_entries(there) == 0)
		return false;
	sink_position_print(at, text);
	hash = place_hash(sync_id, text, whole);
	return hash_search(there, &hash, HASH_FIND, NULL) != NULL;
}

bool
ordflow_letters_any(void)
{
	return there != NULL && hash_get_num_entries(there) > 0;
}

/* What came later is met with before the TRUNCATE is sent where it was tried already. */
static Statement delete_letters = {
	.sql = "DELETE FROM ordflow.sync_letters WHERE sync_id = $1 AND NOT ("
	"pg_catalog.split_part(position, '-', 1) OPERATOR(pg_catalog.=) "
	"pg_catalog.split_part($2, '-', 1) "
	"AND pg_catalog.string_to_array(position, '-')::pg_catalog.numeric[] OPERATOR(pg_catalog.>) "
	"pg_catalog.string_to_array($2, '-')::pg_catalog.numeric[])",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

void
ordflow_letters_forget(int64 sync_id, const SinkPosition *at)
{
	Datum		values[2] = {Int64GetDatum(sync_id), CStringGetTextDatum(position_text(at))};

	SPI_connect();
	ordflow_execute(&delete_letters, values, NULL);
	SPI_finish();
}

void
ordflow_letter_note(int64 sync_id, const SinkItem *item, bool park)
{
	char		text[SINK_POSITION_TEXT_MAX];
	uint64		hash;
	bool		found;

	sink_position_print(&item->at, text);
	note_place(sync_id, text, item->body != NULL && strcmp(item->body, ITEM_REFETCH) == 0);
	if (!park || item->key == NULL)
		return;
	hash = hash_of(sync_id, item->key, item->key_length);
	(void) hash_search(parked, &hash, HASH_ENTER, &found);
}

/* ---- again ---- */

/*
 * What waits for a sync that goes on is sent, but behind a dead letter of its key; and what is to
 * be sent again waits where its sync is paused.
 */
static Statement wake_letters = {
	.sql = "UPDATE ordflow.sync_letters l SET state = n.state FROM ("
	"SELECT w.letter_id, CASE WHEN NOT s.paused THEN CASE WHEN d.first < w.letter_id "
	"THEN 'parked' ELSE 'replay' END WHEN w.state = 'replay' THEN 'waiting' ELSE w.state END AS state "
	"FROM ordflow.sync_letters w JOIN ordflow.syncs s USING (sync_id) LEFT JOIN ("
	"SELECT sync_id, key, pg_catalog.min(letter_id) AS first FROM ordflow.sync_letters "
	"WHERE sync_id = ANY($1) AND state = 'dead' GROUP BY sync_id, key) AS d "
	"ON d.sync_id = w.sync_id AND d.key = w.key "
	"AND s.options ->> 'on_error' IS DISTINCT FROM 'skip' "
	"WHERE w.sync_id = ANY($1) AND w.state <> 'dead') AS n "
	"WHERE n.letter_id = l.letter_id AND n.state <> l.state",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* A delivery may have put one aside while its sync was dropped. */
static Statement delete_orphans = {
	.sql = "DELETE FROM ordflow.sync_letters l WHERE NOT EXISTS ("
	"SELECT FROM ordflow.syncs s WHERE s.sync_id = l.sync_id)"
};

void
ordflow_letters_wake(List *syncs)
{
	Datum		ids = ids_of(syncs);

	SPI_connect();
	ordflow_execute(&delete_orphans, NULL, NULL);
	ordflow_execute(&wake_letters, &ids, NULL);
	SPI_finish();
}

static char *
member(Jsonb *item, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&item->root, name, strlen(name), NULL);

	return value != NULL && value->type == jbvString ?
		pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

static bool
is_true(Jsonb *item, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&item->root, name, strlen(name), NULL);

	return value != NULL && value->type == jbvBool && value->val.boolean;
}

static void
read_fields(Jsonb *json, SinkItem *item)
{
	JsonbValue *object = getKeyJsonValueFromContainer(&json->root, "fields", 6, NULL);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	SinkField  *fields;

	if (object == NULL || object->type != jbvBinary)
		return;
	fields = palloc0((JsonContainerSize(object->val.binary.data) + 1) * sizeof(SinkField));
	iterator = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		SinkField  *field = &fields[item->nfields];

		if (token == WJB_KEY)
			field->name = pnstrdup(value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (value.type == jbvString)
		{
			field->value = pnstrdup(value.val.string.val, value.val.string.len);
			field->length = value.val.string.len;
		}
		item->nfields++;
	}
	item->fields = fields;
}

static Letter *
read_letter(uint64 row)
{
	Letter	   *letter = palloc0(sizeof(Letter));
	SinkItem   *item = &letter->item;
	bool		isnull;
	Jsonb	   *json = DatumGetJsonbPCopy(ordflow_result(row, 4, &isnull));
	const char *op = member(json, "op");

	letter->letter_id = ordflow_result_int64(row, 1);
	letter->sync_id = ordflow_result_int64(row, 2);
	item->key = ordflow_result_text(row, 3);
	item->key_length = item->key ? strlen(item->key) : 0;
	item->op = strcmp(op, "put") == 0 ? SINK_PUT : strcmp(op, "delete") == 0 ? SINK_DELETE :
		strcmp(op, "truncate") == 0 ? SINK_TRUNCATE : SINK_APPEND;
	item->is_insert = is_true(json, "insert");
	item->is_partial = is_true(json, "partial");
	item->is_replay = true;
	item->target = member(json, "target");
	item->target_length = item->target ? strlen(item->target) : 0;
	item->body = member(json, "body");
	item->body_length = item->body ? strlen(item->body) : 0;
	read_fields(json, item);
	letter->refetch = item->op == SINK_PUT && item->body != NULL &&
		strcmp(item->body, ITEM_REFETCH) == 0;
	letter->was_refused = DatumGetBool(ordflow_result(row, 5, &isnull));
	return letter;
}

List *
ordflow_letters_to_replay(List *syncs, int max)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {ids_of(syncs), Int32GetDatum(max)};
	List	   *letters = NIL;
	uint64		n;

	SPI_connect();
	n = ordflow_execute(&read_replays, values, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		letters = lappend(letters, read_letter(i));
	SPI_finish();
	MemoryContextSwitchTo(context);
	return letters;
}

/*
 * Of messages, which are no state that can be put twice: the position that the target will have
 * when this one is there.  So whoever comes next knows whether it is.
 */
static Statement mark_letter = {
	.sql = "UPDATE ordflow.sync_letters SET item = item OPERATOR(pg_catalog.||) "
	"pg_catalog.jsonb_build_object('to', $2) WHERE letter_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

static Statement settle_letters = {
	.sql = "WITH marked AS (SELECT letter_id, item ->> 'to' AS mark FROM ordflow.sync_letters "
	"WHERE sync_id = ANY($1) AND item OPERATOR(pg_catalog.?) 'to'), "
	"sent AS (SELECT letter_id FROM marked WHERE pg_catalog.split_part(mark, '-', 1) = "
	"pg_catalog.split_part($2, '-', 1) AND pg_catalog.string_to_array(mark, '-')::pg_catalog.numeric[] "
	"OPERATOR(pg_catalog.<=) pg_catalog.string_to_array($2, '-')::pg_catalog.numeric[]), "
	"gone AS (DELETE FROM ordflow.sync_letters l USING sent WHERE l.letter_id = sent.letter_id) "
	"UPDATE ordflow.sync_letters l SET item = l.item OPERATOR(pg_catalog.-) 'to' FROM marked m "
	"WHERE l.letter_id = m.letter_id AND NOT EXISTS (SELECT FROM sent s "
	"WHERE s.letter_id = m.letter_id)",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TEXTOID}
};

void
ordflow_letter_mark(int64 letter_id, const SinkPosition *to)
{
	Datum		values[2] = {Int64GetDatum(letter_id), CStringGetTextDatum(position_text(to))};

	SPI_connect();
	ordflow_execute(&mark_letter, values, NULL);
	SPI_finish();
}

void
ordflow_letters_settle(List *syncs, const SinkPosition *at)
{
	Datum		values[2] = {ids_of(syncs), CStringGetTextDatum(position_text(at))};

	SPI_connect();
	ordflow_execute(&settle_letters, values, NULL);
	SPI_finish();
}

/* The older ones of the sync too, where it was a TRUNCATE: their rows are gone. */
static Statement delete_older = {
	.sql = "DELETE FROM ordflow.sync_letters l USING ordflow.sync_letters t "
	"WHERE t.letter_id = $1 AND l.sync_id = t.sync_id AND l.letter_id < t.letter_id",
	.nargs = 1,
	.argtypes = {INT8OID}
};

void
ordflow_letter_done(const Letter *letter)
{
	Datum		id = Int64GetDatum(letter->letter_id);

	SPI_connect();
	if (letter->item.op == SINK_TRUNCATE)
		ordflow_execute(&delete_older, &id, NULL);
	ordflow_execute(&delete_letter, &id, NULL);
	SPI_finish();
}

void
ordflow_letter_failed(int64 letter_id, const char *sqlstate, const char *message)
{
	Datum		values[3] = {Int64GetDatum(letter_id)};
	char		nulls[3];

	memset(nulls, ' ', sizeof(nulls));
	ORDFLOW_SET_TEXT(values, nulls, 1, sqlstate);
	ORDFLOW_SET_TEXT(values, nulls, 2, message);
	SPI_connect();
	ordflow_execute(&fail_letter, values, nulls);
	ordflow_execute(&fail_followers, values, NULL);
	SPI_finish();
}
