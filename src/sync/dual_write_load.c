/*
 * dual_write_load.c
 *	  What the trigger of a dual_write sync tells: its columns parsed, its statements planned.
 *
 * Expressions are parsed against the relation whose rows the trigger sees, so that the columns of a
 * partition may lie elsewhere than the root's.  They see no other relation, and functions outside
 * pg_catalog only by their schema's name: whoever may create a function must not get it run as
 * the sync's owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_operator.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_func.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "sync/dual_write_internal.h"

#define SEARCH_PATH "pg_catalog, pg_temp"
#define PLAN_OPTIONS (CURSOR_OPT_GENERIC_PLAN | ORDFLOW_PLAN_LARGE)

RoleSwitch
ordflow_dual_write_enter(const char *role)
{
	RoleSwitch	saved = ordflow_role_enter(get_role_oid(role, false), true);

	if (strcmp(namespace_search_path, SEARCH_PATH) != 0)
		set_config_option("search_path", SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, 0, false);
	return saved;
}

RoleSwitch
ordflow_dual_write_enter_source(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;
	int			sec_context;
	RoleSwitch	saved;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	saved = ordflow_role_enter(owner, true);
	GetUserIdAndSecContext(&owner, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_NOFORCE_RLS);
	return saved;
}

Oid
ordflow_dual_write_function(const char *name)
{
	return LookupFuncName(list_make2(makeString("ordflow"), makeString(pstrdup(name))), 0, NULL,
						  false);
}

/* ---- expressions ---- */

typedef struct Source
{
	ParseState *pstate;
	Relation	rel;
} Source;

typedef struct Excerpt
{
	const char *sql;
	const char *column;			/* NULL: it is the filter */
} Excerpt;

/* Where the parser points is in the expression, not in what the client sent. */
static void
expression_error_context(void *arg)
{
	const Excerpt *excerpt = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(excerpt->sql);
	}
	if (excerpt->column != NULL)
		errcontext("expression of column \"%s\"", excerpt->column);
	else
		errcontext("filter");
}

static Source
open_source(Relation rel, Oid root)
{
	Source		source = {make_parsestate(NULL), rel};
	Alias	   *alias = makeAlias(get_rel_name(root), NIL);
	ParseNamespaceItem *item = addRangeTableEntryForRelation(source.pstate, rel, AccessShareLock,
															 alias, false, true);

	addNSItemToQuery(source.pstate, item, false, true, true);
	return source;
}

/* "*" and "orders.*" are several columns. */
static bool
is_star(Node *node)
{
	return IsA(node, ColumnRef) && IsA(llast(((ColumnRef *) node)->fields), A_Star);
}

static Node *
parse_raw(const char *sql)
{
	List	   *list = raw_parser(sql, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, list)->stmt;
	ResTarget  *value;

	Assert(IsA(select, SelectStmt));
	if (list_length(select->targetList) != 1 || select->distinctClause != NIL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL ||
		select->havingClause != NULL || select->windowClause != NIL ||
		select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->op != SETOP_NONE)
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("\"%s\" is not an expression", sql));
	value = linitial_node(ResTarget, select->targetList);
	if (value->name != NULL || IsA(value->val, SetToDefault) || is_star(value->val))
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("\"%s\" is not an expression", sql));
	return value->val;
}

static bool
has_system_column(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varattno < 0;
	return expression_tree_walker(node, has_system_column, arg);
}

static Node *
parse_expression(const Source *source, const char *sql)
{
	ParseState *pstate = source->pstate;
	Node	   *expr = transformExpr(pstate, parse_raw(sql), EXPR_KIND_SELECT_TARGET);

	if (pstate->p_hasAggs || pstate->p_hasWindowFuncs || pstate->p_hasTargetSRFs ||
		pstate->p_hasSubLinks || has_system_column(expr, NULL))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("\"%s\" is more than a row can tell", sql),
				errdetail("Subqueries, aggregates, window functions, functions that return sets and system columns are not allowed here."));
	return expr;
}

static Expr *
finish_expression(const Source *source, Node *expr)
{
	assign_expr_collations(source->pstate, expr);
	return (Expr *) ordflow_expand_generated(expr, source->rel);
}

static Expr *
parse_filter(const Source *source, const char *sql)
{
	Excerpt		excerpt = {sql, NULL};
	ErrorContextCallback context = {error_context_stack, expression_error_context, &excerpt};
	Node	   *expr;

	error_context_stack = &context;
	expr = coerce_to_boolean(source->pstate, parse_expression(source, sql), "WHERE");
	expr = (Node *) finish_expression(source, expr);
	error_context_stack = context.previous;
	return (Expr *) expr;
}

static bool
is_virtual(Relation rel, AttrNumber attnum)
{
	char		generated = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated;

	return generated != '\0' && generated != ATTRIBUTE_GENERATED_STORED;
}

static void
parse_column(const Source *source, DualColumn *column, const char *sql)
{
	Excerpt		excerpt = {sql, column->name};
	ErrorContextCallback context = {error_context_stack, expression_error_context, &excerpt};
	Node	   *expr;
	Node	   *value;
	Var		   *var;

	error_context_stack = &context;
	expr = parse_expression(source, sql);
	var = IsA(expr, Var) && ((Var *) expr)->varattno > 0 ? (Var *) expr : NULL;
	if (var != NULL)
		column->plain = get_attname(RelationGetRelid(source->rel), var->varattno, false);
	value = coerce_to_target_type(source->pstate, expr, exprType(expr), column->type,
								  column->typmod, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (value == NULL)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("column \"%s\" is of type %s but its expression is of type %s",
					   column->name, format_type_be(column->type),
					   format_type_be(exprType(expr))));
	if (value == (Node *) var && !is_virtual(source->rel, var->varattno))
		column->source = var->varattno;
	column->parsed = finish_expression(source, value);
	error_context_stack = context.previous;
}

/* ---- columns ---- */

static void
refuse_generated(const char *column)
{
	ereport(ERROR,
			errcode(ERRCODE_GENERATED_ALWAYS),
			errmsg("column \"%s\" of the target cannot be written: it is generated", column),
			errhint("Leave it out of the columns of the sync."));
}

static void
read_column(const DualSync *sync, DualColumn *column, bool is_key, const char *name)
{
	HeapTuple	tuple = SearchSysCacheAttName(sync->target, name);
	Form_pg_attribute attribute;

	if (!HeapTupleIsValid(tuple) || ((Form_pg_attribute) GETSTRUCT(tuple))->attnum <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of table %s does not exist", name, sync->target_name));
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	column->name = pstrdup(name);
	column->type = attribute->atttypid;
	column->typmod = attribute->atttypmod;
	column->length = attribute->attlen;
	column->byval = attribute->attbyval;
	if (attribute->attgenerated != '\0' ||
		(attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS && !is_key))
		refuse_generated(name);
	ReleaseSysCache(tuple);
	if (is_key)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(column->type, &output, &is_varlena);
		fmgr_info_cxt(output, &column->output, sync->context);
	}
}

static void
read_columns(DualSync *sync, const Source *source, char **args)
{
	StringInfoData names;

	sync->columns = palloc0(sync->ncolumns * sizeof(DualColumn));
	sync->plain = palloc(sync->nkeys * sizeof(int));
	initStringInfo(&names);
	for (int i = 0; i < sync->ncolumns; i++)
	{
		DualColumn *column = &sync->columns[i];
		bool		is_key = i < sync->nkeys;

		read_column(sync, column, is_key, args[2 * i]);
		parse_column(source, column, args[2 * i + 1]);
		if (column->source == 0)
			sync->runs_code = true;
		if (is_key && column->plain != NULL)
			sync->plain[sync->nplain++] = i;
		if (is_key)
			appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", column->name);
	}
	sync->key_names = names.data;
}

/* Planned once; PostgreSQL tells when a function that was inlined is another. */
static void
plan_expressions(DualSync *sync)
{
	if (sync->parsed_filter != NULL)
		sync->filter = GetCachedExpression((Node *) sync->parsed_filter);
	for (int i = 0; i < sync->ncolumns; i++)
		if (sync->columns[i].source == 0)
			sync->columns[i].expression = GetCachedExpression((Node *) sync->columns[i].parsed);
}

/* ---- statements ---- */

static SPIPlanPtr
prepare(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, types, PLAN_OPTIONS);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql);
	return plan;
}

static Oid
operator_namespace(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Oid			namespace;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	namespace = ((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace;
	ReleaseSysCache(tuple);
	return namespace;
}

/* "name = $n" by the operator that unique indexes of the type go by, wherever its schema is */
static void
append_equals(StringInfo sql, const char *column, Oid type, int number)
{
	Oid			operator = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;

	if (!OidIsValid(operator))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("key column \"%s\" is of type %s, which has no equality", column,
					   format_type_be(type)));
	appendStringInfo(sql, "%s%s OPERATOR(%s.%s) $%d", number > 1 ? " AND " : "",
					 quote_identifier(column),
					 quote_identifier(get_namespace_name(operator_namespace(operator))),
					 get_opname(operator), number);
}

static void
append_key_condition(StringInfo sql, const DualSync *sync)
{
	for (int i = 0; i < sync->nkeys; i++)
		append_equals(sql, sync->columns[i].name, sync->columns[i].type, i + 1);
}

static char *
insert_sql(const DualSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", sync->target_name);
	for (int i = 0; i < sync->ncolumns; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(sync->columns[i].name));
	/* only a key may be an identity column */
	appendStringInfo(&sql, ")%s VALUES (", sync->is_foreign ? "" : " OVERRIDING SYSTEM VALUE");
	for (int i = 0; i < sync->ncolumns; i++)
		appendStringInfo(&sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static char *
upsert_sql(const DualSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s ON CONFLICT (", insert_sql(sync));
	for (int i = 0; i < sync->nkeys; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(sync->columns[i].name));
	appendStringInfoString(&sql, sync->nkeys < sync->ncolumns ? ") DO UPDATE SET " :
						   ") DO NOTHING");
	for (int i = sync->nkeys; i < sync->ncolumns; i++)
	{
		const char *name = quote_identifier(sync->columns[i].name);

		appendStringInfo(&sql, "%s%s = EXCLUDED.%s", i > sync->nkeys ? ", " : "", name, name);
	}
	return sql.data;
}

/* Tells whether the row is there as well: a key alone is set to itself. */
static char *
update_sql(const DualSync *sync)
{
	int			first = sync->nkeys < sync->ncolumns ? sync->nkeys : 0;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET ", sync->target_name);
	for (int i = first; i < sync->ncolumns; i++)
		appendStringInfo(&sql, "%s%s = $%d", i > first ? ", " : "",
						 quote_identifier(sync->columns[i].name), i + 1);
	appendStringInfoString(&sql, " WHERE ");
	append_key_condition(&sql, sync);
	return sql.data;
}

static char *
remove_sql(const DualSync *sync)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s WHERE ", sync->target_name);
	append_key_condition(&sql, sync);
	return sql.data;
}

char *
ordflow_dual_write_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static SPIPlanPtr
prepare_reread(const DualSync *sync)
{
	Oid		   *types = palloc(sync->nkeys * sizeof(Oid));
	StringInfoData sql;
	RoleSwitch	saved;
	SPIPlanPtr	plan;

	/* a sync whose key is made of expressions alone is refused when it is created */
	if (sync->nplain == 0)
		return NULL;
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM %s%s WHERE ",
					 get_rel_relkind(sync->root) == RELKIND_PARTITIONED_TABLE ? "" : "ONLY ",
					 ordflow_dual_write_table(sync->root));
	for (int i = 0; i < sync->nplain; i++)
	{
		const char *column = sync->columns[sync->plain[i]].plain;

		types[i] = get_atttype(sync->root, get_attnum(sync->root, column));
		append_equals(&sql, column, types[i], i + 1);
	}
	saved = ordflow_dual_write_enter_source(sync->root);
	plan = prepare(sql.data, sync->nplain, types);
	ordflow_role_leave(saved);
	return plan;
}

static void
prepare_statements(DualSync *sync)
{
	Oid		   *types = palloc(sync->ncolumns * sizeof(Oid));

	for (int i = 0; i < sync->ncolumns; i++)
		types[i] = sync->columns[i].type;
	sync->remove = prepare(remove_sql(sync), sync->nkeys, types);
	if (sync->is_foreign)
	{
		sync->update = prepare(update_sql(sync), sync->ncolumns, types);
		sync->insert = prepare(insert_sql(sync), sync->ncolumns, types);
	}
	else
		sync->upsert = prepare(upsert_sql(sync), sync->ncolumns, types);
	sync->reread = prepare_reread(sync);
}

/* ---- the sync ---- */

static void
look_at_target(DualSync *sync)
{
	Relation	rel = relation_open(sync->target, AccessShareLock);

	sync->is_foreign = rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE;
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		if (rel->trigdesc->triggers[i].tgdeferrable)
			sync->may_defer = true;
	relation_close(rel, NoLock);
}

static void
load(DualSync *sync, Relation rel, char **args, int nargs)
{
	Source		source;

	sync->name = pstrdup(args[ARG_SYNC]);
	sync->role = pstrdup(args[ARG_ROLE]);
	sync->target_name = ordflow_dual_write_table(sync->target);
	sync->nkeys = pg_strtoint32(args[ARG_NKEYS]);
	sync->ncolumns = (nargs - ARG_COLUMNS) / 2;
	look_at_target(sync);

	source = open_source(rel, sync->root);
	read_columns(sync, &source, args + ARG_COLUMNS);
	if (args[ARG_FILTER][0] != '\0')
	{
		sync->parsed_filter = parse_filter(&source, args[ARG_FILTER]);
		sync->runs_code = true;
	}
	free_parsestate(source.pstate);
	plan_expressions(sync);
	prepare_statements(sync);
}

void
ordflow_dual_write_free(DualSync *sync)
{
	SPIPlanPtr	plans[] = {sync->upsert, sync->insert, sync->update, sync->remove, sync->reread};

	for (int i = 0; i < lengthof(plans); i++)
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
	if (sync->filter != NULL)
		FreeCachedExpression(sync->filter);
	for (int i = 0; sync->columns != NULL && i < sync->ncolumns; i++)
		if (sync->columns[i].expression != NULL)
			FreeCachedExpression(sync->columns[i].expression);
	MemoryContextDelete(sync->context);
}

DualSync *
ordflow_dual_write_load(Relation rel, Oid root, Oid target, char **args, int nargs)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "ordflow dual_write",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	DualSync   *sync = palloc0(sizeof(DualSync));

	sync->context = context;
	sync->relation = RelationGetRelid(rel);
	sync->root = root;
	sync->target = target;
	PG_TRY();
	{
		load(sync, rel, args, nargs);
	}
	PG_CATCH();
	{
		ordflow_dual_write_free(sync);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return sync;
}
