/*
 * segment.c
 *	  Which partition new tasks are written to, and how partitions come to be empty again.
 *
 * The current one is that of the highest row in ordflow.task_segments.  Whoever writes locks it
 * first, which lets in all invalidations that were sent before, and looks at the map again: who
 * retires a partition locks it against all writers, so none writes to one that has retired.
 */
#include "postgres.h"

#include "access/skey.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "task/internal.h"

/* The map, as long as nobody invalidates ordflow.task_segments. */
static struct
{
	bool		known;
	Oid			table;
	int			current;
	bool		retired[TASK_PARTS];
	uint64		invalidations;
}			map;

static void
forget_map(Oid relid)
{
	if (OidIsValid(relid) && relid != map.table)
		return;
	map.known = false;
	map.invalidations++;
}

void
ordflow_segments_init(void)
{
	ordflow_on_relation_change(forget_map);
}

void
ordflow_segments_changed(void)
{
	CacheInvalidateRelcacheByRelid(ordflow_relid("task_segments"));
}

/* In the latest snapshot at every isolation level. */
static void
read_map(void)
{
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	reader;

	map.current = 1;
	memset(map.retired, 0, sizeof(map.retired));
	ordflow_reader_open(&reader, "task_segments", "task_segments_pkey", snapshot, NULL, 0);
	while (ordflow_reader_next(&reader, ForwardScanDirection))
	{
		bool		isnull;
		int			part = DatumGetInt16(ordflow_reader_value(&reader, 2, &isnull));

		if (part < 1 || part >= TASK_PARTS)
			elog(ERROR, "task_segments has a part %d", part);
		map.current = part;
		ordflow_reader_value(&reader, 4, &isnull);
		map.retired[part] = !isnull;
	}
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
}

static void
refresh_map(void)
{
	uint64		invalidations;

	if (map.known)
		return;
	map.table = ordflow_relid("task_segments");
	invalidations = map.invalidations;
	read_map();
	map.known = invalidations == map.invalidations;
}

const char *
ordflow_segment_relname(const char *table, int part)
{
	return psprintf("%s_%d", table, part);
}

int
ordflow_segment_current(void)
{
	for (;;)
	{
		int			part;

		refresh_map();
		part = map.current;
		LockRelationOid(ordflow_relid(ordflow_segment_relname("task_queue", part)),
						RowExclusiveLock);
		refresh_map();
		if (map.current == part)
			return part;
	}
}

bool
ordflow_segment_is_retired(int part)
{
	refresh_map();
	return map.retired[part];
}

int
ordflow_segment_for_outcome(int part)
{
	LockRelationOid(ordflow_relid(ordflow_segment_relname("task_outcomes", part)),
					RowExclusiveLock);
	return ordflow_segment_is_retired(part) ? 0 : part;
}
