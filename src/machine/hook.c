/*
 * hook.c
 *	  Users' guards and effects.
 *
 * A hook runs as the role that registered it, in a security-restricted
 * operation with a search_path of ours: it can do what that role can do, whoever's
 * step it hangs on, and nothing that outlives it (roles, temporary objects, deferred
 * triggers).  The object's row is read as the table's owner, likewise restricted,
 * because reading may run code of the table's owner.
 *
 * A hook declared STABLE or IMMUTABLE reads with the snapshot that is active, and that of
 * the caller's statement is older than the lock of the row: it is given a new one, as others have.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/json.h"
#include "machine/internal.h"

#define HOOK_ARGUMENTS "(jsonb,jsonb)"
#define HOOK_SEARCH_PATH "pg_catalog, pg_temp"

void
ordflow_hint_where_none(const char *hint)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	ErrorData  *error = CopyErrorData();
	bool		has_hint = error->hint != NULL;

	FreeErrorData(error);
	MemoryContextSwitchTo(old);
	if (!has_hint)
		errhint("%s", hint);
}

static void
hook_error_context(void *arg)
{
	const Hook *hook = ((void **) arg)[0];
	const HookCall *call = ((void **) arg)[1];

	if (geterrcode() == ERRCODE_INSUFFICIENT_PRIVILEGE)
		ordflow_hint_where_none(
								"Guards and effects run as the role that registered them, in a security-restricted operation: "
								"roles, temporary objects and deferred triggers are not allowed there. "
								"Where a deferred constraint is in the way, run SET CONSTRAINTS ... IMMEDIATE before the call.");
	errcontext("%s %s of machine \"%s\", run as role \"%s\"", hook->kind, hook->signature,
			   call->machine->name, hook->role);
}

/* The row as jsonb, read as the table's owner. */
static Jsonb *
fetch_row(const MachineTarget *target, Datum key)
{
	char	   *table = ordflow_machine_table(target->relid);
	char	   *sql = psprintf("SELECT to_jsonb(o.*) FROM %s AS o WHERE %s",
							   ordflow_machine_from(target),
							   ordflow_machine_key_condition(target, 1, false));
	MemoryContext context = CurrentMemoryContext;
	RoleSwitch	saved;
	bool		isnull;
	Jsonb	   *result;

	SPI_connect();
	saved = ordflow_machine_owner_enter(target->relid);
	if (ordflow_machine_query(sql, 1, &target->key_type, &key, false) != 1)
		ereport(ERROR,
				errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				errmsg("row %s of table %s is gone", ordflow_machine_key_text(target, key), table),
				errhint("A trigger, guard or effect may have deleted it or changed its key."));
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	result = DatumGetJsonbPCopy(ordflow_result(0, 1, &isnull));
	SPI_finish();
	return result;
}

static Jsonb *
hook_object(HookCall *call)
{
	const MachineTarget *target = call->step->target;
	const Transition *transition = call->transition;
	JsonBuild	b = {0};

	if (call->row == NULL)
		call->row = fetch_row(target, call->key);

	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "machine", call->machine->name);
	ordflow_json_put_text(&b, "event", transition->event);
	ordflow_json_put_text(&b, "from", transition->from_state);
	ordflow_json_put_text(&b, "to", transition->to_state);
	ordflow_json_put_text(&b, "table", ordflow_machine_table(target->relid));
	ordflow_json_put_text(&b, "key", ordflow_machine_key_text(target, call->key));
	ordflow_json_put_jsonb(&b, "row", call->row);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

static Jsonb *
hook_args(const HookCall *call)
{
	JsonBuild	b = {0};

	if (call->step->args != NULL)
		return call->step->args;
	ordflow_json_begin_object(&b);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

static void
require_runnable(const Hook *hook, const Machine *machine)
{
	if (!OidIsValid(hook->function))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("%s %s of machine \"%s\" does not exist", hook->kind, hook->signature,
					   machine->name),
				errhint("Create the function, or take it out of the machine; ordflow.check_machine() lists such problems."));
	if (!OidIsValid(hook->roleid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("role \"%s\" does not exist", hook->role),
				errdetail("It registered %s %s of machine \"%s\".", hook->kind, hook->signature,
						  machine->name));
}

/*
 * Calls the hook; true when it returned true.  The call information is made anew
 * each time: one that is kept may be in use by an outer call of the same
 * function.
 */
static bool
hook_call(const Hook *hook, HookCall *call)
{
	void	   *frame[2] = {(void *) hook, call};
	ErrorContextCallback context = {error_context_stack, hook_error_context, frame};
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	function;
	Jsonb	   *object;
	RoleSwitch	saved;
	AclResult	allowed;
	Datum		result;

	require_runnable(hook, call->machine);
	object = hook_object(call);

	error_context_stack = &context;
	saved = ordflow_role_enter(hook->roleid, true);
	set_config_option("search_path", HOOK_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);

	allowed = object_aclcheck(ProcedureRelationId, hook->function, hook->roleid, ACL_EXECUTE);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, hook->signature);

	fmgr_info(hook->function, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(object);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = JsonbPGetDatum(hook_args(call));
	fcinfo->args[1].isnull = false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	result = FunctionCallInvoke(fcinfo);
	PopActiveSnapshot();

	ordflow_role_leave(saved);
	error_context_stack = context.previous;
	return !fcinfo->isnull && DatumGetBool(result);
}

bool
ordflow_hook_guard(const Hook *hook, HookCall *call)
{
	return hook_call(hook, call);
}

void
ordflow_hook_effect(const Hook *hook, HookCall *call)
{
	hook_call(hook, call);
}

static Oid
hook_result_type(const char *kind)
{
	return strcmp(kind, "guard") == 0 ? BOOLOID : VOIDOID;
}

bool
ordflow_hook_fits(Oid function, const char *kind)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		fits;

	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		proc->prorettype == hook_result_type(kind) && proc->pronargs == 2 &&
		proc->proargtypes.values[0] == JSONBOID && proc->proargtypes.values[1] == JSONBOID;
	ReleaseSysCache(tuple);
	return fits;
}

char *
ordflow_hook_signature(Oid function, const char *kind)
{
	char	   *name = get_func_name(function);
	char	   *schema;
	char	   *signature;
	AclResult	allowed;

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("function with OID %u does not exist", function));
	if (!ordflow_hook_fits(function, kind))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("%s cannot be used as %s", format_procedure(function),
					   strcmp(kind, "guard") == 0 ? "a guard" : "an effect"),
				errdetail("It must be a function of (object jsonb, args jsonb) that returns %s.",
						  format_type_be(hook_result_type(kind))));
	schema = get_namespace_name(get_func_namespace(function));
	signature = psprintf("%s%s", quote_qualified_identifier(schema, name), HOOK_ARGUMENTS);

	allowed = object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, signature);
	return signature;
}

/* What is not even of the form name(types) makes to_regprocedure() raise up to PostgreSQL 15. */
static bool
looks_like_signature(const char *text)
{
	size_t		len = strlen(text);

	return strchr(text, '(') != NULL && text[len - 1] == ')';
}

char *
ordflow_hook_signature_from_text(const char *text, const char *kind)
{
	Datum		function = (Datum) 0;

	/* to_regprocedure(): NULL instead of an error where there is none */
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(text);
	fcinfo->args[0].isnull = false;
	if (looks_like_signature(text))
		function = to_regprocedure(fcinfo);
	if (fcinfo->isnull || function == (Datum) 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("%s %s does not exist", kind, text),
				errhint("Name the function with its schema and argument types, as in shop.may_ship(jsonb,jsonb)."));
	return ordflow_hook_signature(DatumGetObjectId(function), kind);
}
