# Everything but the order of the install script is a wildcard: a new file is built or run
# because it is there.
EXTENSION = ordflow
MODULE_big = ordflow
VERSION_OF_ORDFLOW := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" ordflow.control)

OBJS := $(patsubst %.c,%.o,$(filter-out src/module/%,$(wildcard src/*.c src/*/*.c)))

# Each src/module/NAME.c is, with the NAME_*.c there are, ordflow_NAME.so: it alone links its client
# library, so that a server
# without that library loses nothing else. header:library:package of Debian.
CLIENT_redis = hiredis/hiredis.h:hiredis:libhiredis-dev
CLIENT_amqp = amqp.h:librabbitmq:librabbitmq-dev
CLIENT_postgres = libpq-fe.h:libpq:libpq-dev

# The order is the dependency order: a reference to a later fragment fails at CREATE EXTENSION.
FRAGMENTS = src/base/schema.sql \
	src/worker/worker.sql \
	src/server/server.sql \
	src/counter/counter.sql \
	src/machine/machine.sql \
	src/stock/stock.sql \
	src/coupon/coupon.sql \
	src/order/order.sql \
	src/order/order_functions.sql \
	src/order/audit.sql \
	src/timer/timer.sql \
	src/task/task.sql \
	src/sync/sync.sql \
	src/sync/dual_write.sql \
	src/doctor.sql \
	src/grants.sql

DATA = $(wildcard src/upgrade/ordflow--*--*.sql)
DATA_built = ordflow--$(VERSION_OF_ORDFLOW).sql

REGRESS := $(patsubst sql/%.sql,%,$(wildcard sql/*.sql))
REGRESS_OPTS = --load-extension=ordflow
ISOLATION := $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec))
ISOLATION_OPTS = --inputdir=test --load-extension=ordflow
PROVE_TESTS := $(wildcard test/t/*.pl)
TAP_TESTS := $(if $(PROVE_TESTS),1)

PG_CPPFLAGS = -Isrc -DORDFLOW_VERSION='"$(VERSION_OF_ORDFLOW)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
# build/versions, the servers of test-versions, is gigabytes of download: make clean leaves it.
EXTRA_CLEAN = $(filter-out build/versions,$(wildcard build/*)) ordflow--*.sql tmp_check \
	src/module/*.o src/module/*.so

# Bitcode serves the inlining of small functions into JIT-compiled expressions; ours run SPI.
# Without it the build needs no clang.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

ifneq ($(PGXS),)

# A server that did not preload ordflow runs the files that say they need nothing of it.
ifneq ($(filter installcheck,$(MAKECMDGOALS)),)
PRELOADED := $(shell `$(PG_CONFIG) --bindir`/psql -XAtc 'SHOW shared_preload_libraries' postgres)
ifeq ($(findstring ordflow,$(PRELOADED)),)
NEEDS_NOTHING := $(patsubst sql/%.sql,%,$(shell grep -lx -e '-- needs: nothing' sql/*.sql))
$(info This server has no ordflow in shared_preload_libraries.)
$(info Left out, as they need it: $(filter-out $(NEEDS_NOTHING),$(REGRESS)) $(ISOLATION))
override REGRESS := $(NEEDS_NOTHING)
override ISOLATION :=
else
override REGRESS := worker_deactivated $(filter-out worker_deactivated,$(REGRESS))
endif
endif

include $(PGXS)

ifneq ($(filter 9.% 10 11 12 13 14,$(MAJORVERSION)),)
$(error ordflow needs PostgreSQL 15 or later, but $(PG_CONFIG) belongs to $(VERSION))
endif

# Where pkg-config is not installed, the library is looked for where the compiler looks.
part = $(word $1,$(subst :, ,$(CLIENT_$2)))
package_config = $(shell pkg-config $1 $2 2>/dev/null)
hash := \#
has_header = $(shell echo '$(hash)include <$1>' | $(CC) $2 -E -x c - >/dev/null 2>&1 && echo yes)
client_flags = $(call package_config,--cflags,$(call part,2,$1))
client_libs = $(or $(call package_config,--libs,$(call part,2,$1)),\
	-l$(patsubst lib%,%,$(call part,2,$1)))
client_there = $(if $(CLIENT_$1),$(call has_header,$(call part,1,$1),$(client_flags)),yes)

MODULE_PARTS := $(wildcard src/module/*_*.c)
ALL_MODULES := $(patsubst src/module/%.c,%,$(filter-out $(MODULE_PARTS),$(wildcard src/module/*.c)))
objects_of = $(patsubst %.c,%.o,src/module/$1.c $(wildcard src/module/$1_*.c))
MODULES_BUILT := $(strip $(foreach m,$(ALL_MODULES),$(if $(call client_there,$m),$m)))
MODULES_LEFT_OUT := $(filter-out $(MODULES_BUILT),$(ALL_MODULES))
ifeq ($(filter-out all,$(MAKECMDGOALS)),)
$(foreach m,$(MODULES_LEFT_OUT),\
	$(info ordflow_$m is left out: there is no client library (Debian: $(call part,3,$m))))
endif

MODULE_OBJS := $(foreach m,$(MODULES_BUILT),$(call objects_of,$m))
MODULE_FILES := $(MODULES_BUILT:%=src/module/%$(DLSUFFIX))
$(foreach m,$(MODULES_BUILT),\
	$(eval $(call objects_of,$m): override CPPFLAGS += $(if $(CLIENT_$m),$(call client_flags,$m)))\
	$(eval src/module/$m$(DLSUFFIX): $(call objects_of,$m))\
	$(eval src/module/$m$(DLSUFFIX): LDFLAGS_SL += \
		$(filter-out src/module/$m.o,$(call objects_of,$m)) \
		$(if $(CLIENT_$m),$(call client_libs,$m))))
$(MODULE_OBJS): override CFLAGS += $(CFLAGS_SL_MODULE)

ifneq ($(call has_header,hiredis/hiredis_ssl.h,$(call client_flags,redis)),)
$(call objects_of,redis): override CPPFLAGS += -DHAVE_HIREDIS_SSL
src/module/redis$(DLSUFFIX): LDFLAGS_SL += \
	$(or $(call package_config,--libs,hiredis_ssl),-lhiredis_ssl)
endif

all: $(MODULE_FILES)

install: install-modules

install-modules: $(MODULE_FILES) | installdirs
	$(foreach m,$(MODULES_BUILT),$(INSTALL_SHLIB) src/module/$m$(DLSUFFIX) \
		'$(DESTDIR)$(pkglibdir)/ordflow_$m$(DLSUFFIX)' &&) true

uninstall: uninstall-modules

uninstall-modules:
	rm -f $(ALL_MODULES:%='$(DESTDIR)$(pkglibdir)/ordflow_%$(DLSUFFIX)')

else

all install uninstall installcheck:
	@echo 'ordflow is built against the server headers (Debian: postgresql-server-dev-15).' >&2
	@echo 'Where pg_config is not in the PATH: make PG_CONFIG=/path/to/pg_config' >&2
	@exit 1

clean:
	rm -rf $(EXTRA_CLEAN) $(OBJS) ordflow.so

endif

# One list of headers for all: a build takes seconds. The stamp changes with the server's version.
$(OBJS) $(MODULE_OBJS): $(wildcard src/*/*.h) ordflow.control build/server

build/server: FORCE
	@mkdir -p build
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

ordflow--$(VERSION_OF_ORDFLOW).sql: $(FRAGMENTS) ordflow.control Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION ordflow" to load this file. \quit'; \
		cat $(FRAGMENTS); } > $@

# The targets below do their own set-up on a bare Debian: see test/setup.
# make test SUITE=regress TEST=order_pay runs one file (a pattern will do).
export TEST
demo:
	@test/replay/demo

test:
	@test/run $(SUITE)

torture:
	@test/torture/run

memcheck:
	@test/memcheck

test-versions:
	@test/versions

bench-orders:
	@bench/orders

bench-timers:
	@bench/timers

bench-attach:
	@bench/attach

bench-neighbour:
	@bench/neighbour

bench-tasks:
	@bench/tasks

bench-stock:
	@bench/stock

bench-decode:
	@bench/decode

bench-sync:
	@bench/sync

tidy:
	@test/tidy

.PHONY: install-modules uninstall-modules demo test torture memcheck test-versions tidy FORCE \
	bench-orders bench-stock bench-timers bench-attach bench-tasks bench-neighbour \
	bench-decode bench-sync
