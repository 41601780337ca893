/*
 * spool.c
 *	  What a delivery has not taken yet, in files of its own.
 *
 * A spool is a row of segments, ordflow_sync_<delivery>.<segment> in the database's own folder: so
 * DROP DATABASE takes them along.  The decoder appends whole transactions; the delivery reads up to
 * the end that it is told of in shared memory, and removes segments that it is through with.  As a
 * rule the bytes never leave the page cache.
 *
 * After a crash of the server the last segment may end anywhere, or with garbage: every record has
 * a checksum, and what comes after the last whole transaction is cut off.  A segment whose
 * successor was begun has been flushed; the successor itself may have no more than a part of its
 * header, and then is as good as not there.  The decoder never goes on in a segment that it finds.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "sync/internal.h"

#define SEGMENT_BYTES	(16 * 1024 * 1024)
#define WRITE_BYTES		(1024 * 1024)
#define READ_BYTES		(256 * 1024)
#define SPOOL_MAGIC		0x4f665370	/* OfSp */
#define SPOOL_VERSION	1
#define FILE_PREFIX		"ordflow_sync_"

typedef struct SegmentHeader
{
	uint32		magic;
	uint32		version;
	uint64		system;			/* a copy of the database is another source */
	Oid			database;
	uint32		generation;
	int64		delivery_id;
	uint64		segment;
	XLogRecPtr	base;			/* what committed up to this is not in it */
	pg_crc32c	crc;
} SegmentHeader;

typedef struct RecordHeader
{
	uint32		length;			/* of the data */
	pg_crc32c	crc;			/* of kind and data */
	uint8		kind;
} RecordHeader;

#define RECORD_HEADER_BYTES (offsetof(RecordHeader, kind) + 1)

struct SpoolWriter
{
	int64		delivery_id;
	uint32		generation;
	int			file;
	uint64		segment;
	uint64		written;		/* bytes of the segment that are in the file */
	uint64		committed;		/* and that are whole transactions */
	XLogRecPtr	last;
	StringInfoData buffer;		/* behind written */
};

/* ---- files ---- */

static char *
segment_path(int64 delivery_id, uint64 segment)
{
	return psprintf("%s/" FILE_PREFIX INT64_FORMAT "." UINT64_FORMAT, DatabasePath, delivery_id,
					segment);
}

pg_noreturn static void
file_failed(const char *what, int64 delivery_id, uint64 segment)
{
	int			saved = errno;
	char	   *path = segment_path(delivery_id, segment);

	errno = saved != 0 ? saved : ENOSPC;
	ereport(ERROR,
			errcode_for_file_access(),
			errmsg("could not %s file \"%s\": %m", what, path));
}

/* Every segment of every delivery in the folder. */
typedef struct Found
{
	int64		delivery_id;
	uint64		segment;
} Found;

static List *
find_segments(void)
{
	DIR		   *folder = AllocateDir(DatabasePath);
	struct dirent *entry;
	List	   *list = NIL;

	while ((entry = ReadDir(folder, DatabasePath)) != NULL)
	{
		Found		found;
		long long	id;
		unsigned long long segment;
		int			end = 0;

		if (sscanf(entry->d_name, FILE_PREFIX "%lld.%llu%n", &id, &segment, &end) != 2 ||
			entry->d_name[end] != '\0')
			continue;
		found = (Found) {.delivery_id = id, .segment = segment};
		list = lappend(list, memcpy(palloc(sizeof(Found)), &found, sizeof(Found)));
	}
	FreeDir(folder);
	return list;
}

static bool
find_range(int64 delivery_id, uint64 *first, uint64 *last)
{
	bool		any = false;
	ListCell   *cell;

	foreach(cell, find_segments())
	{
		Found	   *found = lfirst(cell);

		if (found->delivery_id != delivery_id)
			continue;
		*first = any ? Min(*first, found->segment) : found->segment;
		*last = any ? Max(*last, found->segment) : found->segment;
		any = true;
	}
	return any;
}

static void
remove_segment(int64 delivery_id, uint64 segment)
{
	char	   *path = segment_path(delivery_id, segment);

	if (unlink(path) < 0 && errno != ENOENT)
		ereport(LOG,
				errcode_for_file_access(),
				errmsg("could not remove file \"%s\": %m", path));
	pfree(path);
}

void
ordflow_spool_remove(int64 delivery_id)
{
	ListCell   *cell;

	foreach(cell, find_segments())
	{
		Found	   *found = lfirst(cell);

		if (found->delivery_id == delivery_id)
			remove_segment(delivery_id, found->segment);
	}
}

void
ordflow_spool_remove_others(const int64 *delivery_ids, int n)
{
	ListCell   *cell;

	foreach(cell, find_segments())
	{
		Found	   *found = lfirst(cell);
		bool		known = false;

		for (int i = 0; i < n; i++)
			known |= delivery_ids[i] == found->delivery_id;
		if (!known)
			remove_segment(found->delivery_id, found->segment);
	}
}

static pg_crc32c
header_crc(const SegmentHeader *header)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, header, offsetof(SegmentHeader, crc));
	FIN_CRC32C(crc);
	return crc;
}

static pg_crc32c
record_crc(uint8 kind, const char *data, Size length)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &kind, 1);
	COMP_CRC32C(crc, data, length);
	FIN_CRC32C(crc);
	return crc;
}

/* Whole or nothing: the rest of a short read is as good as none. */
static bool
read_exactly(int file, void *data, Size length, off_t at)
{
	Size		done = 0;

	while (done < length)
	{
		ssize_t		n = pg_pread(file, (char *) data + done, length - done, at + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

/* Is it a segment of this very database and delivery? */
static bool
read_header(int file, int64 delivery_id, uint64 segment, SegmentHeader *header)
{
	return read_exactly(file, header, sizeof(*header), 0) &&
		header->magic == SPOOL_MAGIC && header->version == SPOOL_VERSION &&
		header->crc == header_crc(header) && header->system == GetSystemIdentifier() &&
		header->database == MyDatabaseId && header->delivery_id == delivery_id &&
		header->segment == segment;
}

/* ---- the reader ---- */

static int
open_segment(int64 delivery_id, uint64 segment, SegmentHeader *header)
{
	char	   *path = segment_path(delivery_id, segment);
	int			file = BasicOpenFile(path, O_RDONLY | PG_BINARY);

	pfree(path);
	if (file >= 0 && !read_header(file, delivery_id, segment, header))
	{
		close(file);
		file = -1;
		errno = EINVAL;
	}
	return file;
}

bool
ordflow_spool_read_open(SpoolReader *reader, int64 delivery_id)
{
	SegmentHeader header;
	uint64		last;

	*reader = (SpoolReader) {.delivery_id = delivery_id, .file = -1};
	if (!find_range(delivery_id, &reader->first, &last))
		return false;
	reader->segment = reader->first;
	reader->file = open_segment(delivery_id, reader->segment, &header);
	if (reader->file < 0)
		return false;
	reader->base = header.base;
	reader->generation = header.generation;
	reader->offset = sizeof(SegmentHeader);
	reader->size = READ_BYTES;
	reader->buffer = MemoryContextAlloc(TopMemoryContext, reader->size);
	return true;
}

void
ordflow_spool_read_close(SpoolReader *reader)
{
	if (reader->file >= 0)
		close(reader->file);
	if (reader->buffer != NULL)
		pfree(reader->buffer);
	reader->file = -1;
	reader->buffer = NULL;
}

/* Makes the next bytes of the segment lie in the buffer; how many of them there are. */
static Size
look_ahead(SpoolReader *reader, Size wanted, uint64 limit)
{
	Size		have = reader->filled - reader->used;
	ssize_t		n;

	if (have >= wanted)
		return have;
	memmove(reader->buffer, reader->buffer + reader->used, have);
	reader->used = 0;
	reader->filled = have;
	while (reader->filled < wanted)
	{
		uint64		at = reader->offset + reader->filled;
		Size		room = reader->size - reader->filled;

		if (at >= limit)
			break;
		n = pg_pread(reader->file, reader->buffer + reader->filled, Min(room, limit - at), at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		reader->filled += n;
	}
	return reader->filled;
}

static bool
next_segment(SpoolReader *reader)
{
	SegmentHeader header;
	int			file = open_segment(reader->delivery_id, reader->segment + 1, &header);

	if (file < 0)
		return false;
	close(reader->file);
	reader->file = file;
	reader->segment++;
	reader->offset = sizeof(SegmentHeader);
	reader->used = reader->filled = 0;
	return true;
}

/* One record of this segment before the limit; false: there is none that is whole. */
static bool
read_record(SpoolReader *reader, uint64 limit, SpoolKind *kind, char **data, Size *length)
{
	RecordHeader header;
	Size		have;
	char	   *copy;

	if (look_ahead(reader, RECORD_HEADER_BYTES, limit) < RECORD_HEADER_BYTES)
		return false;
	memcpy(&header, reader->buffer + reader->used, RECORD_HEADER_BYTES);
	if (header.length > limit - reader->offset - RECORD_HEADER_BYTES ||
		!AllocHugeSizeIsValid(header.length))
		return false;
	copy = MemoryContextAllocHuge(CurrentMemoryContext, header.length + 1);
	have = look_ahead(reader, Min(RECORD_HEADER_BYTES + header.length, reader->size), limit);
	have = Min(have - RECORD_HEADER_BYTES, header.length);
	memcpy(copy, reader->buffer + reader->used + RECORD_HEADER_BYTES, have);
	if (have < header.length)
	{
		if (!read_exactly(reader->file, copy + have, header.length - have,
						  reader->offset + RECORD_HEADER_BYTES + have))
		{
			pfree(copy);
			return false;
		}
		reader->used = reader->filled = 0;
	}
	else
		reader->used += RECORD_HEADER_BYTES + header.length;
	reader->offset += RECORD_HEADER_BYTES + header.length;
	copy[header.length] = '\0';
	if (header.crc != record_crc(header.kind, copy, header.length))
	{
		pfree(copy);
		return false;
	}
	*kind = header.kind;
	*data = copy;
	*length = header.length;
	return true;
}

/* How far a segment can be read. */
static uint64
segment_limit(SpoolReader *reader, SpoolEnd end)
{
	struct stat st;

	if (reader->segment == end.segment)
		return end.offset;
	if (fstat(reader->file, &st) < 0)
		return 0;
	return st.st_size;
}

bool
ordflow_spool_read(SpoolReader *reader, SpoolEnd end, SpoolKind *kind, char **data, Size *length)
{
	for (;;)
	{
		uint64		limit;

		if (reader->segment > end.segment)
			return false;
		limit = segment_limit(reader, end);
		if (reader->offset < limit && read_record(reader, limit, kind, data, length))
			return true;
		if (reader->offset < limit)
			ereport(ERROR,
					errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("the spool of delivery " INT64_FORMAT " is damaged in segment "
						   UINT64_FORMAT " at byte " UINT64_FORMAT, reader->delivery_id,
						   reader->segment, reader->offset));
		if (reader->segment == end.segment)
			return false;
		if (!next_segment(reader))
			file_failed("open", reader->delivery_id, reader->segment + 1);
	}
}

void
ordflow_spool_release(SpoolReader *reader, uint64 before)
{
	for (; reader->first < before; reader->first++)
		remove_segment(reader->delivery_id, reader->first);
}

/* ---- the writer ---- */

static void
write_out(SpoolWriter *spool)
{
	int			done = 0;

	while (done < spool->buffer.len)
	{
		ssize_t		n;

		errno = 0;
		n = pg_pwrite(spool->file, spool->buffer.data + done, spool->buffer.len - done,
					  spool->written + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			file_failed("write to", spool->delivery_id, spool->segment);
		done += n;
	}
	spool->written += done;
	resetStringInfo(&spool->buffer);
}

static void
flush_segment(SpoolWriter *spool)
{
	if (pg_fsync(spool->file) != 0)
		file_failed("fsync", spool->delivery_id, spool->segment);
}

static void
begin_segment(SpoolWriter *spool, uint64 segment)
{
	SegmentHeader header = {
		.magic = SPOOL_MAGIC,
		.version = SPOOL_VERSION,
		.system = GetSystemIdentifier(),
		.database = MyDatabaseId,
		.generation = spool->generation,
		.delivery_id = spool->delivery_id,
		.segment = segment,
		.base = spool->last
	};
	char	   *path = segment_path(spool->delivery_id, segment);

	header.crc = header_crc(&header);
	spool->segment = segment;
	spool->file = BasicOpenFile(path, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
	if (spool->file < 0)
		file_failed("create", spool->delivery_id, segment);
	pfree(path);
	spool->written = 0;
	appendBinaryStringInfo(&spool->buffer, (char *) &header, sizeof(header));
	write_out(spool);
	spool->committed = spool->written;
	flush_segment(spool);
	fsync_fname(DatabasePath, true);
}

typedef enum SegmentState
{
	SEGMENT_OURS,
	SEGMENT_TORN,				/* its header was not written whole */
	SEGMENT_FOREIGN				/* of another database, or generation */
} SegmentState;

static SegmentState
segment_state(int64 delivery_id, uint64 segment, uint32 generation)
{
	SegmentHeader header;
	char	   *path = segment_path(delivery_id, segment);
	int			file = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	bool		whole;

	if (file < 0)
		file_failed("open", delivery_id, segment);
	pfree(path);
	whole = read_exactly(file, &header, sizeof(header), 0) && header.magic == SPOOL_MAGIC &&
		header.crc == header_crc(&header);
	close(file);
	if (!whole)
		return SEGMENT_TORN;
	return header.version == SPOOL_VERSION && header.system == GetSystemIdentifier() &&
		header.database == MyDatabaseId && header.delivery_id == delivery_id &&
		header.segment == segment && header.generation == generation ?
		SEGMENT_OURS : SEGMENT_FOREIGN;
}

/* Is there one to go on behind, and which?  What cannot be used is removed. */
static bool
find_last(int64 delivery_id, uint32 generation, uint64 *segment)
{
	uint64		first;

	while (find_range(delivery_id, &first, segment))
	{
		SegmentState found = segment_state(delivery_id, *segment, generation);

		if (found == SEGMENT_OURS)
			return true;
		if (found == SEGMENT_FOREIGN)
			ordflow_spool_remove(delivery_id);
		else
			remove_segment(delivery_id, *segment);
	}
	return false;
}

/* The last commit in what is there; behind it the segment is cut off. */
static XLogRecPtr
mend_segment(int64 delivery_id, uint64 segment)
{
	SegmentHeader header;
	SpoolReader reader = {.delivery_id = delivery_id, .segment = segment};
	uint64		whole = sizeof(SegmentHeader);
	XLogRecPtr	last;
	struct stat st;
	SpoolKind	kind;
	char	   *data;
	Size		length;
	char	   *path = segment_path(delivery_id, segment);

	reader.file = open_segment(delivery_id, segment, &header);
	if (reader.file < 0 || fstat(reader.file, &st) < 0)
		file_failed("open", delivery_id, segment);
	last = header.base;
	reader.offset = sizeof(SegmentHeader);
	reader.size = READ_BYTES;
	reader.buffer = palloc(reader.size);
	while (read_record(&reader, st.st_size, &kind, &data, &length))
	{
		if (kind == SPOOL_COMMIT && length == sizeof(XLogRecPtr))
		{
			memcpy(&last, data, sizeof(XLogRecPtr));
			whole = reader.offset;
		}
		pfree(data);
	}
	close(reader.file);
	if (whole < st.st_size && pg_truncate(path, whole) < 0)
		file_failed("truncate", delivery_id, segment);
	fsync_fname(path, false);
	return last;
}

SpoolWriter *
ordflow_spool_open(int64 delivery_id, uint32 generation, XLogRecPtr base, XLogRecPtr *last)
{
	SpoolWriter *spool = MemoryContextAllocZero(TopMemoryContext, sizeof(SpoolWriter));
	MemoryContext before;
	uint64		segment = 0;
	bool		there = find_last(delivery_id, generation, &segment);

	*last = there ? mend_segment(delivery_id, segment) : InvalidXLogRecPtr;
	spool->delivery_id = delivery_id;
	spool->generation = generation;
	spool->last = there ? Max(*last, base) : base;
	before = MemoryContextSwitchTo(TopMemoryContext);
	initStringInfo(&spool->buffer);
	MemoryContextSwitchTo(before);
	begin_segment(spool, there ? segment + 1 : 1);
	return spool;
}

void
ordflow_spool_put(SpoolWriter *spool, SpoolKind kind, const char *data, Size length)
{
	RecordHeader header = {.length = length, .kind = kind};

	header.crc = record_crc(header.kind, data, length);
	if (spool->buffer.len + RECORD_HEADER_BYTES + length > WRITE_BYTES)
		write_out(spool);
	appendBinaryStringInfo(&spool->buffer, (char *) &header, RECORD_HEADER_BYTES);
	appendBinaryStringInfo(&spool->buffer, data, length);
}

SpoolEnd
ordflow_spool_commit(SpoolWriter *spool, XLogRecPtr commit_lsn)
{
	SpoolEnd	end;

	ordflow_spool_put(spool, SPOOL_COMMIT, (char *) &commit_lsn, sizeof(commit_lsn));
	write_out(spool);
	spool->last = commit_lsn;
	spool->committed = spool->written;
	end = (SpoolEnd) {.segment = spool->segment, .offset = spool->committed};
	if (spool->written >= SEGMENT_BYTES)
	{
		flush_segment(spool);
		close(spool->file);
		begin_segment(spool, spool->segment + 1);
		end = (SpoolEnd) {.segment = spool->segment, .offset = spool->committed};
	}
	return end;
}

void
ordflow_spool_rollback(SpoolWriter *spool)
{
	resetStringInfo(&spool->buffer);
	if (spool->written > spool->committed && ftruncate(spool->file, spool->committed) < 0)
		file_failed("truncate", spool->delivery_id, spool->segment);
	spool->written = spool->committed;
}

void
ordflow_spool_sync(SpoolWriter *spool)
{
	flush_segment(spool);
}

uint64
ordflow_spool_segment(SpoolWriter *spool)
{
	return spool->segment;
}

SpoolEnd
ordflow_spool_end(SpoolWriter *spool)
{
	return (SpoolEnd) {.segment = spool->segment, .offset = spool->committed};
}

/* Of all its segments that are still there. */
int64
ordflow_spool_bytes(SpoolWriter *spool)
{
	int64		bytes = spool->written;
	uint64		first = 0;
	uint64		last = 0;

	if (!find_range(spool->delivery_id, &first, &last))
		return bytes;
	for (uint64 segment = first; segment < spool->segment; segment++)
	{
		struct stat st;
		char	   *path = segment_path(spool->delivery_id, segment);

		if (stat(path, &st) == 0)
			bytes += st.st_size;
		pfree(path);
	}
	return bytes;
}

void
ordflow_spool_close(SpoolWriter *spool)
{
	close(spool->file);
	pfree(spool->buffer.data);
	pfree(spool);
}
