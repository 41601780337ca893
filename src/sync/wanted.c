/*
 * wanted.c
 *	  WAL of tables that nobody wants is not even taken to the reorder buffer.
 *
 * A record of the heap names the file that it changed, not the table.  Only files that were once
 * seen to be of an unwanted table are skipped: when one of its changes came through, whatever the
 * catalog said then about its file was true at that place in the WAL.  A rewrite gives a table
 * another file, which is not known.  What is known is forgotten when a table's relation cache
 * entry is invalidated, as the decoded transactions say, and altogether when the syncs change: they
 * begin where nobody else writes to their source, see ordflow_create_sync().
 *
 * A row and its TOAST values are several records, and so is a speculative insertion.  The reorder
 * buffer must be given all of them or none.  So a table that becomes known is skipped for
 * transactions only of which no record was seen before, and one that is forgotten is skipped on for
 * those that have had a record skipped: nobody who has written to a table is still at it when it
 * becomes wanted, but for whoever attaches it as a partition himself, whose commands are told apart
 * by the invalidations between them.
 */
#include "postgres.h"

#include "access/heapam_xlog.h"
#include "access/rmgr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlogreader.h"
#include "storage/sinval.h"
#include "storage/standbydefs.h"
#include "utils/hsearch.h"
#include "utils/rel.h"

#include "sync/internal.h"

typedef struct UnwantedFile
{
	ordflow_locator file;
	Oid			relid;
	TransactionId after;		/* skipped for later ones */
	bool		forgotten;		/* skipped for those alone that have skipped it */
	TransactionId forgotten_at; /* none that began later has */
} UnwantedFile;

/*
 * A transaction, or subtransaction, that has had a record of a table skipped; of no table: what
 * transaction it is part of.
 */
typedef struct SkippedKey
{
	TransactionId xid;
	Oid			relid;
} SkippedKey;

typedef struct Skipped
{
	SkippedKey	key;
	TransactionId top;
} Skipped;

static HTAB *files = NULL;
static HTAB *skipped = NULL;
static bool watching = false;
static TransactionId newest = InvalidTransactionId; /* of those seen */

/* Invalid: all of them. */
static void
forget(Oid relid)
{
	HASH_SEQ_STATUS scan;
	UnwantedFile *file;

	if (files == NULL || hash_get_num_entries(files) == 0)
		return;
	hash_seq_init(&scan, files);
	while ((file = hash_seq_search(&scan)) != NULL)
	{
		if (file->forgotten || (OidIsValid(relid) && file->relid != relid))
			continue;
		file->forgotten = true;
		file->forgotten_at = newest;
	}
}

void
ordflow_unwanted_forget(void)
{
	forget(InvalidOid);
}

static void
make_tables(void)
{
	HASHCTL		of_files = {.keysize = sizeof(ordflow_locator),.entrysize = sizeof(UnwantedFile)};
	HASHCTL		of_skipped = {.keysize = sizeof(SkippedKey),.entrysize = sizeof(Skipped)};

	if (files == NULL)
		files = hash_create("ordflow unwanted files", 256, &of_files, HASH_ELEM | HASH_BLOBS);
	if (skipped == NULL)
		skipped = hash_create("ordflow skipped", 256, &of_skipped, HASH_ELEM | HASH_BLOBS);
	if (!watching)
		ordflow_on_relation_change(forget);
	watching = true;
}

static void
add(Oid relid, const ordflow_locator *locator)
{
	bool		found;
	UnwantedFile *file = hash_search(files, locator, HASH_ENTER, &found);

	if (found && !file->forgotten)
		return;
	file->relid = relid;
	file->after = newest;
	file->forgotten = false;
}

void
ordflow_unwanted_add(Relation relation)
{
	Oid			toast = relation->rd_rel->reltoastrelid;

	make_tables();
	add(RelationGetRelid(relation), ordflow_locator_of(relation));
	if (OidIsValid(toast))
	{
		Relation	rel = RelationIdGetRelation(toast);

		if (RelationIsValid(rel))
		{
			add(RelationGetRelid(relation), ordflow_locator_of(rel));
			RelationClose(rel);
		}
	}
}

/* The first record of a subtransaction tells. */
static void
note_top(TransactionId xid, TransactionId top)
{
	SkippedKey	key = {.xid = xid};
	Skipped    *entry;

	if (!TransactionIdIsValid(top))
		return;
	entry = hash_search(skipped, &key, HASH_ENTER, NULL);
	entry->top = top;
}

static TransactionId
top_of(TransactionId xid)
{
	SkippedKey	key = {.xid = xid};
	Skipped    *entry = hash_search(skipped, &key, HASH_FIND, NULL);

	return entry != NULL ? entry->top : xid;
}

/* Of a transaction, at the end of one of its commands: what it does next is told apart. */
static void
take_invalidations(XLogReaderState *record)
{
	xl_xact_invals *invals = (xl_xact_invals *) XLogRecGetData(record);
	TransactionId top = top_of(XLogRecGetXid(record));
	HASH_SEQ_STATUS scan;
	Skipped    *entry;

	for (int i = 0; i < invals->nmsgs; i++)
		if (invals->msgs[i].id == SHAREDINVALRELCACHE_ID)
			forget(invals->msgs[i].rc.relId);
	hash_seq_init(&scan, skipped);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (OidIsValid(entry->key.relid) && top_of(entry->key.xid) == top)
			hash_search(skipped, &entry->key, HASH_REMOVE, NULL);
}

/* Whatever is of transactions that have ended goes. */
static void
take_running(XLogReaderState *record)
{
	TransactionId oldest = ((xl_running_xacts *) XLogRecGetData(record))->oldestRunningXid;
	HASH_SEQ_STATUS scan;
	Skipped    *entry;
	UnwantedFile *file;

	hash_seq_init(&scan, skipped);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (TransactionIdPrecedes(entry->key.xid, oldest))
			hash_search(skipped, &entry->key, HASH_REMOVE, NULL);
	hash_seq_init(&scan, files);
	while ((file = hash_seq_search(&scan)) != NULL)
		if (file->forgotten && TransactionIdPrecedes(file->forgotten_at, oldest))
			hash_search(files, &file->file, HASH_REMOVE, NULL);
}

/* Does it change rows, and nothing else that decoding has to know? */
static bool
changes_rows(XLogReaderState *record)
{
	uint8		what = XLogRecGetInfo(record) & XLOG_HEAP_OPMASK;

	if (XLogRecGetRmid(record) == RM_HEAP2_ID)
		return what == XLOG_HEAP2_MULTI_INSERT;
	if (XLogRecGetRmid(record) != RM_HEAP_ID)
		return false;
	return what == XLOG_HEAP_INSERT || what == XLOG_HEAP_UPDATE ||
		what == XLOG_HEAP_HOT_UPDATE || what == XLOG_HEAP_DELETE || what == XLOG_HEAP_CONFIRM;
}

bool
ordflow_is_unwanted(XLogReaderState *record)
{
	static SkippedKey last = {InvalidTransactionId, InvalidOid};
	TransactionId xid = XLogRecGetXid(record);
	ordflow_locator locator;
	UnwantedFile *file;
	SkippedKey	key;

	if (TransactionIdIsNormal(xid) && TransactionIdFollows(xid, newest))
		newest = xid;
	if (files == NULL)
		return false;
	note_top(xid, XLogRecGetTopXid(record));
	if (XLogRecGetRmid(record) == RM_STANDBY_ID &&
		(XLogRecGetInfo(record) & ~XLR_INFO_MASK) == XLOG_RUNNING_XACTS)
		take_running(record);
	if (XLogRecGetRmid(record) == RM_XACT_ID &&
		(XLogRecGetInfo(record) & XLOG_XACT_OPMASK) == XLOG_XACT_INVALIDATIONS)
	{
		last.xid = InvalidTransactionId;
		take_invalidations(record);
		return false;
	}
	if (!changes_rows(record) || !XLogRecHasBlockRef(record, 0))
		return false;
	XLogRecGetBlockTag(record, 0, &locator, NULL, NULL);
	file = hash_search(files, &locator, HASH_FIND, NULL);
	if (file == NULL)
		return false;
	key = (SkippedKey) {xid, file->relid};
	if (file->forgotten)
		return hash_search(skipped, &key, HASH_FIND, NULL) != NULL;
	if (!TransactionIdFollows(xid, file->after))
		return false;
	if (last.xid != xid || last.relid != file->relid)
		(void) hash_search(skipped, &key, HASH_ENTER, NULL);
	last = key;
	return true;
}
