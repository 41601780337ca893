/*
 * row.c
 *	  Tuples of the WAL as texts.
 *
 * What writing a table's values needs is looked up once and kept until the table, a type or a
 * schema changes: look-ups for each value are what makes other plugins slow.  Types that most
 * tables are made of are written here; the rest goes through its output function.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "base/base.h"
#include "sync/format.h"
#include "sync/row.h"

/* the longest of what is written without its output function: a timestamptz */
#define SMALL_TEXT_MAX 48

/* What we write lies between 0001-01-01 and 10000-01-01: no BC, no infinity. */
#define FIRST_PLAIN_DATE (-730119)
#define PAST_PLAIN_DATE 2921940

typedef enum Writer
{
	WRITE_CALL,					/* by the type's output function */
	WRITE_TEXT,					/* a varlena that is its own text */
	WRITE_BOOL,
	WRITE_INT2,
	WRITE_INT4,
	WRITE_INT8,
	WRITE_OID,
	WRITE_DATE,
	WRITE_TIMESTAMP,
	WRITE_TIMESTAMPTZ,
	WRITE_UUID
} Writer;

struct RowColumn
{
	int			attribute;		/* from 0, among all of the table */
	Writer		writer;
	bool		is_varlena;
	bool		in_identity;
	FmgrInfo	output;
};

static HTAB *relations = NULL;

/* ---- what is kept ---- */

static void
forget_relation(Oid relid)
{
	RowRelation *row;
	HASH_SEQ_STATUS scan;

	if (relations == NULL)
		return;
	if (OidIsValid(relid))
	{
		row = hash_search(relations, &relid, HASH_FIND, NULL);
		if (row)
			row->valid = false;
		return;
	}
	hash_seq_init(&scan, relations);
	while ((row = hash_seq_search(&scan)) != NULL)
		row->valid = false;
}

/* A type or a schema does not tell which tables it is of. */
static void
forget_all(Datum arg, int cacheid, uint32 hashvalue)
{
	forget_relation(InvalidOid);
}

static void
make_cache(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(RowRelation)};
	static bool watching = false;

	if (!watching)
	{
		ordflow_on_relation_change(forget_relation);
		CacheRegisterSyscacheCallback(TYPEOID, forget_all, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_all, (Datum) 0);
		watching = true;
	}
	control.hcxt = TopMemoryContext;
	relations = hash_create("ordflow relations of changes", 128, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Writer
writer_of(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return WRITE_BOOL;
		case INT2OID:
			return WRITE_INT2;
		case INT4OID:
			return WRITE_INT4;
		case INT8OID:
			return WRITE_INT8;
		case OIDOID:
			return WRITE_OID;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case JSONOID:
			return WRITE_TEXT;
		case DATEOID:
			return WRITE_DATE;
		case TIMESTAMPOID:
			return WRITE_TIMESTAMP;
		case TIMESTAMPTZOID:
			return WRITE_TIMESTAMPTZ;
		case UUIDOID:
			return WRITE_UUID;
		default:
			return WRITE_CALL;
	}
}

static void
describe_column(RowRelation *row, int i, Form_pg_attribute attribute)
{
	ChangeColumn *column = &row->relation.columns[i];
	struct RowColumn *writing = &row->columns[i];
	Oid			output;

	column->name = pstrdup(NameStr(attribute->attname));
	column->typmod = attribute->atttypmod;
	column->type = getBaseTypeAndTypmod(attribute->atttypid, &column->typmod);
	column->element = get_element_type(column->type);
	column->is_generated = attribute->attgenerated != '\0';

	writing->attribute = attribute->attnum - 1;
	writing->writer = writer_of(column->type);
	writing->is_varlena = attribute->attlen == -1;
	getTypeOutputInfo(column->type, &output, &writing->is_varlena);
	fmgr_info(output, &writing->output);
}

/* Where the column lies among ours; -1: it is none of them. */
static int
column_of(const RowRelation *row, AttrNumber number)
{
	for (int i = 0; i < row->relation.ncolumns; i++)
		if (row->columns[i].attribute == number - 1)
			return i;
	return -1;
}

/* As RelationGetIdentityKeyBitmap() does it: no lock is taken on an index of the past. */
static void
describe_key(RowRelation *row, Oid indexid, bool is_key, bool in_identity)
{
	Relation	index;
	int		   *keys;
	int			nkeys = 0;

	if (!OidIsValid(indexid))
		return;
	index = RelationIdGetRelation(indexid);
	if (!RelationIsValid(index))
		elog(ERROR, "could not open index %u of relation %u", indexid, row->relid);
	keys = palloc(index->rd_index->indnkeyatts * sizeof(int));
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		int			column = column_of(row, index->rd_index->indkey.values[i]);

		if (column < 0)
			continue;
		row->relation.columns[column].is_key |= is_key;
		row->columns[column].in_identity |= in_identity;
		keys[nkeys++] = column;
	}
	RelationClose(index);
	if (is_key)
	{
		row->relation.keys = keys;
		row->relation.nkeys = nkeys;
	}
}

static void
describe_relation(RowRelation *row, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		has_primary;
	int			n = 0;

	row->relation.relid = RelationGetRelid(rel);
	row->relation.schema = get_namespace_name(RelationGetNamespace(rel));
	row->relation.name = pstrdup(RelationGetRelationName(rel));
	row->relation.columns = palloc0(desc->natts * sizeof(ChangeColumn));
	row->columns = palloc0(desc->natts * sizeof(struct RowColumn));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || ordflow_is_virtual(attribute))
			continue;
		describe_column(row, n++, attribute);
	}
	row->relation.ncolumns = n;
	row->datums = palloc(desc->natts * sizeof(Datum));
	row->nulls = palloc(desc->natts * sizeof(bool));

	ordflow_format_relation(&row->relation);

	list_free(RelationGetIndexList(rel));	/* finds these two */
	has_primary = OidIsValid(rel->rd_pkindex);
	describe_key(row, rel->rd_pkindex, true, false);
	describe_key(row, rel->rd_replidindex, !has_primary, true);
}

RowRelation *
ordflow_row_relation(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	MemoryContext old;
	RowRelation *row;
	bool		found;

	if (relations == NULL)
		make_cache();
	row = hash_search(relations, &relid, HASH_ENTER, &found);
	if (found && row->valid)
		return row;

	if (found && row->context)
		MemoryContextDelete(row->context);
	memset(row, 0, sizeof(RowRelation));
	row->relid = relid;
	row->context = AllocSetContextCreate(TopMemoryContext, "ordflow relation of changes",
										 ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(row->context);
	/* what is told while the catalogs are read makes it invalid again */
	row->valid = true;
	PG_TRY();
	{
		describe_relation(row, rel);
	}
	PG_CATCH();
	{
		row->valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return row;
}

/* ---- values ---- */

static char *
put_digits(char *p, int value, int digits)
{
	for (int i = digits - 1; i >= 0; i--, value /= 10)
		p[i] = '0' + value % 10;
	return p + digits;
}

static char *
put_date(char *p, int julian)
{
	int			year;
	int			month;
	int			day;

	j2date(julian, &year, &month, &day);
	p = put_digits(p, year, 4);
	*p++ = '-';
	p = put_digits(p, month, 2);
	*p++ = '-';
	return put_digits(p, day, 2);
}

/* As timestamp_out() writes it in UTC, from year 1 to 9999; the length. */
static int
put_timestamp(char *text, Timestamp timestamp)
{
	int64		days = timestamp / USECS_PER_DAY;
	int64		time = timestamp % USECS_PER_DAY;
	int			seconds;
	int			fraction;
	char	   *p;

	if (time < 0)
	{
		time += USECS_PER_DAY;
		days--;
	}
	seconds = time / USECS_PER_SEC;
	fraction = time % USECS_PER_SEC;
	p = put_date(text, (int) days + POSTGRES_EPOCH_JDATE);
	*p++ = ' ';
	p = put_digits(p, seconds / SECS_PER_HOUR, 2);
	*p++ = ':';
	p = put_digits(p, seconds / SECS_PER_MINUTE % 60, 2);
	*p++ = ':';
	p = put_digits(p, seconds % SECS_PER_MINUTE, 2);
	if (fraction != 0)
	{
		*p++ = '.';
		p = put_digits(p, fraction, 6);
		while (p[-1] == '0')
			p--;
	}
	return p - text;
}

static int
put_uuid(char *text, const pg_uuid_t *uuid)
{
	static const char hex[] = "0123456789abcdef";
	char	   *p = text;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[uuid->data[i] >> 4];
		*p++ = hex[uuid->data[i] & 15];
	}
	return p - text;
}

/* The length; 0: only the output function knows. */
static int
put_small(char *text, Writer writer, Datum datum)
{
	Timestamp	timestamp;
	DateADT		date;
	int			length;

	switch (writer)
	{
		case WRITE_BOOL:
			text[0] = DatumGetBool(datum) ? 't' : 'f';
			return 1;
		case WRITE_INT2:
			return pg_itoa(DatumGetInt16(datum), text);
		case WRITE_INT4:
			return pg_ltoa(DatumGetInt32(datum), text);
		case WRITE_INT8:
			return pg_lltoa(DatumGetInt64(datum), text);
		case WRITE_OID:
			return pg_ultoa_n(DatumGetObjectId(datum), text);
		case WRITE_UUID:
			return put_uuid(text, DatumGetUUIDP(datum));
		case WRITE_DATE:
			date = DatumGetDateADT(datum);
			if (date < FIRST_PLAIN_DATE || date >= PAST_PLAIN_DATE)
				return 0;
			return put_date(text, date + POSTGRES_EPOCH_JDATE) - text;
		case WRITE_TIMESTAMP:
		case WRITE_TIMESTAMPTZ:
			timestamp = DatumGetTimestamp(datum);
			if (timestamp < FIRST_PLAIN_DATE * USECS_PER_DAY ||
				timestamp >= PAST_PLAIN_DATE * USECS_PER_DAY)
				return 0;
			length = put_timestamp(text, timestamp);
			if (writer == WRITE_TIMESTAMP)
				return length;
			memcpy(text + length, "+00", 3);
			return length + 3;
		default:
			return 0;
	}
}

static void
set_text(ChangeValue *value, const char *text, int length)
{
	value->state = VALUE_TEXT;
	value->text = text;
	value->length = length;
}

static void
set_varlena_text(ChangeValue *value, Datum datum)
{
	text	   *packed = (text *) PG_DETOAST_DATUM_PACKED(datum);
	int			length = VARSIZE_ANY_EXHDR(packed);
	char	   *copy = palloc(length + 1);

	memcpy(copy, VARDATA_ANY(packed), length);
	copy[length] = '\0';
	set_text(value, copy, length);
}

/* small: room for SMALL_TEXT_MAX bytes.  True: it was used. */
static bool
write_value(struct RowColumn *column, Datum datum, char *small, ChangeValue *value)
{
	char	   *text;
	int			length;

	if (column->is_varlena && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(datum)))
	{
		value->state = VALUE_UNCHANGED;
		return false;
	}
	if (column->writer == WRITE_TEXT)
	{
		set_varlena_text(value, datum);
		return false;
	}
	length = put_small(small, column->writer, datum);
	if (length > 0)
	{
		small[length] = '\0';
		set_text(value, small, length);
		return true;
	}
	if (column->is_varlena)
		datum = PointerGetDatum(PG_DETOAST_DATUM(datum));
	text = OutputFunctionCall(&column->output, datum);
	set_text(value, text, strlen(text));
	return false;
}

void
ordflow_row_values(RowRelation *relation, Relation rel, HeapTuple tuple, bool keys_only,
				   ChangeValue *values)
{
	int			ncolumns = relation->relation.ncolumns;
	char	   *small = palloc(ncolumns * SMALL_TEXT_MAX + 1);

	heap_deform_tuple(tuple, RelationGetDescr(rel), relation->datums, relation->nulls);
	for (int i = 0; i < ncolumns; i++)
	{
		struct RowColumn *column = &relation->columns[i];
		ChangeValue *value = &values[i];

		value->text = NULL;
		value->length = 0;
		if (keys_only && !column->in_identity)
			value->state = VALUE_ABSENT;
		else if (relation->nulls[column->attribute])
			value->state = VALUE_NULL;
		else if (write_value(column, relation->datums[column->attribute], small, value))
			small += SMALL_TEXT_MAX;
	}
}

/* ---- settings ---- */

int
ordflow_change_settings(void)
{
	static const char *const settings[][2] = {
		{"datestyle", "ISO"},
		{"intervalstyle", "iso_8601"},
		{"timezone", "UTC"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"lc_monetary", "C"}
	};
	/* without a transaction there is no end of one at which they could be set back */
	bool		until = IsTransactionState();
	int			nest_level = until ? NewGUCNestLevel() : 0;

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 until ? GUC_ACTION_SAVE : GUC_ACTION_SET, true, 0, false);
	return nest_level;
}
