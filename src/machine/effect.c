/*
 * effect.c
 *	  Effects that users hang on the events of any machine.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "machine/internal.h"

PG_FUNCTION_INFO_V1(ordflow_add_effect);
PG_FUNCTION_INFO_V1(ordflow_drop_effect);

/* The machine's row is locked, so ordinals are given one after the other. */
static Statement lock_machine = {
	.sql = "SELECT FROM ordflow.machines WHERE machine = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement insert_effect = {
	.sql = "INSERT INTO ordflow.effects (machine, event, ordinal, effect, role, builtin) "
	"SELECT $1, $2, coalesce(max(e.ordinal), 0) + 1, $3, $4, false "
	"FROM ordflow.effects AS e WHERE e.machine = $1 AND e.event = $2 "
	"ON CONFLICT (machine, event, effect) DO NOTHING",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}
};

static Statement delete_effect = {
	.sql = "DELETE FROM ordflow.effects "
	"WHERE machine = $1 AND event = $2 AND effect = $3 AND NOT builtin",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID}
};

typedef struct EffectArgs
{
	const Machine *machine;
	char	   *event;
	char	   *signature;
	Datum		values[4];		/* machine, event, effect, role */
} EffectArgs;

static EffectArgs
read_args(FunctionCallInfo fcinfo)
{
	EffectArgs	args;

	ordflow_require_preload();
	args.machine = ordflow_machine_load(ordflow_arg_text(fcinfo, 0, "machine"));
	args.event = ordflow_arg_text(fcinfo, 1, "event");
	ordflow_require_not_null(fcinfo, 2, "effect");
	args.signature = ordflow_hook_signature(PG_GETARG_OID(2), "effect");
	args.values[0] = CStringGetTextDatum(args.machine->name);
	args.values[1] = CStringGetTextDatum(args.event);
	args.values[2] = CStringGetTextDatum(args.signature);
	args.values[3] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	return args;
}

Datum
ordflow_add_effect(PG_FUNCTION_ARGS)
{
	EffectArgs	args = read_args(fcinfo);
	RoleSwitch	saved;

	if (!ordflow_machine_knows(args.machine, args.event))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("machine \"%s\" has no event \"%s\"", args.machine->name, args.event));

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	ordflow_execute(&lock_machine, args.values, NULL);
	if (ordflow_execute(&insert_effect, args.values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("effect %s hangs on event \"%s\" of machine \"%s\" already", args.signature,
					   args.event, args.machine->name));
	ordflow_role_leave(saved);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
ordflow_drop_effect(PG_FUNCTION_ARGS)
{
	EffectArgs	args = read_args(fcinfo);
	RoleSwitch	saved;

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	if (ordflow_execute(&delete_effect, args.values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("effect %s does not hang on event \"%s\" of machine \"%s\"", args.signature,
					   args.event, args.machine->name));
	ordflow_role_leave(saved);
	SPI_finish();
	PG_RETURN_VOID();
}
