/*
 * kind.c
 *	  Kinds of tasks as this backend knows them: all of them, read when one is asked for after
 *	  something has changed that they depend on.
 *
 * They hold oids of what the rows name: a role or function that is created, dropped or renamed has
 * them read again as a changed row has.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "task/internal.h"

#define HANDLER_ARGUMENTS "(jsonb)"

/* how far a backoff is moved either way, so that what failed together does not come together */
#define JITTER 0.2

typedef struct KnownKind
{
	TaskKind	kind;
	List	   *grantees;		/* oids of roles */
} KnownKind;

static KnownKind *known = NULL; /* by kind_id */
static const KnownKind **by_name = NULL;
static int	nknown = 0;
static MemoryContext known_context = NULL;

static bool is_current = false;
static uint64 changes = 0;
static Oid	kinds_table = InvalidOid;

/* ---- what makes them old ---- */

static void
forget(Oid relid)
{
	if (OidIsValid(relid) && relid != kinds_table)
		return;
	is_current = false;
	changes++;
}

static void
forget_for_catalog(Datum arg, int cacheid, uint32 hash)
{
	forget(InvalidOid);
}

void
ordflow_kinds_init(void)
{
	ordflow_on_relation_change(forget);
	CacheRegisterSyscacheCallback(PROCOID, forget_for_catalog, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget_for_catalog, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_for_catalog, (Datum) 0);
}

void
ordflow_kinds_changed(void)
{
	CacheInvalidateRelcacheByRelid(ordflow_relid("task_kinds"));
}

/* ---- reading ---- */

static Datum
column(RowReader *reader, const char *name, bool *isnull)
{
	return ordflow_reader_value(reader, ordflow_reader_column(reader, name), isnull);
}

static char *
text_column(RowReader *reader, const char *name)
{
	bool		isnull;
	Datum		value = column(reader, name, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int32
int32_column(RowReader *reader, const char *name)
{
	bool		isnull;
	Datum		value = column(reader, name, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static bool
bool_column(RowReader *reader, const char *name)
{
	bool		isnull;
	Datum		value = column(reader, name, &isnull);

	return !isnull && DatumGetBool(value);
}

/* In microseconds; a month is 30 days, as PostgreSQL counts where it must. */
static int64
interval_column(RowReader *reader, const char *name, int64 none)
{
	bool		isnull;
	Datum		value = column(reader, name, &isnull);
	const Interval *interval;

	if (isnull)
		return none;
	interval = DatumGetIntervalP(value);
	return interval->time +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

/*
 * The function that a signature names; invalid: there is none.  Whoever asks need not be allowed to
 * see its schema, nor have any search_path.
 */
static Oid
function_of(const char *handler)
{
	size_t		len = strlen(handler);
	size_t		arguments = strlen(HANDLER_ARGUMENTS);
	Oid			types[] = {JSONBOID};
	List	   *names;
	Oid			schema;

	if (len <= arguments || strcmp(handler + len - arguments, HANDLER_ARGUMENTS) != 0 ||
		!SplitIdentifierString(pnstrdup(handler, len - arguments), '.', &names) ||
		list_length(names) != 2)
		return InvalidOid;
	schema = get_namespace_oid(linitial(names), true);
	if (!OidIsValid(schema))
		return InvalidOid;
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(lsecond(names)),
						   PointerGetDatum(buildoidvector(types, lengthof(types))),
						   ObjectIdGetDatum(schema));
}

bool
ordflow_handler_fits(Oid function, Oid *owner)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		proc->prorettype == JSONBOID && proc->pronargs == 1 &&
		proc->proargtypes.values[0] == JSONBOID;
	*owner = proc->proowner;
	ReleaseSysCache(tuple);
	return fits;
}

static void
read_kind(RowReader *reader, TaskKind *kind)
{
	bool		isnull;
	Datum		rate = column(reader, "rate", &isnull);
	Oid			owner;

	*kind = (TaskKind) {
		.kind_id = int32_column(reader, "kind_id"),
		.kind = text_column(reader, "kind"),
		.owner = get_role_oid(text_column(reader, "owner"), true),
		.handler = text_column(reader, "handler"),
		.is_short = bool_column(reader, "short"),
		.max_concurrent = int32_column(reader, "max_concurrent"),
		.per_key = int32_column(reader, "per_key"),
		.rate = isnull ? 0 : DatumGetFloat8(rate),
		.max_attempts = int32_column(reader, "max_attempts"),
		.max_crashes = int32_column(reader, "max_crashes"),
		.backoff = interval_column(reader, "backoff", 0),
		.backoff_max = interval_column(reader, "backoff_max", 0),
		.timeout = interval_column(reader, "timeout", 0),
		.retention = interval_column(reader, "retention", -1),
		.notify = bool_column(reader, "notify"),
		.paused = bool_column(reader, "paused")
	};
	if (kind->handler == NULL)
		return;
	kind->function = function_of(kind->handler);
	if (!ordflow_handler_fits(kind->function, &owner) || owner != kind->owner)
		kind->function = InvalidOid;
}

static KnownKind *find_by_id(int32 kind_id);

static void
read_grants(Snapshot snapshot)
{
	RowReader	reader;

	ordflow_reader_open(&reader, "task_grants", "task_grants_pkey", snapshot, NULL, 0);
	while (ordflow_reader_next(&reader, ForwardScanDirection))
	{
		KnownKind  *one = find_by_id(int32_column(&reader, "kind_id"));
		Oid			role = get_role_oid(text_column(&reader, "role"), true);

		if (one != NULL && OidIsValid(role))
			one->grantees = lappend_oid(one->grantees, role);
	}
	ordflow_reader_close(&reader);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp((*(const KnownKind *const *) a)->kind.kind,
				  (*(const KnownKind *const *) b)->kind.kind);
}

static void
read_all(void)
{
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	reader;
	int			room = 16;

	known = palloc(sizeof(KnownKind) * room);
	ordflow_reader_open(&reader, "task_kinds", "task_kinds_pkey", snapshot, NULL, 0);
	while (ordflow_reader_next(&reader, ForwardScanDirection))
	{
		if (nknown == room)
			known = repalloc(known, sizeof(KnownKind) * (room *= 2));
		known[nknown].grantees = NIL;
		read_kind(&reader, &known[nknown].kind);
		nknown++;
	}
	ordflow_reader_close(&reader);
	read_grants(snapshot);
	UnregisterSnapshot(snapshot);

	by_name = palloc(sizeof(KnownKind *) * room);
	for (int i = 0; i < nknown; i++)
		by_name[i] = &known[i];
	qsort(by_name, nknown, sizeof(KnownKind *), compare_names);
}

/* Those that were told before stay good to the end of the transaction. */
static void
refresh(void)
{
	MemoryContext context;
	MemoryContext before;
	uint64		changes_before;

	if (is_current)
		return;
	if (known_context != NULL)
		MemoryContextSetParent(known_context, TopTransactionContext);
	known_context = NULL;
	nknown = 0;
	/* an error takes it away with the transaction */
	context = AllocSetContextCreate(TopTransactionContext, "ordflow kinds",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	kinds_table = ordflow_relid("task_kinds");
	changes_before = changes;
	read_all();
	MemoryContextSwitchTo(before);
	MemoryContextSetParent(context, CacheMemoryContext);
	known_context = context;
	is_current = changes == changes_before;
}

/* ---- asking ---- */

static KnownKind *
find_by_id(int32 kind_id)
{
	int			low = 0;
	int			high = nknown - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;

		if (known[middle].kind.kind_id == kind_id)
			return &known[middle];
		if (known[middle].kind.kind_id < kind_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

const TaskKind *
ordflow_kind_by_id(int32 kind_id)
{
	const KnownKind *one;

	refresh();
	one = find_by_id(kind_id);
	return one == NULL ? NULL : &one->kind;
}

const TaskKind *
ordflow_kind_look(const char *kind)
{
	KnownKind	key = {.kind = {.kind = (char *) kind}};
	const KnownKind *wanted = &key;
	const KnownKind **found;

	refresh();
	found = bsearch(&wanted, by_name, nknown, sizeof(KnownKind *), compare_names);
	return found == NULL ? NULL : &(*found)->kind;
}

const TaskKind *
ordflow_kind_by_name(const char *kind)
{
	const TaskKind *found = ordflow_kind_look(kind);

	if (found == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no kind of task \"%s\"", kind),
				errhint("ordflow.define_task() defines kinds; the view ordflow.task_lanes lists them."));
	return found;
}

int
ordflow_kinds_count(void)
{
	refresh();
	return nknown;
}

List *
ordflow_kinds_with_handler(Oid owner)
{
	List	   *kinds = NIL;

	refresh();
	for (int i = 0; i < nknown; i++)
	{
		const TaskKind *kind = &known[i].kind;

		if (kind->handler != NULL && OidIsValid(kind->owner) &&
			(!OidIsValid(owner) || kind->owner == owner))
			kinds = lappend(kinds, (void *) kind);
	}
	return kinds;
}

/* ---- rights ---- */

bool
ordflow_kind_may_submit(const TaskKind *kind, Oid roleid)
{
	const KnownKind *one;
	ListCell   *cell;

	if (OidIsValid(kind->owner) && has_privs_of_role(roleid, kind->owner))
		return true;
	refresh();
	one = find_by_id(kind->kind_id);
	if (one == NULL)
		return false;
	foreach(cell, one->grantees)
	{
		if (has_privs_of_role(roleid, lfirst_oid(cell)))
			return true;
	}
	return superuser_arg(roleid);
}

void
ordflow_kind_require_submit(const TaskKind *kind)
{
	if (ordflow_kind_may_submit(kind, GetUserId()))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied to submit tasks of kind \"%s\"", kind->kind),
			errhint("A member of its owner grants it by ordflow.grant_kind()."));
}

void
ordflow_kind_require_owner(const TaskKind *kind)
{
	if (OidIsValid(kind->owner) ? has_privs_of_role(GetUserId(), kind->owner) : superuser())
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("permission denied for kind of task \"%s\"", kind->kind),
			errdetail("This is for members of the role that owns it."));
}

/* ---- backoff ---- */

int64
ordflow_kind_backoff(const TaskKind *kind, int failures)
{
	double		wait = ldexp((double) kind->backoff, Min(failures, 60));
	double		jitter = 1 - JITTER + 2 * JITTER * pg_prng_double(&pg_global_prng_state);

	return (int64) (Min(wait, (double) kind->backoff_max) * jitter);
}
