/*
 * registry.c
 *	  Where compiled machines are kept, and when they are dropped.
 *
 * Contexts: a compiled machine has a context of its own under
 * CacheMemoryContext.  When it is out of date that context is given to
 * TopTransactionContext, so pointers into it hold to the end of the transaction.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "machine/internal.h"

#define OPS_MAX 8

typedef struct RegistryEntry
{
	char		name[ORDFLOW_TEXT_MAX + 1];
	Machine    *machine;
} RegistryEntry;

static const char *const machine_tables[] = {"machines", "states", "transitions", "effects"};

static HTAB *registry = NULL;
static bool registry_stale = false;
static bool registry_has_hooks = false; /* a change of functions, schemas or roles matters */
static Oid	registry_tables[lengthof(machine_tables)];

static const MachineOps *registered_ops[OPS_MAX];
static int	nregistered_ops = 0;

void
ordflow_machine_register(const MachineOps *ops)
{
	if (nregistered_ops == OPS_MAX)
		elog(ERROR, "too many built-in machines");
	registered_ops[nregistered_ops++] = ops;
}

const MachineOps *
ordflow_machine_ops(const char *machine)
{
	for (int i = 0; i < nregistered_ops; i++)
		if (strcmp(registered_ops[i]->machine, machine) == 0)
			return registered_ops[i];
	return NULL;
}

static void
relation_changed(Oid relid)
{
	for (int i = 0; i < lengthof(registry_tables); i++)
		if (!OidIsValid(relid) || relid == registry_tables[i])
			registry_stale = true;
}

static void
hook_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	if (registry_has_hooks)
		registry_stale = true;
}

void
ordflow_machine_init(void)
{
	HASHCTL		ctl = {.keysize = ORDFLOW_TEXT_MAX + 1, .entrysize = sizeof(RegistryEntry)};

	registry = hash_create("ordflow machines", 16, &ctl, HASH_ELEM | HASH_STRINGS);
	ordflow_on_relation_change(relation_changed);
	CacheRegisterSyscacheCallback(PROCOID, hook_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, hook_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, hook_changed, (Datum) 0);
	ordflow_pending_init();
	ordflow_history_init();
	ordflow_move_init();
}

static void
forget_all(void)
{
	HASH_SEQ_STATUS scan;
	RegistryEntry *entry;

	hash_seq_init(&scan, registry);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		MemoryContextSetParent(entry->machine->context, TopTransactionContext);
		hash_search(registry, entry->name, HASH_REMOVE, NULL);
	}
	for (int i = 0; i < lengthof(registry_tables); i++)
		registry_tables[i] = ordflow_relid(machine_tables[i]);
	registry_has_hooks = false;
	registry_stale = false;
}

static bool
has_hooks(const Machine *machine)
{
	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].guard != NULL || machine->transitions[i].effect != NULL)
			return true;
	return machine->neffects > 0;
}

const Machine *
ordflow_machine_load_or_null(const char *name)
{
	RegistryEntry *entry;
	Machine    *machine;
	bool		had_hooks;

	if (strlen(name) > ORDFLOW_TEXT_MAX)
		return NULL;
	if (registry_stale || !OidIsValid(registry_tables[0]))
		forget_all();
	entry = hash_search(registry, name, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->machine;

	/* a change that comes in while this reads makes the registry stale again */
	had_hooks = registry_has_hooks;
	registry_has_hooks = true;
	machine = ordflow_machine_compile(name);
	registry_has_hooks = had_hooks || (machine != NULL && has_hooks(machine));
	if (machine == NULL)
		return NULL;

	entry = hash_search(registry, name, HASH_ENTER, NULL);
	entry->machine = machine;
	MemoryContextSetParent(machine->context, CacheMemoryContext);
	return machine;
}

const Machine *
ordflow_machine_load(const char *name)
{
	const Machine *machine = ordflow_machine_load_or_null(name);

	if (machine == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("machine \"%s\" does not exist", name),
				errhint("Machines are defined by ordflow.define_machine() and listed in ordflow.machines."));
	return machine;
}

bool
ordflow_machine_exists(const char *machine)
{
	return ordflow_machine_load_or_null(machine) != NULL;
}
