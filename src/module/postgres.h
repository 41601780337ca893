/*
 * postgres.h
 *	  What the files of the module of PostgreSQL share.
 */
#ifndef ORDFLOW_POSTGRES_H
#define ORDFLOW_POSTGRES_H

#include "sync/sink.h"

#include <libpq-fe.h>

/* What PostgreSQL's own header has, which needs those of the server. */
#define SQLSTATE_UNIQUE_VIOLATION "23505"
#define SQLSTATE_DIVISION_BY_ZERO "22012"

#define BATCH_TIMEOUTS 4		/* so many times the timeout a batch may take */
#define STATEMENTS_MAX 64		/* prepared; then all are made anew */

/* A text that grows; out of memory it is failed, and stays so until it is emptied. */
typedef struct Text
{
	char	   *data;
	size_t		length;
	size_t		size;
	bool		failed;
} Text;

/* A column of a target, its texts in the table's result. */
typedef struct TableColumn
{
	const char *name;
	const char *quoted;
	const char *type;			/* without its modifier: a cast would cut what does not fit */
	const char *equals;			/* of a key: the operator of its index, as OPERATOR(...) */
	bool		is_generated;
	bool		is_fixed;		/* GENERATED ALWAYS AS IDENTITY: cannot be updated */
	bool		by_type;		/* it is compared as what it is, else as text */
	bool		is_ordered;		/* by operators of pg_catalog, else as text */
} TableColumn;

/* A target, as it is in the catalog of the other server. */
typedef struct Table
{
	struct Table *next;
	char	   *target;
	char	   *wanted;			/* the key's names that it was looked up with, as an array */
	const char *name;			/* quoted, qualified */
	int			ncolumns;
	TableColumn *columns;
	int			nkeys;
	int		   *keys;			/* among columns; in the order of the route's */
	bool		has_rows;		/* a COPY has met them */
	PGresult   *result;
} Table;

/* Items that go in one statement: of one target, with the same columns, each of another key. */
typedef struct Run
{
	const SinkItem *items;
	int			n;
	Table	   *table;
	int			ncolumns;
	int		   *columns;		/* among the table's */
	int		   *fields;			/* and in the items */
} Run;

typedef struct Runs
{
	int			n;
	int			max;
	Run		   *runs;
	bool		singly;			/* each item by itself */
	uint64	   *seen;			/* hashes of keys in the last run, a table of nseen places */
	int			nseen;
} Runs;

typedef enum StepKind
{
	STEP_CONTROL,
	STEP_PREPARE,
	STEP_POSITION,
	STEP_ITEMS,
	STEP_COMMIT
} StepKind;

/* A statement that was sent, and whose answer is to come. */
typedef struct Step
{
	StepKind	kind;
	int			statement;		/* of STEP_PREPARE: which */
	const Run  *run;			/* of STEP_ITEMS */
} Step;

typedef struct Postgres
{
	const ModuleConfig *config;
	const char *name_space;
	PGconn	   *connection;
	char	   *positions;		/* the table of positions, quoted */
	bool		is_open;		/* a transaction of the source is there in part, not committed */
	char		sqlstate[6];	/* of the last error; empty: it has none */
	int64		until;			/* a batch takes no longer */
	Table	   *tables;
	char	   *prepared[STATEMENTS_MAX];	/* their SQL; NULL: not there */
	unsigned	numbers[STATEMENTS_MAX];	/* in their names, which are never used again */
	unsigned	last_number;
	int			nprepared;
	Step	   *steps;
	int			nsteps;
	int			steps_max;
	Text		sql;
	Text		values;
	size_t	   *offsets;		/* of the parameters in values */
	const char **parameters;
	Oid		   *types;			/* of each text[] */
	int			parameters_max;
} Postgres;

/* ---- postgres.c ---- */

extern int64 pgsink_clock_ms(void);
extern int	pgsink_timeout_ms(const Postgres *postgres);

/* Ends the connection: false, for the caller to return. */
extern bool pgsink_lose(Postgres *postgres);
extern bool pgsink_fail_memory(Postgres *postgres, ModuleError *error);

/*
 * The next result of what was sent, which may be NULL; false: the connection is lost.  Sends what
 * there is to send.
 */
extern bool pgsink_next_result(Postgres *postgres, PGresult **result, ModuleError *error);

/* Waits until more can be sent.  False as above. */
extern bool pgsink_wait_to_send(Postgres *postgres, ModuleError *error);

/* The result of one statement, or of several without parameters; NULL with the error. */
extern PGresult *pgsink_query(Postgres *postgres, ModuleError *error, const char *sql,
							  int nparameters, const char *const *parameters);

/* The same for what gives nothing. */
extern bool pgsink_do(Postgres *postgres, ModuleError *error, const char *sql);

/* ---- postgres_error.c ---- */

/* What is to be done about an error; of an empty SQLSTATE SINK_RETRY. */
extern SinkOutcome pgsink_outcome(const char *sqlstate);

/* Fills the error, and postgres->sqlstate; false. */
extern bool pgsink_fail_result(Postgres *postgres, const PGresult *result, ModuleError *error);
extern bool pgsink_fail_connect(Postgres *postgres, ModuleError *error);

/* ---- postgres_text.c ---- */
extern void pgsink_text_empty(Text *text);
extern void pgsink_text_add(Text *text, const char *data, size_t length);
extern void pgsink_text_printf(Text *text, const char *format,...) pg_attribute_printf(2, 3);

/* An element of an array of texts, and one of a row of COPY; value NULL: null. */
extern void pgsink_text_element(Text *text, const char *value, size_t length);
extern void pgsink_text_copied(Text *text, const char *value, size_t length);

/* ---- postgres_table.c ---- */

/* NULL with the error.  keys: the names of the key, or none: the primary key. */
extern Table *pgsink_table(Postgres *postgres, const char *target, int nkeys,
						   const char *const *keys, ModuleError *error);
extern Table *pgsink_table_of(Postgres *postgres, const SinkItem *item, ModuleError *error);
extern void pgsink_forget_tables(Postgres *postgres);

/* ---- postgres_run.c ---- */

/* False with the error.  Items end after the runs. */
extern bool pgsink_make_runs(Postgres *postgres, const SinkItem *items, int n, bool singly,
							 Runs *runs, ModuleError *error);
extern void pgsink_free_runs(Runs *runs);

/* The value of a column of a run. */
extern SinkField pgsink_value(const Run *run, int item, int column);

/* The place of a key among the columns of a run. */
extern int	pgsink_key_column(const Run *run, int key);

/* Fills postgres->parameters with an array for each column; false: out of memory. */
extern bool pgsink_set_parameters(Postgres *postgres, const Run *run);

/* Appends unnest($1, ...); "t.key = u.c1 AND ...". */
extern void pgsink_put_unnest(Text *sql, const Run *run);
extern void pgsink_put_key_equals(Text *sql, const Run *run);
extern void pgsink_put_cast(Text *sql, const Run *run, int column);

/* Makes the statement of a run in postgres->sql. */
extern void pgsink_put_statement(Postgres *postgres, const Run *run);

/* ---- postgres_apply.c ---- */
extern SinkOutcome pgsink_apply(void *state, const SinkBatch *batch, SinkResult *result);

/* What goes at one go.  Of the last true: *failed is the step that was refused, or NULL. */
extern bool pgsink_begin_steps(Postgres *postgres, ModuleError *error);
extern bool pgsink_end_steps(Postgres *postgres, const Step **failed, ModuleError *error);

/* The beginning of a batch, which moves the position, and its end. */
extern bool pgsink_add_begin(Postgres *postgres, const SinkBatch *batch);
extern bool pgsink_add_end(Postgres *postgres, const SinkBatch *batch);

/* As it was before the batch; at: where it was refused. */
extern void pgsink_roll_back(Postgres *postgres, StepKind at);

/* ---- postgres_copy.c ---- */

/* The batch is one run.  SINK_REJECT: nothing is done, and it is to be tried otherwise. */
extern SinkOutcome pgsink_copy(Postgres *postgres, const SinkBatch *batch, const Run *run,
							   SinkResult *result);

/* ---- postgres_compare.c ---- */
extern bool pgsink_compare(void *state, const SinkItem *items, int n, SinkFound *found,
						   ModuleError *error);
extern bool pgsink_scan(void *state, SinkRoute *route, const char *pattern, char *cursor,
						SinkMeet meet, void *context, ModuleError *error);

#endif							/* ORDFLOW_POSTGRES_H */
