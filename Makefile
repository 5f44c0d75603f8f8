# shoal's one Makefile. `make help` lists the targets.
#
# Sources are found by wildcard: a new .c file needs no line here. Objects live in build/$(MODE), so modes never mix,
# and everything that is not a program's main file goes into one archive per area, from which programs and unit tests
# take what they use. A file named *_test.c beside the code is a unit test, tests/fuzz/*_fuzz.c a fuzz target,
# tests/bench/*_bench.c a benchmark, tests/simulation/*_sim.c a simulation.

MODE ?= release
B := build/$(MODE)
VERSION := 0.1.0

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules
# As many jobs as processors unless the caller said otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

CC := gcc
ifeq ($(origin CC),default)
CC := gcc
endif
PKGS := libuv openssl lmdb libprotobuf-c jansson libmnl libcap
OPTIMISE := -O2
SANITISE :=
ifeq ($(MODE),debug)
OPTIMISE := -Og
else ifeq ($(MODE),asan)
OPTIMISE := -O1 -fno-omit-frame-pointer
SANITISE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
else ifeq ($(MODE),tsan)
OPTIMISE := -O1 -fno-omit-frame-pointer
SANITISE := -fsanitize=thread
else ifeq ($(MODE),cov)
OPTIMISE := -O0
SANITISE := --coverage
else ifeq ($(MODE),fuzz)
CC := clang
EXTRA_CFLAGS += -Wno-unknown-warning-option -Wno-initializer-overrides
OPTIMISE := -O1 -fno-omit-frame-pointer
SANITISE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
else ifneq ($(MODE),release)
$(error MODE=$(MODE) is unknown: use debug, release, asan, tsan or cov)
endif
FORTIFY := $(if $(SANITISE),,-D_FORTIFY_SOURCE=2)
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
	-Wvla -Wundef -Wno-unused-parameter -Wno-format-truncation -Wno-override-init -Wno-missing-field-initializers -Werror
ifeq ($(MODE),fuzz)
WARN += -Wno-unknown-warning-option -Wno-initializer-overrides # clang has other names than gcc
endif
ifeq ($(MODE),tsan)
WARN += -Wno-maybe-uninitialized # at -O1 gcc sees fewer paths that cannot be taken
endif
CFLAGS := -std=gnu17 -g $(OPTIMISE) $(SANITISE) $(FORTIFY) -fPIE -fstack-protector-strong -ffunction-sections \
	-fdata-sections $(WARN) $(EXTRA_CFLAGS)
CPPFLAGS := -D_GNU_SOURCE -DSHOAL_VERSION='"$(VERSION)"' -I. -I$(B)/gen -isystem $(B)/gen
LDFLAGS := -pie $(SANITISE) -Wl,-z,relro,-z,now,--gc-sections,--as-needed

# --- what is where ---------------------------------------------------------------------------------------------
PROTOS := $(wildcard proto/*.proto)
GEN := $(PROTOS:%.proto=$(B)/gen/%.pb-c.c)
MAINS := agent/main.c cli/main.c engine/keeper/main.c engine/job/main.c
sources = $(filter-out %_test.c $(MAINS),$(foreach d,$(1),$(wildcard $(d)/*.c)))
objects = $(patsubst %.c,$(B)/%.o,$(1))

base_SRC := $(call sources,proto/base)
wire_SRC := $(call sources,proto/wire)
# shoald's side of the keeper belongs to the engine; the rest of engine/keeper is the program.
client_SRC := $(addprefix engine/keeper/,client.c link.c packet.c plan.c process.c program.c)
keeper_SRC := $(filter-out $(client_SRC),$(call sources,engine/keeper))
job_SRC := $(call sources,engine/job)
engine_SRC := $(call sources,engine engine/image engine/container engine/net engine/volume engine/build engine/api) $(client_SRC)
manager_SRC := $(call sources,manager $(patsubst %/,%,$(wildcard manager/*/)))
agent_SRC := $(call sources,agent agent/network)
cli_SRC := $(call sources,cli cli/compose)
sim_SRC := $(filter-out %_sim.c %_test.c,$(wildcard tests/simulation/*.c))
bench_SRC := $(filter-out %_bench.c,$(wildcard tests/bench/*.c))
# Fakes stand in for what an archive holds: only the tests named below take them.
support_SRC := $(filter-out tests/support/fake_%,$(call sources,tests/support))

AREAS := base wire keeper job engine manager agent cli sim bench support
$(foreach a,$(AREAS),$(eval $(a)_OBJ := $(call objects,$($(a)_SRC))))
base_OBJ += $(GEN:%.c=%.o)
# shoald's areas, and those of the small programs, are never linked together: each may use the names it likes.
KEEPER_ARCHIVES := $(foreach a,keeper bench support job engine wire base,$(B)/lib$(a).a)
ARCHIVES := $(foreach a,$(filter-out keeper,$(AREAS)),$(B)/lib$(a).a)

PROGRAMS := $(foreach p,shoald:agent shoal:cli shoal-keeper:engine/keeper shoal-job:engine/job,\
	$(if $(wildcard $(lastword $(subst :, ,$(p)))/main.c),$(B)/$(firstword $(subst :, ,$(p)))))
UNIT_SRC := $(shell find proto manager agent engine cli tests/simulation -name '*_test.c' 2>/dev/null)
UNIT := $(UNIT_SRC:%.c=$(B)/%)
SIM := $(patsubst %.c,$(B)/%,$(wildcard tests/simulation/*_sim.c))
BENCH := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/*_bench.c))
FUZZ := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/*_fuzz.c))
PRELOADS := $(patsubst %.c,$(B)/%.so,$(wildcard tests/integration/tools/*_preload.c))
PROBES := $(patsubst %.c,$(B)/%,$(filter-out %_preload.c,$(wildcard tests/integration/tools/*.c)))

# llhttp where the distribution has it, else its predecessor (proto/wire/http_parse.c decides the same way).
HTTP_LIB := $(if $(wildcard /usr/include/llhttp.h),-lllhttp,-lhttp_parser)
LIBS := -luv -lssl -lcrypto -llmdb -ljansson -lprotobuf-c -lcap -lmnl $(HTTP_LIB)
# Statically: libraft's two versions share a soname (DESIGN.md section 3), and the keeper must start without a loader's help.
RAFT := -l:libraft.a
JOB_LIBS := -lcurl -larchive -lz -lzstd -lseccomp

# --- targets ---------------------------------------------------------------------------------------------------
.PHONY: all
all: $(PROGRAMS) ## build the programs into build/$(MODE)/

.PHONY: deps
deps: ## install what building and testing needs (Debian 12)
	@deploy/deps.sh build test

.PHONY: demo
demo: deps ## the main job on this machine: node, swarm, pull, service, scale, update, clean up
	@$(MAKE) --no-print-directory all
	@tests/integration/demo.sh $(B)

.PHONY: test
test: deps ## everything a newcomer runs: unit, simulation (some seeds), integration
	@$(MAKE) --no-print-directory all unit-programs sim-programs tool-programs
	@tests/run.sh $(B) unit sim integration

.PHONY: check
check: unit-programs ## the unit tests alone
	@tests/run.sh $(B) unit

.PHONY: sim
SEED ?=
SEEDS ?= $(if $(SEED),1,200)
sim: sim-programs ## the simulations: SEEDS=n worlds from SEED=k on, what they reached; SEED=k alone replays one
	@FIGURES=1 SEEDS=$(SEEDS) SEED=$(SEED) tests/run.sh $(B) sim

.PHONY: sim-plants
sim-plants: sim-programs ## planted bugs and missing guards: each must be seen by the simulations
	@SEEDS=1000 ONLY=faults_sim tests/run.sh $(B) sim

DAMAGE_TESTS := $(addprefix $(B)/,manager/raft/log_test manager/raft/segment_test manager/raft/snapshot_test manager/raft/meta_test manager/store/damage_test agent/identity_test)
.PHONY: damage
damage: $(DAMAGE_TESTS) ## flip and cut every byte of the files of a manager: log, term, snapshot, store, identity
	@for t in $(DAMAGE_TESTS); do echo "$$t"; DAMAGE=all CMOCKA_MESSAGE_OUTPUT=TAP $$t || exit 1; done

.PHONY: integration
ONLY ?=
integration: all tool-programs ## the stories with the real programs: ONLY=name runs one
	@ONLY=$(ONLY) tests/run.sh $(B) integration

.PHONY: hygiene
hygiene: all tool-programs ## 1,000 cycles of containers and 100 kills of the daemon leave the machine as it was
	@tests/run.sh $(B) hygiene

.PHONY: chaos
MINUTES ?= 10
chaos: all tool-programs ## machines that break while clients write: MINUTES=n of faults, SEED=k for the same ones
	@MINUTES=$(MINUTES) SEED=$(SEED) tests/run.sh $(B) chaos

.PHONY: bench
bench: all bench-programs tool-programs ## print the figures of GOALS.md beside their floors
	@tests/bench/run.sh $(B)

.PHONY: fuzz
FUZZ_SECONDS ?= 60
fuzz: ## fuzz each reader of outside bytes for FUZZ_SECONDS
	@deploy/deps.sh build fuzz
	@$(MAKE) --no-print-directory MODE=fuzz fuzz-programs
	@tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS)

.PHONY: asan
asan: deps ## the whole suite under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory MODE=asan all unit-programs sim-programs tool-programs
	@SHOAL_SLOW=4 tests/run.sh build/asan unit sim integration

# What shares memory between threads: mailboxes, the manager's loop beside the node's, libuv's pool. (Not where sockets
# and the pool's files take turns in the same descriptor numbers: libuv closes behind the sanitizer's back.)
tsan_UNIT = $(patsubst %.c,build/tsan/%,proto/wire/mailbox_test.c proto/base/record_test.c \
	$(shell grep -lE 'tests/support/(caller|cluster|puppet)\.h' $(UNIT_SRC) | xargs grep -L 'tests/support/group\.h'))
.PHONY: tsan
tsan: deps ## the tests of what runs in several threads, under the thread sanitizer
	@$(MAKE) --no-print-directory MODE=tsan $(tsan_UNIT)
	@tests/run.sh build/tsan unit

.PHONY: lint
lint: $(GEN) ## format, include rules, banned calls, and that the pure objects link alone
	@tests/lint/lint.sh $(B)
	@$(MAKE) --no-print-directory pure-link

.PHONY: format
format: ## rewrite every source in the project's format
	@git ls-files --cached --others --exclude-standard '*.c' '*.h' | xargs -r clang-format -i

.PHONY: cov
cov: ## unit and simulation coverage, by file
	@$(MAKE) --no-print-directory MODE=cov unit-programs sim-programs
	@tests/run.sh build/cov unit sim
	@tests/cov.sh build/cov

.PHONY: install
PREFIX ?= /usr/local
DESTDIR ?=
install: all ## install the programs below PREFIX (default /usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -s -m 0755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin

.PHONY: clean
clean: ## remove everything that was built
	rm -rf build

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo "  MODE=debug|release|asan|tsan|cov chooses how; each keeps its objects in build/MODE."

.PHONY: unit-programs sim-programs bench-programs fuzz-programs tool-programs
unit-programs: $(UNIT)
sim-programs: $(SIM)
bench-programs: $(BENCH)
fuzz-programs: $(FUZZ)
tool-programs: $(PROBES) $(PRELOADS)

# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $@)

# --- how things are made ---------------------------------------------------------------------------------------
$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: %.proto $(PROTOS)
	@mkdir -p $(B)/gen
	$(call say,GEN)
	$(Q)protoc-c --c_out=$(B)/gen $<

# Generated code is not ours to warn about.
$(B)/gen/%.o: $(B)/gen/%.c | $(GEN)
	$(call say,CC)
	$(Q)$(CC) $(filter-out -W%,$(CFLAGS)) $(CPPFLAGS) -MD -MP -c -o $@ $<

$(B)/%.o: %.c Makefile | $(GEN)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(CPPFLAGS) -MD -MP -c -o $@ $<

# The default seccomp profile is put into the program as it is.
$(B)/engine/job/profile.o: engine/job/seccomp.json

define archive_rule
$(B)/lib$(1).a: $($(1)_OBJ)
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcs $$@ $$^
endef
$(foreach a,$(AREAS),$(eval $(call archive_rule,$(a))))

define link
$(call say,LINK)
$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(1)
endef

$(B)/shoald: $(B)/agent/main.o $(foreach a,agent manager engine wire base,$(B)/lib$(a).a)
	$(call link,$(LIBS) $(RAFT))
# The client waits for people and nodes: small matters more than fast. Its tables of options are full of pointers, whose
# relocations shrink to a tenth when packed (glibc 2.36).
ifeq ($(MODE),release)
$(cli_OBJ) $(B)/cli/main.o: CFLAGS += -Os -fno-asynchronous-unwind-tables
endif
$(B)/shoal: $(B)/cli/main.o $(foreach a,cli base,$(B)/lib$(a).a)
	$(call link,$(LIBS) -z pack-relative-relocs)
# Of the engine it takes cgroup.o alone; the lists of libraries are trimmed by --as-needed.
$(B)/shoal-keeper: $(B)/engine/keeper/main.o $(foreach a,keeper engine base,$(B)/lib$(a).a)
	$(call link,-lprotobuf-c -lcap)
$(B)/shoal-job: $(B)/engine/job/main.o $(foreach a,job base,$(B)/lib$(a).a)
	$(call link,$(JOB_LIBS) $(LIBS))

# Some of these start the real program of their build.
$(filter $(B)/engine/job/% $(B)/engine/image/%,$(UNIT)): $(B)/shoal-job
$(B)/engine/image/registry_test: $(B)/tests/integration/tools/token_server

KEEPER_UNIT := $(filter $(B)/engine/keeper/%,$(UNIT))
$(filter-out $(KEEPER_UNIT),$(UNIT)) $(SIM) $(BENCH): $(B)/%: $(B)/%.o $(ARCHIVES)
	$(call link,-lcmocka $(JOB_LIBS) $(LIBS) $(RAFT))
$(KEEPER_UNIT): $(B)/%: $(B)/%.o $(KEEPER_ARCHIVES)
	$(call link,-lcmocka $(JOB_LIBS) $(LIBS))
# Tests in which something of the agent's surroundings is a fake: found before the archive with the real one.
FAKE_ENGINE := $(B)/tests/support/fake_engine.o
FAKE_SESSION := $(B)/tests/support/fake_session.o
FAKE_RPC := $(B)/tests/support/fake_rpc.o
$(B)/tests/simulation/manager_sim: $(FAKE_RPC)
$(B)/agent/logs_test: $(FAKE_ENGINE)
$(B)/agent/front_test $(B)/agent/membership_test: $(FAKE_ENGINE) $(FAKE_SESSION) \
	$(addprefix $(B)/tests/support/,fake_manager.o fake_node.o)
$(B)/agent/agent_test $(B)/tests/simulation/agent_sim: $(FAKE_ENGINE) $(FAKE_SESSION)
$(B)/agent/session_test: $(B)/agent/session.o # engine/job has a session of its own
$(B)/tests/fuzz/agent_fuzz: $(FAKE_ENGINE) $(FAKE_SESSION)
$(B)/tests/simulation/agent_sim $(B)/tests/fuzz/agent_fuzz: LDFLAGS += -Wl,--wrap=records_put,--wrap=records_remove
# Tests that start the programs beside them.
$(B)/engine/container/seccomp_test: | $(B)/shoal-job
$(B)/engine/engine_test $(B)/engine/create_test $(B)/engine/attach_test $(B)/engine/engine_crash_test: | $(B)/shoal-keeper $(B)/shoal-job
$(filter $(B)/engine/keeper/keeper%,$(UNIT)): | $(B)/shoal-keeper $(B)/shoal-job $(B)/tests/integration/tools/inside
# The simulation with planted bugs: the sources of manager/raft once more, with RAFT_FAULTS (manager/raft/fault.h).
FAULT_OBJ := $(patsubst %.c,$(B)/faults/%.o,$(call sources,manager/raft))
$(B)/faults/%.o: %.c Makefile | $(GEN)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(CPPFLAGS) -DRAFT_FAULTS -MD -MP -c -o $@ $<
$(B)/tests/simulation/raft_faults_sim: $(FAULT_OBJ)
# The same for managers and agents: those sources that hold such bugs (proto/base/planted.h), and all of manager/raft.
PLANTED_OBJ := $(patsubst %.c,$(B)/planted/%.o,$(filter-out %_test.c,$(shell grep -l base/planted.h manager/*.c manager/*/*.c agent/*.c)))
$(B)/planted/%.o: %.c Makefile | $(GEN)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(CPPFLAGS) -DWITH_PLANTED -MD -MP -c -o $@ $<
$(B)/tests/simulation/manager_faults_sim: $(PLANTED_OBJ) $(filter-out $(B)/faults/manager/raft/link% %/env_real.o,$(FAULT_OBJ)) $(FAKE_RPC)

$(FUZZ): $(B)/%: $(B)/%.o $(ARCHIVES)
	$(call link,-fsanitize=fuzzer $(JOB_LIBS) $(LIBS) $(RAFT))
$(PROBES): $(B)/%: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -std=gnu17 -O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -static -o $@ $<

$(PRELOADS): $(B)/%.so: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -std=gnu17 -O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -fPIC -shared -o $@ $<

# Planners are pure (DESIGN.md section 2): linked with nothing but the base's pure files, libc and protobuf-c, this
# fails on the first socket, clock, file, random number or log line that slips in.
PURE_SRC := $(filter-out %_test.c,$(wildcard $(shell sed 's/\#.*//' tests/lint/pure.list)))
.PHONY: pure-link
pure-link: $(call objects,$(PURE_SRC)) $(GEN:%.c=%.o)
	@mkdir -p $(B)/lint && echo 'int main(void) { return 0; }' >$(B)/lint/pure.c
	$(Q)$(CC) $(CFLAGS) $(SANITISE) -pie -o $(B)/lint/pure $(B)/lint/pure.c $^ -lprotobuf-c

-include $(shell find $(B) -name '*.d' 2>/dev/null)
