/*
 * submit.c
 *	  Tasks are written: one by one, as a batch, as shards.
 *
 * Memory is told first, by a slot that this transaction reserves, and then the numbers are
 * drawn: so nobody takes all up to a number for done whose row may still come.  What has been
 * reserved is published by the commit.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "task/option.h"

PG_FUNCTION_INFO_V1(ordflow_submit_batch);
PG_FUNCTION_INFO_V1(ordflow_submit_task);
PG_FUNCTION_INFO_V1(ordflow_submit_shards);

#define SHARDS_MAX 10000
#define SHARDS_BYTES_MAX (256 * 1024 * 1024)	/* of their payloads, which are made all at once */

#define QUEUE(n) { \
	.relname = "task_queue_" #n, \
	.trigger = "task_changed", \
	.ncolumns = 11, \
	.columns = { \
		{"task_id", INT8OID}, {"batch_id", INT8OID}, {"run_at", TIMESTAMPTZOID}, \
		{"submitted_at", TIMESTAMPTZOID}, {"kind_id", INT4OID}, {"part", INT2OID}, \
		{"priority", INT2OID}, {"key", TEXTOID}, {"unique_key", TEXTOID}, \
		{"submitter", TEXTOID}, {"payload", JSONBOID} \
	} \
}

static RowTable queue_tables[TASK_PARTS] = {
	QUEUE(0), QUEUE(1), QUEUE(2), QUEUE(3), QUEUE(4), QUEUE(5), QUEUE(6), QUEUE(7), QUEUE(8)
};

static Statement insert_batch = {
	.sql = "INSERT INTO ordflow.task_batches (batch_id, first_task, submitted_at, kind_id, total, "
	"on_finish, part, priority, shards, run_at, key, submitter) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	.nargs = 12,
	.argtypes = {INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, INT2OID, INT2OID,
	BOOLOID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
};

static Statement take_unique = {
	.sql = "INSERT INTO ordflow.task_unique (kind_id, unique_key, task_id) VALUES ($1, $2, $3) "
	"ON CONFLICT (kind_id, unique_key) DO NOTHING",
	.nargs = 3,
	.argtypes = {INT4OID, TEXTOID, INT8OID}
};

static Statement find_unique = {
	.sql = "SELECT u.task_id FROM ordflow.task_unique u WHERE u.kind_id = $1 AND u.unique_key = $2",
	.nargs = 2,
	.argtypes = {INT4OID, TEXTOID}
};

/* Tasks that are alike but for the payload. */
typedef struct Submission
{
	const TaskKind *kind;
	const SubmitOptions *options;
	const char *submitter;
	int64		batch_id;		/* 0: none */
	bool		shards;
	int			part;
	int64		first;
	int			n;
} Submission;

/* ---- memory ---- */

/* Reserves a run of n tasks, and draws their numbers. */
static void
reserve(Submission *submission)
{
	const SubmitOptions *options = submission->options;
	TaskAction	action = {
		.kind = ACTION_SUBMIT,
		.kind_id = submission->kind->kind_id,
		.run = {
			.part = submission->part,
			.priority = options->priority,
			.run_at = options->run_at
		},
		.delta = {.batch_id = submission->batch_id}
	};

	ordflow_journal_room(1);
	action.slot = ordflow_run_reserve(submission->kind, submission->part, 0);
	ordflow_journal_add(&action);
	submission->first = ordflow_task_ids(submission->n);
	ordflow_journal_numbers(submission->first, submission->first + submission->n - 1);
}

static int
part_for(const SubmitOptions *options)
{
	if (options->run_at != DT_NOBEGIN && options->run_at > GetCurrentTimestamp() + TASK_AHEAD)
		return 0;
	return ordflow_segment_current();
}

/* ---- rows ---- */

static void
write_tasks(const Submission *submission, const Datum *payloads)
{
	const SubmitOptions *options = submission->options;
	bool		in_batch = submission->batch_id != 0;
	Datum		values[11];
	bool		nulls[11] = {false};
	RowWriter	writer;

	values[1] = Int64GetDatum(submission->batch_id);
	nulls[1] = !in_batch;
	values[2] = TimestampTzGetDatum(options->run_at);
	nulls[2] = options->run_at == DT_NOBEGIN;
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[3] = in_batch;
	values[4] = Int32GetDatum(submission->kind->kind_id);
	values[5] = Int16GetDatum(submission->part);
	values[6] = Int16GetDatum(options->priority);
	ORDFLOW_PUT_TEXT(values, nulls, 7, options->key);
	ORDFLOW_PUT_TEXT(values, nulls, 8, options->unique_key);
	ORDFLOW_PUT_TEXT(values, nulls, 9, in_batch ? NULL : submission->submitter);
	ordflow_rows_begin(&writer, &queue_tables[submission->part]);
	if (!writer.direct)
		ordflow_task_own_write();
	for (int i = 0; i < submission->n; i++)
	{
		values[0] = Int64GetDatum(submission->first + i);
		values[10] = payloads[i];
		ordflow_rows_write(&writer, values, nulls);
	}
	ordflow_rows_end(&writer);
	if (!writer.direct)
		ordflow_task_own_write_done();
}

static void
write_batch(const Submission *submission)
{
	const SubmitOptions *options = submission->options;
	Datum		values[12] = {
		Int64GetDatum(submission->batch_id), Int64GetDatum(submission->first),
		TimestampTzGetDatum(GetCurrentTimestamp()), Int32GetDatum(submission->kind->kind_id),
		Int32GetDatum(submission->n),
		Int32GetDatum(options->on_finish == NULL ? 0 : options->on_finish->kind_id),
		Int16GetDatum(submission->part), Int16GetDatum(options->priority),
		BoolGetDatum(submission->shards), TimestampTzGetDatum(options->run_at)
	};
	char		nulls[12];

	memset(nulls, ' ', sizeof(nulls));
	nulls[5] = options->on_finish == NULL ? 'n' : ' ';
	nulls[9] = options->run_at == DT_NOBEGIN ? 'n' : ' ';
	ORDFLOW_SET_TEXT(values, nulls, 10, options->key);
	ORDFLOW_SET_TEXT(values, nulls, 11, submission->submitter);
	ordflow_execute(&insert_batch, values, nulls);
}

static void
notify(const TaskKind *kind)
{
	if (kind->notify)
		Async_Notify("ordflow_tasks", kind->kind);
}

/* ---- one task ---- */

/* False: another open task has the key. */
static bool
take_key(const Submission *submission)
{
	Datum		values[3];

	if (submission->options->unique_key == NULL)
		return true;
	values[0] = Int32GetDatum(submission->kind->kind_id);
	values[1] = CStringGetTextDatum(submission->options->unique_key);
	values[2] = Int64GetDatum(submission->first);
	return ordflow_execute_latest(&take_unique, values, NULL) > 0;
}

/* The open task that has the key; 0: none has. */
static int64
find_twin(const Submission *submission)
{
	Datum		values[2];

	if (submission->options->unique_key == NULL)
		return 0;
	values[0] = Int32GetDatum(submission->kind->kind_id);
	values[1] = CStringGetTextDatum(submission->options->unique_key);
	return ordflow_execute_latest(&find_unique, values, NULL) == 0 ? 0 :
		ordflow_result_int64(0, 1);
}

int64
ordflow_submit_one(const TaskKind *kind, Jsonb *payload, const SubmitOptions *options,
				   const char *submitter)
{
	Submission	submission = {
		.kind = kind, .options = options, .submitter = submitter, .n = 1
	};
	Datum		value = JsonbPGetDatum(payload);

	for (;;)
	{
		int64		twin = find_twin(&submission);

		if (twin > 0)
			return twin;
		submission.part = part_for(options);
		reserve(&submission);
		if (take_key(&submission))
			break;
		ordflow_journal_undo_last();
	}
	write_tasks(&submission, &value);
	notify(kind);
	return submission.first;
}

/* ---- a batch ---- */

static int64
submit_many(const TaskKind *kind, const Datum *payloads, int n, const SubmitOptions *options,
			bool shards)
{
	Submission	submission = {
		.kind = kind, .options = options, .shards = shards, .n = n,
		.submitter = GetUserNameFromId(GetUserId(), false)
	};
	RoleSwitch	saved = ordflow_task_connect();

	ordflow_queue();
	submission.batch_id = nextval_internal(ordflow_relid("task_batches_batch_id_seq"), false);
	submission.part = part_for(options);
	if (n > 0)
		reserve(&submission);
	write_batch(&submission);
	if (n > 0)
	{
		write_tasks(&submission, payloads);
		notify(kind);
	}
	ordflow_batch_opened(submission.batch_id, n);
	ordflow_task_disconnect(saved);
	return submission.batch_id;
}

/* ---- arguments ---- */

static const TaskKind *
arg_kind(FunctionCallInfo fcinfo)
{
	const TaskKind *kind = ordflow_kind_by_name(ordflow_arg_text(fcinfo, 0, "kind"));

	ordflow_kind_require_submit(kind);
	return kind;
}

static void
require_payload_fits(Datum payload, int place)
{
	Size		size = toast_raw_datum_size(payload);

	if (size <= TASK_PAYLOAD_MAX)
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			place == 0 ? errmsg("payload is too large") : errmsg("payload %d is too large", place),
			errdetail("It takes %zu bytes as jsonb; at most %d are allowed.", size,
					  TASK_PAYLOAD_MAX),
			errhint("Keep large data in a table, and its key in the payload."));
}

/* The elements of the second argument. */
static Datum *
arg_payloads(FunctionCallInfo fcinfo, int *n)
{
	ArrayType  *array;
	Datum	   *payloads;
	bool	   *nulls;
	int			count;

	ordflow_require_not_null(fcinfo, 1, "payloads");
	array = PG_GETARG_ARRAYTYPE_P(1);
	count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (count > TASK_CALL_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a call may submit at most %d tasks", TASK_CALL_MAX),
				errdetail("It has %d payloads.", count),
				errhint("Submit them in several batches."));
	deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &payloads, &nulls, n);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("payload %d is null", i + 1));
		require_payload_fits(payloads[i], i + 1);
	}
	return payloads;
}

Datum
ordflow_submit_batch(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	SubmitOptions options;
	Datum	   *payloads;
	int			n;

	ordflow_task_begin_verb("ordflow.submit_batch()");
	kind = arg_kind(fcinfo);
	ordflow_submit_options(fcinfo, 2, true, &options);
	payloads = arg_payloads(fcinfo, &n);
	PG_RETURN_INT64(submit_many(kind, payloads, n, &options, false));
}

Datum
ordflow_submit_task(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	SubmitOptions options;
	const char *submitter;
	RoleSwitch	saved;
	int64		task_id;

	ordflow_task_begin_verb("ordflow.submit_task()");
	kind = arg_kind(fcinfo);
	ordflow_require_not_null(fcinfo, 1, "payload");
	require_payload_fits(PG_GETARG_DATUM(1), 0);
	ordflow_submit_options(fcinfo, 2, false, &options);
	submitter = GetUserNameFromId(GetUserId(), false);
	saved = ordflow_task_connect();
	task_id = ordflow_submit_one(kind, PG_GETARG_JSONB_P(1), &options, submitter);
	ordflow_task_disconnect(saved);
	PG_RETURN_INT64(task_id);
}

static void
require_shards_fit(Datum payload, int shards)
{
	int64		size = (int64) toast_raw_datum_size(payload) * shards;

	if (size <= SHARDS_BYTES_MAX)
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("payload is too large for %d shards", shards),
			errdetail("Together they take %lld bytes as jsonb; at most %d are allowed.",
					  (long long) size, SHARDS_BYTES_MAX),
			errhint("Keep large data in a table, and its key in the payload."));
}

/* The payload with the two members that tell a shard. */
static Datum
shard_payload(Datum payload, int shard, int shards)
{
	JsonBuild	members = {0};

	ordflow_json_begin_object(&members);
	ordflow_json_put_int64(&members, "shard", shard);
	ordflow_json_put_int64(&members, "shards", shards);
	ordflow_json_end_object(&members);
	return DirectFunctionCall2(jsonb_concat, payload,
							   JsonbPGetDatum(ordflow_json_finish(&members)));
}

Datum
ordflow_submit_shards(PG_FUNCTION_ARGS)
{
	SubmitOptions options = {.run_at = DT_NOBEGIN};
	const TaskKind *kind;
	int			shards;
	Datum	   *payloads;

	ordflow_task_begin_verb("ordflow.submit_shards()");
	kind = arg_kind(fcinfo);
	ordflow_require_not_null(fcinfo, 1, "shards");
	ordflow_require_not_null(fcinfo, 2, "payload");
	shards = PG_GETARG_INT32(1);
	if (shards < 1 || shards > SHARDS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("shards must be between 1 and %d", SHARDS_MAX));
	require_payload_fits(PG_GETARG_DATUM(2), 0);
	require_shards_fit(PG_GETARG_DATUM(2), shards);
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(2)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("payload must be a JSON object"),
				errdetail("Each shard is given it with the members shard and shards."));
	payloads = palloc(sizeof(Datum) * shards);
	for (int i = 0; i < shards; i++)
		payloads[i] = shard_payload(PG_GETARG_DATUM(2), i, shards);
	PG_RETURN_INT64(submit_many(kind, payloads, shards, &options, true));
}
