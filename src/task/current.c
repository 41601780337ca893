/*
 * current.c
 *	  current_task(): what this session works on.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "task/batch.h"

PG_FUNCTION_INFO_V1(ordflow_current_task);

/* Of the handler that runs; NULL: none does. */
static const TaskRow *current = NULL;

void
ordflow_current_task_set(const TaskRow *task)
{
	current = task;
}

/* Where a task that is held is to be found. */
typedef struct Place
{
	int64		task_id;
	int			part;
} Place;

/* The session's claims; those that come meanwhile are not ours. */
static int
copy_places(Place **places)
{
	int			n = 0;

	*places = palloc(sizeof(Place) * Max(ordflow_session_nclaims(), 1));
	if (ordflow_session_nclaims() == 0)
		return 0;
	ordflow_task_lock();
	for (SlotNo no = ordflow_session_claims(); no != 0; no = ordflow_task_slots[no].next)
		(*places)[n++] = (Place) {
			.task_id = ordflow_task_slots[no].first,
			.part = ordflow_task_slots[no].part
		};
	ordflow_task_unlock();
	return n;
}

static void
put_task(ReturnSetInfo *result, const TaskRow *task)
{
	Datum		values[7];
	bool		nulls[7] = {false};
	const char *submitter = task->submitter;
	NameData	name;
	Batch		batch;
	bool		in_batch = task->batch_id != 0 && ordflow_batch_find(task->batch_id, &batch);
	bool		is_shard = in_batch && batch.shards;

	if (submitter == NULL && in_batch)
		submitter = batch.submitter;
	values[0] = Int64GetDatum(task->task_id);
	values[1] = Int64GetDatum(task->batch_id);
	nulls[1] = task->batch_id == 0;
	values[2] = Int32GetDatum(task->attempts + 1);
	ORDFLOW_PUT_TEXT(values, nulls, 3, task->key);
	values[4] = Int32GetDatum(is_shard ? (int32) (task->task_id - batch.first) : 0);
	values[5] = Int32GetDatum(is_shard ? batch.total : 0);
	nulls[4] = nulls[5] = !is_shard;
	if (submitter != NULL)
		namestrcpy(&name, submitter);
	values[6] = NameGetDatum(&name);
	nulls[6] = submitter == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
ordflow_current_task(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Place	   *places;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (current != NULL)
	{
		put_task(result, current);
		return (Datum) 0;
	}
	if (ordflow_task_shared == NULL)
		return (Datum) 0;
	n = copy_places(&places);
	for (int i = 0; i < n; i++)
	{
		TaskRow    *rows;

		if (ordflow_rows_read(places[i].part, places[i].task_id, places[i].task_id, 1, false,
							  &rows) > 0)
			put_task(result, rows);
	}
	return (Datum) 0;
}
