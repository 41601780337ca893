/*
 * base.h
 *	  What every feature stands on: settings, the kept plans of our statements,
 *	  our own catalog objects, argument guards, text and time.
 */
#ifndef ORDFLOW_BASE_H
#define ORDFLOW_BASE_H

#include "postgres.h"
#include "access/sdir.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"

/* limits, each documented where it is raised */
#define ORDFLOW_TEXT_MAX		255		/* bytes: customer, keys, codes, references */
#define ORDFLOW_ORDERS_MAX		10000	/* orders in one call of submit_orders */
#define ORDFLOW_QUANTITY_MAX	INT64CONST(1000000000000)	/* units in a line */

/* ---- guc.c: settings; the defaults have their only home there ---- */
extern char *ordflow_currency;
extern char *ordflow_actor_setting;
extern char *ordflow_event_setting;
extern int	ordflow_pay_within;		/* seconds */
extern int	ordflow_confirm_within; /* seconds */
extern int	ordflow_max_lines;
extern bool ordflow_workers;
extern int	ordflow_stock_counters;
extern int	ordflow_fold_interval;	/* milliseconds */
extern int	ordflow_movement_retention; /* seconds; -1 = for good */
extern char *ordflow_timer_drivers;
extern int	ordflow_timer_grace;	/* milliseconds */
extern int	ordflow_task_slots_setting;
extern int	ordflow_task_workers_min;
extern int	ordflow_task_workers_max;
extern int	ordflow_task_worker_idle;	/* milliseconds */
extern int	ordflow_task_retention; /* seconds; -1 = for good */
extern int	ordflow_task_dead_retention;	/* the same */
extern int	ordflow_wal_budget;		/* MB */

/* An item of ordflow.timer_drivers. */
typedef struct TimerDriverName
{
	char		driver[NAMEDATALEN];
	char		server[NAMEDATALEN];	/* empty for worker and cron */
} TimerDriverName;

#define TIMER_DRIVERS_MAX 16

/* How many items the list has, at most TIMER_DRIVERS_MAX; -1: it is none. */
extern int	ordflow_timer_driver_names(const char *list, TimerDriverName *names);

extern void ordflow_settings_init(void);

/* The interval that one of our settings in seconds holds, in the current context. */
extern Interval *ordflow_setting_interval(const char *name);

/* ---- catalog.c: our own objects ---- */

/* True when the library was loaded by shared_preload_libraries. */
extern bool ordflow_preloaded;

/* OF008 when the library was not preloaded, OF011 when library and SQL versions differ. */
extern void ordflow_require_preload(void);

/* OF011 when library and SQL versions differ; cheap after the first call. */
extern void ordflow_require_version(void);

/* Is the extension created in this database, in the library's version? */
extern bool ordflow_version_is_current(void);

/* The oid of a relation in schema ordflow; error when it is missing. */
extern Oid	ordflow_relid(const char *relname);

/*
 * Registers, for good, who is told of a relation whose cache entry was invalidated (invalid: of
 * all).  The server has ten places for such callbacks of all that is loaded, so all of ours
 * share one.
 */
extern void ordflow_on_relation_change(void (*callback) (Oid relid));

/* The role that owns the extension: our statements run as it. */
extern Oid	ordflow_owner(void);

/*
 * Switches to another role until ordflow_role_leave(); an error restores the
 * role with its (sub)transaction.  restricted: run user code, so no role change,
 * no temporary object, no deferred trigger (SECURITY_RESTRICTED_OPERATION), and no
 * setting that outlives it.
 */
typedef struct RoleSwitch
{
	Oid			userid;
	int			sec_context;
	int			guc_level;		/* 0: settings are not set back */
} RoleSwitch;

extern RoleSwitch ordflow_role_enter(Oid roleid, bool restricted);
extern void ordflow_role_leave(RoleSwitch saved);

/* Who acts: the setting ordflow.actor, else the session user's name. */
extern const char *ordflow_actor(void);

/* ---- spi.c: statements with plans kept for the life of the backend ---- */

#define ORDFLOW_STATEMENT_ARGS_MAX 24

/*
 * One statement of ours, declared static beside its only user.  Prepared at
 * first use as a generic plan; PostgreSQL revalidates it after DDL.
 */
typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			argtypes[ORDFLOW_STATEMENT_ARGS_MAX];
	SPIPlanPtr	plan;
} Statement;

/*
 * Runs a statement; the caller is connected to SPI.  nulls as in
 * SPI_execute_plan (NULL = none).  Each run takes a new snapshot at READ
 * COMMITTED.  Returns SPI_processed; rows are in SPI_tuptable.
 */
extern uint64 ordflow_execute(Statement *statement, Datum *values, const char *nulls);

/*
 * The same in the latest snapshot at every isolation level: for rows of ours that are right
 * only as they stand now.
 */
extern uint64 ordflow_execute_latest(Statement *statement, Datum *values, const char *nulls);

/*
 * For SPI_prepare_cursor(), beside the server's own options: whenever PostgreSQL plans the
 * statement, it is planned as for large tables, without JIT; and by an index, in its order,
 * where there is one.
 */
#define ORDFLOW_PLAN_LARGE		(1 << 30)
#define ORDFLOW_PLAN_BY_INDEX	(1 << 29)

/* A value of the last result; pass-by-reference values live in the SPI context. */
extern Datum ordflow_result(uint64 row, int column, bool *isnull);
extern int64 ordflow_result_int64(uint64 row, int column);	/* 0 where NULL */
extern char *ordflow_result_text(uint64 row, int column);	/* NULL where NULL */

/* Called from _PG_init. */
extern void ordflow_statements_init(void);

/* ---- rows.c: rows written straight into a table of ours ---- */

/*
 * A table of ours as it was created: every column, in order.  Declared static
 * beside its only writer.
 */
typedef struct RowTable
{
	const char *relname;
	const char *trigger;		/* of ours: rows written here need not fire its function; or NULL */
	int			ncolumns;
	struct
	{
		const char *name;
		Oid			type;
	}			columns[ORDFLOW_STATEMENT_ARGS_MAX];
	Statement	insert;			/* made when a row cannot be written directly */
} RowTable;

#define ORDFLOW_ROWS_BATCH 32

typedef struct RowWriter
{
	RowTable   *table;
	Relation	rel;
	bool		direct;
	struct EState *estate;
	struct ResultRelInfo *target;
	int			nslots;			/* rows not written yet */
	struct TupleTableSlot *slots[ORDFLOW_ROWS_BATCH];
} RowWriter;

/*
 * Writes rows with a value or NULL for every column, at the latest at the end; the caller is
 * connected to SPI, unless the writer is direct.  The table
 * stays locked (RowExclusiveLock) to the end of the transaction.  A later statement
 * of ours sees the rows.
 */
extern void ordflow_rows_begin(RowWriter *writer, RowTable *table);
extern void ordflow_rows_write(RowWriter *writer, Datum *values, const bool *nulls);
extern void ordflow_rows_end(RowWriter *writer);

/* ---- reader.c: rows of ours as they stand now, read past predicate locks ---- */

typedef struct RowReader
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	struct IndexScanDescData *scan;
	struct TupleTableSlot *slot;	/* the row found last */
} RowReader;

/* The latest snapshot, with what this transaction has done so far, registered for the caller. */
extern Snapshot ordflow_register_latest(void);

/* The snapshot outlives the scan; keys are those of an index scan, of nkeys columns. */
extern void ordflow_reader_open(RowReader *reader, const char *relname, const char *indexname,
								Snapshot snapshot, struct ScanKeyData *keys, int nkeys);

/* Other keys, as many as at first. */
extern void ordflow_reader_again(RowReader *reader, struct ScanKeyData *keys, int nkeys);

/* False: there is no further row that the snapshot sees. */
extern bool ordflow_reader_next(RowReader *reader, ScanDirection direction);
extern AttrNumber ordflow_reader_column(const RowReader *reader, const char *name);
extern Datum ordflow_reader_value(RowReader *reader, AttrNumber column, bool *isnull);
extern int64 ordflow_reader_int64(RowReader *reader, AttrNumber column);	/* 0 where NULL */
extern void ordflow_reader_close(RowReader *reader);

/*
 * Deletes the rows that an index finds by its first column, a bigint, past predicate locks.  False,
 * and nothing is done, where the table has what only DELETE would serve.
 */
extern bool ordflow_rows_delete(const char *relname, const char *indexname, int64 key);

/* ---- prepare.c: two-phase commit ---- */

/* The transaction may not be prepared any more; what names what it changed (a constant). */
extern void ordflow_refuse_prepare(const char *what);
extern void ordflow_prepare_init(void);

/* ---- args.c: guards of arguments, named for what they ensure ---- */

/* 22004 naming the argument when it is NULL. */
extern void ordflow_require_not_null(FunctionCallInfo fcinfo, int argno, const char *name);

/*
 * A text argument as a C string: 22004 when NULL, 22023 when empty, 22001 when
 * longer than ORDFLOW_TEXT_MAX bytes.
 */
extern char *ordflow_arg_text(FunctionCallInfo fcinfo, int argno, const char *name);

/* The same, but NULL gives NULL. */
extern char *ordflow_arg_text_or_null(FunctionCallInfo fcinfo, int argno, const char *name);

/* Not empty and not longer than ORDFLOW_TEXT_MAX bytes, else a problem. */
extern bool ordflow_check_text(const char *value, const char *name, Problem *problem);

/* A bigint argument from 1 to ORDFLOW_QUANTITY_MAX: 22004, 22023, 22003. */
extern int64 ordflow_arg_quantity(FunctionCallInfo fcinfo, int argno, const char *name);

/*
 * An interval from now on: 22023 unless it is above zero, 22008 above 100 years.
 * "what" names it in messages.
 */
extern bool ordflow_check_interval(Interval *interval, const char *what, TimestampTz now,
								   Problem *problem);

/* text datum or NULL flag in one go, for arrays of values and nulls */
#define ORDFLOW_SET_TEXT(values, nulls, i, string) \
	do { \
		const char *s_ = (string); \
		(values)[i] = s_ ? CStringGetTextDatum(s_) : (Datum) 0; \
		(nulls)[i] = s_ ? ' ' : 'n'; \
	} while (0)

/* the same, with nulls as bool */
#define ORDFLOW_PUT_TEXT(values, nulls, i, string) \
	do { \
		const char *s_ = (string); \
		(values)[i] = s_ ? CStringGetTextDatum(s_) : (Datum) 0; \
		(nulls)[i] = s_ == NULL; \
	} while (0)

/* What Min() tells, but each is evaluated once: a step that is due must not be done twice. */
static inline TimestampTz
ordflow_earlier(TimestampTz a, TimestampTz b)
{
	return Min(a, b);
}

/* ---- array.c: C arrays as datums for unnest() ---- */
extern Datum ordflow_int8_array(const int64 *values, int n);
extern Datum ordflow_id_array(const int64 *ids, int n); /* 0 becomes NULL */
extern Datum ordflow_text_array(const char *const *values, int n);	/* NULL elements allowed */
extern Datum ordflow_numeric_array(const Datum *values, const bool *nulls, int n);
extern Datum ordflow_timestamptz_array(const Datum *values, int n);
extern Datum ordflow_jsonb_array(const Datum *values, const bool *nulls, int n);

#endif							/* ORDFLOW_BASE_H */
