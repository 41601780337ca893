/*
 * decoder.c
 *	  The process that reads the WAL of a database, once for all syncs.
 *
 * It owns a replication slot and decodes in its own loop, without a walsender: whoever commits
 * wakes it, records of tables that nobody wants are passed over (wanted.c), and what is wanted goes
 * into the spools (capture.c).
 *
 * The slot lets go of WAL up to what every delivery has durable at its target, or on disk in its
 * spool.  So a target that is down holds the WAL for some seconds only; from then on its spool
 * grows, to at most ordflow.wal_budget.
 *
 * An error ends the process; the next one begins where the slot stands, and what is in a spool
 * already is not put there again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/decode.h"
#include "replication/logical.h"
#include "replication/reorderbuffer.h"
#include "replication/slot.h"
#include "replication/snapbuild.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "sync/internal.h"
#include "sync/row.h"

#define CONFIRM_EVERY	USECS_PER_SEC
#define BEHIND_MAX		(3 * USECS_PER_SEC)	/* then the spool is flushed, and the WAL let go */
#define RECORDS_A_TURN	1000
#define REST_MS			10000L
#define UNFLUSHED_MS	5L		/* somebody commits without waiting for the disk */
#define IDLE_MS			10000L
#define PLUGIN_SETTING	"output_plugin_libraries"

static DecoderShared *shared = NULL;
static LogicalDecodingContext *decoding = NULL;
static bool at_end_of_wal = false;
static TimestampTz confirm_at = DT_NOBEGIN;

/* Of the syncs' definitions: a change of them may be seen by the next look only. */
static bool reload = false;
static TransactionId reload_xid = InvalidTransactionId;

char *
ordflow_slot_name(void)
{
	return psprintf("ordflow_%u", MyDatabaseId);
}

/* ---- reading WAL, up to what is flushed ---- */

static int
read_page(XLogReaderState *reader, XLogRecPtr page, int wanted, XLogRecPtr record, char *buffer)
{
	TimeLineID	timeline;
	XLogRecPtr	flushed = GetFlushRecPtr(&timeline);
	WALReadError problem;
	int			count = XLOG_BLCKSZ;

	XLogReadDetermineTimeline(reader, page, wanted, timeline);
	if (reader->currTLI != timeline)
		flushed = reader->currTLIValidUntil;
	if (page + wanted > flushed)
	{
		at_end_of_wal = true;
		return -1;
	}
	if (page + XLOG_BLCKSZ > flushed)
		count = flushed - page;
	if (!WALRead(reader, buffer, page, count, reader->currTLI, &problem))
		WALReadRaiseError(&problem);
	return count;
}

static void
prepare_write(LogicalDecodingContext *ctx, XLogRecPtr lsn, TransactionId xid, bool last)
{
	elog(ERROR, "the decoder of ordflow writes nothing to a client");
}

static void
do_write(LogicalDecodingContext *ctx, XLogRecPtr lsn, TransactionId xid, bool last)
{
	prepare_write(ctx, lsn, xid, last);
}

/* What DecodeXLogRecord would do of a record that changes no row of interest. */
static void
pass_over(XLogReaderState *record)
{
	TransactionId xid = XLogRecGetXid(record);
	TransactionId top = XLogRecGetTopXid(record);

	if (TransactionIdIsValid(top))
		ReorderBufferAssignChild(decoding->reorder, top, xid, record->ReadRecPtr);
	ReorderBufferProcessXid(decoding->reorder, xid, record->ReadRecPtr);
}

/* False: there is no further record yet. */
static bool
read_one(void)
{
	char	   *problem = NULL;
	XLogRecord *record;

	at_end_of_wal = false;
	record = XLogReadRecord(decoding->reader, &problem);
	if (record == NULL && at_end_of_wal)
		return false;
	if (record == NULL)
		ereport(ERROR,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("could not read WAL at %X/%X: %s",
					   LSN_FORMAT_ARGS(decoding->reader->EndRecPtr),
					   problem ? problem : "there is no record"));
	if (SnapBuildCurrentState(decoding->snapshot_builder) == SNAPBUILD_CONSISTENT &&
		ordflow_is_unwanted(decoding->reader))
		pass_over(decoding->reader);
	else
		LogicalDecodingProcessRecord(decoding, decoding->reader);
	return true;
}

static void
publish(void)
{
	SpinLockAcquire(&shared->mutex);
	shared->decoded = decoding->reader->EndRecPtr;
	shared->confirmed = MyReplicationSlot->data.confirmed_flush;
	SpinLockRelease(&shared->mutex);
	ordflow_capture_alert();
}

/* True: there may be more. */
static bool
read_some(void)
{
	for (int i = 0; i < RECORDS_A_TURN; i++)
	{
		if (!read_one())
			return false;
		if (ordflow_capture_changed(&reload_xid))
		{
			reload = true;
			return true;
		}
	}
	return true;
}

/* ---- the syncs ---- */

/* The commit is in the WAL before others see its rows. */
static void
wait_until_visible(TransactionId xid)
{
	while (TransactionIdIsValid(xid) && TransactionIdIsInProgress(xid))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(100);
	}
}

/* How many deliveries there are; -1: nothing is to be done here. */
static int
load(XLogRecPtr base)
{
	int			n;

	InvalidateSystemCaches();
	wait_until_visible(reload_xid);
	reload = false;
	reload_xid = InvalidTransactionId;
	if (!ordflow_worker_begin())
		return -1;
	n = ordflow_capture_load(base);
	ordflow_worker_commit();
	SpinLockAcquire(&shared->mutex);
	shared->looked++;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < ordflow_capture_ntargets(); i++)
		ordflow_capture_target(i)->alert = true;
	ordflow_capture_alert();
	ordflow_worker_note(DUTY_SYNC, DT_NOBEGIN);
	return n;
}

/* ---- letting go ---- */

static Statement note_gap = {
	.sql = "UPDATE ordflow.sync_deliveries SET stopped = true, problem = $2, "
	"generation = generation + 1, backlog = true, sent = NULL, released = NULL "
	"WHERE delivery_id = $1 AND NOT stopped",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

static void
stop_delivery(int64 delivery_id, const char *problem)
{
	Datum		values[2] = {Int64GetDatum(delivery_id), CStringGetTextDatum(problem)};

	ereport(WARNING,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("delivery " INT64_FORMAT " of ordflow is stopped: %s", delivery_id, problem),
			errhint("SELECT ordflow.resume_sync(name) goes on behind the gap."));
	SPI_connect();
	ordflow_execute(&note_gap, values, NULL);
	SPI_finish();
}

/* The spool of a target that takes too little has grown to what is allowed. */
static void
check_budget(CaptureTarget *target)
{
	int64		bytes = ordflow_spool_bytes(target->spool);

	SpinLockAcquire(&target->shared->mutex);
	target->shared->bytes = bytes;
	SpinLockRelease(&target->shared->mutex);
	if (bytes <= (int64) ordflow_wal_budget * 1024 * 1024 || !ordflow_worker_begin())
		return;
	stop_delivery(target->delivery->delivery_id,
				  psprintf("its spool has grown to ordflow.wal_budget, %d MB", ordflow_wal_budget));
	ordflow_worker_commit();
	reload = true;
}

/* The place that a delivery needs no WAL before. */
static XLogRecPtr
needed_by(CaptureTarget *target, XLogRecPtr decoded, TimestampTz now)
{
	DeliveryShared *delivery = target->shared;
	XLogRecPtr	durable;
	XLogRecPtr	spooled;

	if (target->spool == NULL)
		return decoded;
	SpinLockAcquire(&delivery->mutex);
	durable = delivery->released;
	spooled = delivery->spooled;
	SpinLockRelease(&delivery->mutex);
	if (durable >= spooled)
	{
		target->behind_since = 0;
		return decoded;
	}
	if (target->behind_since == 0)
		target->behind_since = now;
	if (now - target->behind_since > BEHIND_MAX && target->synced < spooled)
	{
		ordflow_spool_sync(target->spool);
		target->synced = target->last;
		check_budget(target);
	}
	durable = Max(durable, target->synced);
	return durable >= target->last ? decoded : durable;
}

/* Nothing is in progress that began before: then all that is decoded may be let go. */
static void
confirm(void)
{
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	decoded = decoding->reader->EndRecPtr;
	XLogRecPtr	lsn = decoded;

	if (now < confirm_at)
		return;
	confirm_at = now + CONFIRM_EVERY;
	for (int i = 0; i < ordflow_capture_ntargets(); i++)
	{
		XLogRecPtr	needed = needed_by(ordflow_capture_target(i), decoded, now);

		lsn = Min(lsn, needed);
	}
	if (lsn > MyReplicationSlot->data.confirmed_flush)
		LogicalConfirmReceivedLocation(lsn);
}

/* ---- the slot ---- */

/* As long as the setting exists; else every plugin may be used. */
static void
allow_plugin(void)
{
	const char *allowed = GetConfigOption(PLUGIN_SETTING, true, false);

	if (allowed != NULL && strstr(allowed, "ordflow") == NULL)
		SetConfigOption(PLUGIN_SETTING, allowed[0] == '\0' ? "ordflow" :
						psprintf("%s, ordflow", allowed), PGC_SUSET, PGC_S_OVERRIDE);
}

static bool
slot_exists(void)
{
	char	   *name = ordflow_slot_name();
	bool		found = SearchNamedReplicationSlot(name, true) != NULL;

	pfree(name);
	return found;
}

/* The WAL that it needed is gone: it was behind by more than max_slot_wal_keep_size. */
static void
drop_invalidated_slot(void)
{
	char	   *name = ordflow_slot_name();
	ReplicationSlot *slot = SearchNamedReplicationSlot(name, true);
	bool		invalidated = false;

	if (slot != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		invalidated = ordflow_slot_is_invalidated(slot);
		SpinLockRelease(&slot->mutex);
	}
	if (invalidated)
	{
		ereport(WARNING,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("replication slot \"%s\" of ordflow was invalidated", name),
				errhint("Raise max_slot_wal_keep_size."));
		ReplicationSlotDrop(name, true);
	}
	pfree(name);
}

static LogicalDecodingContext *
initial_context(void)
{
	return CreateInitDecodingContext("ordflow", NIL, false, InvalidXLogRecPtr,
									 XL_ROUTINE(.page_read = read_local_xlog_page,
												.segment_open = wal_segment_open,
												.segment_close = wal_segment_close),
									 prepare_write, do_write, NULL);
}

/* Messages are still in the outbox; changes of tables are nowhere. */
static Statement raise_generations = {
	.sql = "UPDATE ordflow.sync_deliveries d SET generation = generation + 1, backlog = true, "
	"sent = NULL, released = NULL, stopped = n.any, problem = CASE WHEN n.any THEN "
	"'the replication slot was lost, and with it what had not been delivered' END "
	"FROM (SELECT o.delivery_id, pg_catalog.count(s.sync_id) > 0 AS any "
	"FROM ordflow.sync_deliveries o LEFT JOIN ordflow.syncs s ON s.mode = 'cdc' "
	"AND s.role = o.role AND s.server IS NOT DISTINCT FROM o.server GROUP BY o.delivery_id) AS n "
	"WHERE n.delivery_id = d.delivery_id"
};

/*
 * Deliveries that were there before have a gap now: what committed between is in no WAL that we
 * will ever read.
 */
static bool
note_lost_slot(void)
{
	if (!ordflow_worker_begin())
		return false;
	SPI_connect();
	ordflow_execute(&raise_generations, NULL, NULL);
	ordflow_sync_make_deliveries();
	SPI_finish();
	ordflow_worker_commit();
	return true;
}

/* Waits for all transactions that are writing. */
static bool
create_slot(void)
{
	LogicalDecodingContext *context;

	SpinLockAcquire(&shared->mutex);
	shared->creating = true;
	SpinLockRelease(&shared->mutex);
	ordflow_companion_problem("waits for the end of transactions that are writing",
							  "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;");
	ordflow_slot_create(ordflow_slot_name());
	context = initial_context();
	DecodingContextFindStartpoint(context);
	FreeDecodingContext(context);
	if (!note_lost_slot())
	{
		ReplicationSlotRelease();
		return false;
	}
	ReplicationSlotPersist();
	ReplicationSlotRelease();
	SpinLockAcquire(&shared->mutex);
	shared->creating = false;
	SpinLockRelease(&shared->mutex);
	return true;
}

static void
begin_decoding(void)
{
	ordflow_slot_acquire(ordflow_slot_name());
	decoding = CreateDecodingContext(InvalidXLogRecPtr, NIL, false,
									 XL_ROUTINE(.page_read = read_page,
												.segment_open = wal_segment_open,
												.segment_close = wal_segment_close),
									 prepare_write, do_write, NULL);
	XLogBeginRead(decoding->reader, MyReplicationSlot->data.restart_lsn);
}

static void
end_decoding(void)
{
	if (decoding == NULL)
		return;
	FreeDecodingContext(decoding);
	decoding = NULL;
	ReplicationSlotRelease();
}

/* Of a database that has no syncs any more: leaves nothing. */
void
ordflow_sync_leave_nothing(void)
{
	char	   *name = ordflow_slot_name();

	if (slot_exists())
		ReplicationSlotDrop(name, true);
	ordflow_spool_remove_others(NULL, 0);
	pfree(name);
}

/* ---- the process ---- */

static const char *
requirement(const char **hint)
{
	if (wal_level < WAL_LEVEL_LOGICAL)
	{
		*hint = "ALTER SYSTEM SET wal_level = logical; then restart the server.";
		return "wal_level is not logical";
	}
	if (max_replication_slots == 0)
	{
		*hint = "ALTER SYSTEM SET max_replication_slots = 10; then restart the server.";
		return "max_replication_slots is 0";
	}
	return NULL;
}

static void
rest(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* True when the slot is there. */
static bool
get_slot(void)
{
	const char *hint = NULL;
	const char *problem = requirement(&hint);

	if (problem != NULL)
	{
		ordflow_companion_problem(problem, hint);
		return false;
	}
	allow_plugin();
	drop_invalidated_slot();
	if (!slot_exists() && !create_slot())
		return false;
	ordflow_companion_problem(NULL, NULL);
	return true;
}

static void
tell_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	shared->latch = latch;
	SpinLockRelease(&shared->mutex);
}

static void
at_exit(int code, Datum arg)
{
	if (shared != NULL)
		tell_latch(NULL);
}

static void
backlog(void)
{
	XLogRecPtr	decoded = decoding->reader->EndRecPtr;

	if (!ordflow_capture_has_backlog(decoded) || !ordflow_worker_begin())
		return;
	ordflow_capture_backlog(decoded);
	ordflow_worker_commit();
}

static long
wait_ms(void)
{
	bool		unflushed = GetXLogInsertRecPtr() > decoding->reader->EndRecPtr;
	TimestampTz now = GetCurrentTimestamp();

	if (reload)
		return 0;
	if (unflushed)
		return UNFLUSHED_MS;
	if (MyReplicationSlot->data.confirmed_flush >= decoding->reader->EndRecPtr)
		return IDLE_MS;
	return confirm_at > now ? Max(1, (confirm_at - now) / 1000) : 1;
}

/* How many deliveries there are; -1: nothing is to be done here. */
static int
turn(void)
{
	bool		more = read_some();
	int			n = ordflow_capture_ntargets();

	publish();
	SpinLockAcquire(&shared->mutex);
	reload = reload || shared->reload;
	shared->reload = false;
	SpinLockRelease(&shared->mutex);
	if (reload)
		n = load(decoding->reader->EndRecPtr);
	if (n <= 0)
		return n;
	if (!more)
		backlog();
	publish();
	confirm();
	if (!more)
	{
		long		ms = wait_ms();

		ordflow_companion_idle(true);
		if (ms > 0)
			rest(ms);
		ordflow_companion_idle(false);
	}
	CHECK_FOR_INTERRUPTS();
	return n;
}

static void
decoder_main(const char *name)
{
	int			n;

	shared = ordflow_decoder_shared(true);
	if (shared == NULL)
		return;
	on_shmem_exit(at_exit, (Datum) 0);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "ordflow decoder");
	ordflow_capture_init();
	(void) ordflow_change_settings();
	while (!ordflow_worker_leaving() && !get_slot())
		rest(REST_MS);
	if (ordflow_worker_leaving())
		return;
	begin_decoding();
	n = load(MyReplicationSlot->data.confirmed_flush);
	tell_latch(MyLatch);
	while (n > 0 && !ordflow_worker_leaving())
		n = turn();
	if (n > 0)
	{
		confirm_at = DT_NOBEGIN;
		confirm();
	}
	ordflow_capture_close();
	end_decoding();
	tell_latch(NULL);
	/* whether we may act here at all is not ours to say: the coordinator does */
	if (n == 0)
		ordflow_sync_leave_nothing();
	if (n <= 0)
		ordflow_companion_done();
}

void
ordflow_decoder_init(void)
{
	static const CompanionKind kind = {
		.title = "decoder",
		.duty = DUTY_SYNC,
		.main = decoder_main,
	};

	ordflow_companion_register(COMPANION_DECODER, &kind);
}
