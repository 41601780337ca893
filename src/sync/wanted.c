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
 * by the invalidations between them.  What a transaction has had skipped is known until it ends.
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
 * A transaction, or subtransaction, that has had a record of a table skipped.  Of no table: what
 * transaction it is part of, and where the row of its tables begins.
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
	Oid			next;
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

static Skipped *
transaction_of(TransactionId xid)
{
	SkippedKey	key = {.xid = xid};
	bool		found;
	Skipped    *entry = hash_search(skipped, &key, HASH_ENTER, &found);

	if (!found)
	{
		entry->top = xid;
		entry->next = InvalidOid;
	}
	return entry;
}

/* The first record of a subtransaction tells. */
static void
note_top(TransactionId xid, TransactionId top)
{
	if (TransactionIdIsValid(top))
		transaction_of(xid)->top = top;
}

static TransactionId
top_of(TransactionId xid)
{
	SkippedKey	key = {.xid = xid};
	Skipped    *entry = hash_search(skipped, &key, HASH_FIND, NULL);

	return entry != NULL ? entry->top : xid;
}

static void
note_skipped(SkippedKey *key)
{
	bool		found;
	Skipped    *entry = hash_search(skipped, key, HASH_ENTER, &found);
	Skipped    *transaction;

	if (found)
		return;
	transaction = transaction_of(key->xid);
	entry->top = transaction->top;
	entry->next = transaction->next;
	transaction->next = key->relid;
}

static void
forget_skipped(TransactionId xid)
{
	SkippedKey	key = {.xid = xid};
	Skipped    *transaction = hash_search(skipped, &key, HASH_FIND, NULL);

	while (transaction != NULL && OidIsValid(transaction->next))
	{
		key.relid = transaction->next;
		transaction->next = ((Skipped *) hash_search(skipped, &key, HASH_FIND, NULL))->next;
		hash_search(skipped, &key, HASH_REMOVE, NULL);
	}
}

static void
forget_transaction(TransactionId xid)
{
	SkippedKey	key = {.xid = xid};

	forget_skipped(xid);
	hash_search(skipped, &key, HASH_REMOVE, NULL);
}

/* Those of a transaction; or, of none, that are older. */
static List *
find_transactions(TransactionId top, TransactionId before)
{
	HASH_SEQ_STATUS scan;
	Skipped    *entry;
	List	   *list = NIL;

	hash_seq_init(&scan, skipped);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (!OidIsValid(entry->key.relid) &&
			(TransactionIdIsValid(top) ? entry->top == top :
			 TransactionIdPrecedes(entry->key.xid, before)))
			list = lappend_oid(list, entry->key.xid);
	return list;
}

/* Of a transaction, at the end of one of its commands: what it does next is told apart. */
static void
take_invalidations(XLogReaderState *record)
{
	xl_xact_invals *invals = (xl_xact_invals *) XLogRecGetData(record);
	List	   *list;
	ListCell   *cell;

	for (int i = 0; i < invals->nmsgs; i++)
		if (invals->msgs[i].id == SHAREDINVALRELCACHE_ID)
			forget(invals->msgs[i].rc.relId);
	list = find_transactions(top_of(XLogRecGetXid(record)), InvalidTransactionId);
	foreach(cell, list)
		forget_skipped(lfirst_oid(cell));
	list_free(list);
}

static void
take_end(XLogReaderState *record, uint8 what)
{
	TransactionId xid = XLogRecGetXid(record);
	TransactionId *parts;
	int			nparts;

	if (what == XLOG_XACT_COMMIT || what == XLOG_XACT_COMMIT_PREPARED)
	{
		xl_xact_parsed_commit commit;

		ParseCommitRecord(XLogRecGetInfo(record), (xl_xact_commit *) XLogRecGetData(record),
						  &commit);
		xid = TransactionIdIsValid(commit.twophase_xid) ? commit.twophase_xid : xid;
		parts = commit.subxacts;
		nparts = commit.nsubxacts;
	}
	else
	{
		xl_xact_parsed_abort abort;

		ParseAbortRecord(XLogRecGetInfo(record), (xl_xact_abort *) XLogRecGetData(record),
						 &abort);
		xid = TransactionIdIsValid(abort.twophase_xid) ? abort.twophase_xid : xid;
		parts = abort.subxacts;
		nparts = abort.nsubxacts;
	}
	for (int i = 0; i < nparts; i++)
		forget_transaction(parts[i]);
	forget_transaction(xid);
}

/* What is of transactions whose end nobody wrote goes, as do files that none of them has met. */
static void
take_running(XLogReaderState *record)
{
	TransactionId oldest = ((xl_running_xacts *) XLogRecGetData(record))->oldestRunningXid;
	List	   *list = find_transactions(InvalidTransactionId, oldest);
	HASH_SEQ_STATUS scan;
	UnwantedFile *file;
	ListCell   *cell;

	foreach(cell, list)
		forget_transaction(lfirst_oid(cell));
	list_free(list);
	hash_seq_init(&scan, files);
	while ((file = hash_seq_search(&scan)) != NULL)
		if (file->forgotten && TransactionIdPrecedes(file->forgotten_at, oldest))
			hash_search(files, &file->file, HASH_REMOVE, NULL);
}

/* Records that tell of transactions.  True: it is one. */
static bool
take_transaction(XLogReaderState *record)
{
	uint8		what = XLogRecGetInfo(record) & XLOG_XACT_OPMASK;

	if (XLogRecGetRmid(record) == RM_STANDBY_ID &&
		(XLogRecGetInfo(record) & ~XLR_INFO_MASK) == XLOG_RUNNING_XACTS)
		take_running(record);
	if (XLogRecGetRmid(record) != RM_XACT_ID)
		return XLogRecGetRmid(record) == RM_STANDBY_ID;
	if (what == XLOG_XACT_INVALIDATIONS)
		take_invalidations(record);
	else if (what != XLOG_XACT_ASSIGNMENT && what != XLOG_XACT_PREPARE)
		take_end(record, what);
	return true;
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
	if (take_transaction(record))
	{
		last.xid = InvalidTransactionId;
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
		note_skipped(&key);
	last = key;
	return true;
}
