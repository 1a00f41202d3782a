/* SPDX-License-Identifier: GPL-2.0-or-later */

/* A small host is recorded, and another one made of the recording alone: they must not differ. And what becomes of
 * lines that are damaged, and of recordings that the disk does not take. */

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/core/uuid.h"
#include "daemon/recording/recorder.h"
#include "daemon/recording/recording.h"
#include "daemon/base/util.h"

#define N_VMS    4
#define POSSIBLE 12
#define SECOND   NSEC_PER_SEC
#define DEADLINE (30 * NSEC_PER_SEC)

/* ---- a host ---- */

static const char *const policies[] = {
	"{\"classes\": {\"gold\": {\"guaranteed\": 4, \"priority\": 9, \"refusal\": \"revoke\"},"
	" \"iron\": {\"burst\": {\"cap_seconds\": 60, \"initial_seconds\": 30, \"resume_seconds\": 5},"
	" \"plugs\": {\"per_minute\": 6}, \"cpu_on\": {\"per_second\": 2, \"burst\": 3}, \"bill_paused\": false}},"
	" \"tenants\": {\"acme\": {}}, \"rules\": [{\"match\": {\"name\": \"\\u00e4\xc3\xa4\"}, \"class\": \"gold\"}]}",
	"{\"classes\": {\"gold\": {\"guaranteed\": 2, \"limit\": 8, \"job_timeout_seconds\": 20},"
	" \"iron\": {\"limit\": 6, \"burst\": {\"cap_seconds\": 10}}},\n\t\"tenants\": {\"acme\": {\"quota\": 7}},"
	" \"rules\": [{\"match\": {\"name\": \"*1\"}, \"tenant\": \"acme\"}, {\"match\": {\"uid\": 2}, \"class\": "
	"\"iron\"}],"
	" \"host\": {\"capacity\": {\"overcommit\": 1.5}}}",
};

struct member {
	struct fleet_vm m; /* core NULL: not there */
	char name[32];
	char *class, *tenant; /* assigned */
	uint32_t uid;
};

struct rig {
	struct fleet f;
	struct policy *policy;
	struct member vms[N_VMS];
};

static struct policy_subject subject_of(const struct member *v)
{
	struct policy_subject s = {.name = v->name, .class = v->class, .tenant = v->tenant, .uid = v->uid};

	memcpy(s.uuid, v->m.uuid, sizeof(s.uuid));
	return s;
}

static struct fleet_assignment assignment_of(const struct rig *rig, const struct member *v)
{
	struct policy_subject subject = subject_of(v);
	struct policy_decision decision;

	policy_assign(rig->policy, &subject, &decision);
	return decision.assignment;
}

static struct member *member_of(const struct fleet_vm *m)
{
	return (struct member *)((char *)m - offsetof(struct member, m));
}

static void assign(const struct fleet_vm *m, struct fleet_assignment *ret, void *userdata)
{
	*ret = assignment_of(userdata, member_of(m));
}

static void rig_reload(struct rig *rig, const struct policy_source *sources, size_t n, uint64_t now)
{
	struct policy *old = rig->policy;
	struct fleet_policy fleet_policy = {.assign = assign, .userdata = rig};
	char *error;

	ck_assert_msg(policy_parse(&rig->policy, sources, n, &error) == 0, "%s", error);
	fleet_policy.tenants = policy_tenants(rig->policy, &fleet_policy.n_tenants);
	fleet_policy.observe = policy_observe(rig->policy);
	ck_assert_int_eq(fleet_reload(&rig->f, &fleet_policy, now), 0);
	policy_unref(old);
}

static void rig_clear(struct rig *rig)
{
	fleet_clear(&rig->f);
	for (unsigned i = 0; i < N_VMS; i++) {
		vm_free(rig->vms[i].m.core);
		free(rig->vms[i].class);
		free(rig->vms[i].tenant);
	}
	policy_unref(rig->policy);
	*rig = (struct rig){0};
}

static void rig_add(struct rig *rig, struct member *v, uint32_t possible, const struct store_vm *record, bool alive,
		    uint64_t now)
{
	struct fleet_assignment assignment = assignment_of(rig, v);
	struct vm *core;

	ck_assert_int_eq(vm_new(&core, possible, assignment.class), 0);
	v->m.core = core;
	v->m.name = v->name;
	if (record) {
		core->boot = record->boot;
		core->desired = record->desired;
		core->desired_set = record->desired_set;
		core->boot_removable = record->boot_removable;
		core->notify = record->notify;
		core->epoch = record->epoch;
		core->last_job = record->last_job;
		if (record->job.id != 0)
			job_start(&core->job, record->job.id, record->job.from, record->job.to,
				  assignment.class->job_timeout, false, now);
		if (!record->stopped)
			vm_restore_grants(core, record->enabled, record->wanted);
	}
	ck_assert_int_eq(fleet_add(&rig->f, &v->m, &assignment, now), 0);
	if (record)
		fleet_restore(&rig->f, &v->m, &record->meters, alive, now);
}

static void rig_remove(struct rig *rig, struct member *v, uint64_t now)
{
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	fleet_remove(&rig->f, &v->m, now);
	vm_free(v->m.core);
	memcpy(uuid, v->m.uuid, sizeof(uuid));
	v->m = (struct fleet_vm){0};
	memcpy(v->m.uuid, uuid, sizeof(uuid));
}

/* ---- the one that is recorded ---- */

static struct rig live;
static struct recording_text recorded;
static uint64_t now, job;
static uint32_t cpus;
static uint64_t kinds[FLEET_EVENT_MAX + 1];

static uint32_t draw(uint32_t below)
{
	return (uint32_t)random() % below;
}

static void wrote(int r)
{
	ck_assert_int_eq(r, 0);
}

static void apply(struct fleet_event event);

static void act(struct member *v, unsigned effects)
{
	uint8_t enabled[(POSSIBLE + 7) / 8], wanted[(POSSIBLE + 7) / 8];
	uint64_t revision = v->m.core->revision;

	if (effects & VM_EFFECT_PAGE) {
		v->m.core->generation++;
		wrote(recording_write_published(&recorded, &v->m, now));
	}
	if (!(effects & VM_EFFECT_STORE))
		return;
	vm_record_grants(v->m.core, enabled, wanted);
	apply((struct fleet_event){
		.kind = FLEET_STORED, .vm = &v->m, .revision = revision, .granted = enabled, .ok = draw(20) > 0});
}

static void apply(struct fleet_event event)
{
	struct fleet_answer answer;
	struct fleet_vm *m;
	unsigned effects;

	event.now = now;
	answer = fleet_apply(&live.f, &event);
	kinds[event.kind]++;
	wrote(recording_write_event(&recorded, &live.f, &event, &answer));
	while ((m = fleet_next(&live.f, &effects)))
		act(member_of(m), effects);
}

static void fill_vcpus(const struct vm *core, struct cpupolicy_vcpu vcpus[POSSIBLE])
{
	for (uint32_t i = 0; i < core->possible; i++)
		vcpus[i] = (struct cpupolicy_vcpu){
			.mpidr = i,
			.flags = core->vcpus[i].flags & VCPU_ONLINE ? CPUPOLICY_VCPU_ONLINE : 0,
		};
}

static void register_vm(struct member *v)
{
	struct cpupolicy_vcpu vcpus[POSSIBLE];
	struct vm_registration registration = {
		.flags = CPUPOLICY_REG_NOTIFY | (draw(2) ? CPUPOLICY_REG_BOOT_REMOVABLE : 0),
		.boot = 1 + draw(v->m.core->possible),
		.run_state = CPUPOLICY_RUN_RUNNING,
		.vcpus = vcpus,
	};

	fill_vcpus(v->m.core, vcpus);
	apply((struct fleet_event){
		.kind = v->m.core->link == VM_STOPPED ? FLEET_START : FLEET_RESUME,
		.vm = &v->m,
		.registration = &registration,
	});
}

static void step_stopped(struct member *v)
{
	switch (draw(6)) {
	case 0:
		wrote(recording_write_remove(&recorded, &v->m, now));
		rig_remove(&live, v, now);
		break;
	case 1:
		apply((struct fleet_event){
			.kind = FLEET_RESIZE, .vm = &v->m, .count = 1 + draw(POSSIBLE), .job = ++job});
		break;
	default:
		register_vm(v);
	}
}

static void step_disconnected(struct member *v)
{
	if (draw(4) == 0)
		apply((struct fleet_event){.kind = FLEET_LOST, .vm = &v->m, .gone = true});
	else
		register_vm(v);
}

static void step_subject(struct member *v)
{
	static const char *const classes[] = {NULL, "gold", "iron", "default", "gone"};
	static const char *const tenants[] = {NULL, "acme", "other \"tenant\"\\"};
	struct policy_subject subject;

	free(v->class);
	free(v->tenant);
	v->class = classes[draw(5)] ? strdup(classes[1 + draw(4)]) : NULL;
	v->tenant = draw(2) ? strdup(tenants[1 + draw(2)]) : NULL;
	v->uid = draw(4);
	subject = subject_of(v);
	wrote(recording_write_subject(&recorded, &v->m, &subject, now));
	apply((struct fleet_event){.kind = FLEET_ASSIGN, .vm = &v->m, .assignment = assignment_of(&live, v)});
}

static void step_connected(struct member *v)
{
	struct vm *core = v->m.core;
	struct cpupolicy_vcpu vcpus[POSSIBLE];
	uint32_t vcpu = draw(core->possible);
	struct fleet_event e = {.vm = &v->m, .vcpu = vcpu};

	switch (draw(16)) {
	case 0:
		e.kind = FLEET_LOST;
		e.gone = draw(3) == 0;
		break;
	case 1:
	case 2:
		e.kind = FLEET_ASK;
		break;
	case 3:
		e.kind = FLEET_POWER_ON;
		e.reason = CPUPOLICY_REASON_GRANTED;
		break;
	case 4:
		e.kind = FLEET_POWER_OFF;
		break;
	case 5:
		e.kind = FLEET_DENIED;
		e.reason = CPUPOLICY_REASON_NOT_ENABLED;
		e.count = 1 + draw(9);
		break;
	case 6:
		e.kind = FLEET_OST;
		e.ost_event = draw(2) ? 1 : 3;
		e.ost_status = draw(2) ? 0 : 0x82;
		break;
	case 7:
	case 8:
		e.kind = FLEET_EJECT;
		e.cause = draw(2) ? CPUPOLICY_EJECT_REQUESTED : CPUPOLICY_EJECT_GUEST;
		break;
	case 9:
		e.kind = FLEET_RUN_STATE;
		e.run_state = draw(2) ? CPUPOLICY_RUN_PAUSED : CPUPOLICY_RUN_RUNNING;
		break;
	case 10:
		e.kind = FLEET_RESET;
		break;
	case 11:
		e.kind = FLEET_STATE;
		e.run_state = CPUPOLICY_RUN_RUNNING;
		fill_vcpus(core, vcpus);
		e.vcpus = vcpus;
		break;
	case 12:
		e.kind = FLEET_CONFIRM;
		e.epoch = core->epoch;
		e.generation = core->generation;
		break;
	case 13:
		e.kind = FLEET_IMPORT;
		e.balance = (int64_t)draw(100) * (int64_t)SECOND - 50 * (int64_t)SECOND;
		e.spent = draw(2);
		break;
	default:
		e.kind = FLEET_RESIZE;
		e.count = 1 + draw(POSSIBLE);
		e.job = ++job;
	}
	apply(e);
}

static void step_host(void)
{
	struct policy_source source = {.file = (char *)"p\"1\"\\.json"};

	switch (draw(6)) {
	case 0:
		apply((struct fleet_event){.kind = FLEET_FREEZE, .on = draw(4) == 0});
		break;
	case 1:
		apply((struct fleet_event){.kind = FLEET_DRAIN, .on = draw(4) == 0});
		break;
	case 2:
		cpus = 1 + draw(40);
		wrote(recording_write_cpus(&recorded, cpus, now));
		apply((struct fleet_event){.kind = FLEET_CAPACITY, .count = draw(5) ? cpus : FLEET_UNLIMITED});
		break;
	case 3:
		apply((struct fleet_event){
			.kind = FLEET_CLOCK,
			.clock = {.boot = now, .real = 1700000000 * SECOND + now + draw(100) * SECOND}});
		break;
	case 4:
		if (live.f.frozen)
			break;
		source.text = (char *)policies[draw(2)];
		rig_reload(&live, &source, 1, now);
		wrote(recording_write_reload(&recorded, &live.f, live.policy, now));
		break;
	default:
		apply((struct fleet_event){.kind = FLEET_TICK});
	}
}

/* As the daemon restores it of its store, in the midst of a resize. */
static void add_of_store(struct member *v)
{
	struct store_vm record = {
		.possible = 9,
		.boot = 2,
		.desired = 5,
		.desired_set = true,
		.boot_removable = true,
		.notify = true,
		.epoch = 41,
		.enabled = calloc(2, 1),
		.wanted = calloc(2, 1),
		.job = {.id = ++job, .from = 2, .to = 5, .uid = 7},
		.last_job = {.id = ++job, .from = 3, .to = 2, .result = JOB_PARTIAL, .uid = 8},
		.meters = {.credit_opened = true,
			   .balance = -5 * (int64_t)SECOND,
			   .credit_spent = true,
			   .at = now - SECOND,
			   .row = {.number = 3,
				   .begin = 1700000000 * SECOND,
				   .end = 1700000001 * SECOND,
				   .guaranteed_ns = 7,
				   .burst_ns = 8},
			   .last_row = 3},
	};
	struct policy_subject subject = subject_of(v);

	record.enabled[0] = 0x1f;
	record.wanted[0] = 0x1f;
	memcpy(record.uuid, v->m.uuid, sizeof(record.uuid));
	record.name = strdup(v->name);
	rig_add(&live, v, 9, &record, true, now);
	wrote(recording_write_add(&recorded, &v->m, &subject, &record, NULL, true, now));
	store_vm_clear(&record);
}

static void add_new(struct member *v)
{
	struct policy_subject subject = subject_of(v);

	rig_add(&live, v, POSSIBLE, NULL, false, now);
	wrote(recording_write_add(&recorded, &v->m, &subject, NULL, NULL, false, now));
}

static void step(void)
{
	struct member *v = &live.vms[draw(N_VMS)];

	now += draw(4) ? draw(1000000000) : draw(60) * SECOND;
	if (draw(10) == 0)
		step_host();
	else if (!v->m.core)
		add_new(v);
	else if (draw(12) == 0)
		step_subject(v);
	else if (v->m.core->link == VM_STOPPED)
		step_stopped(v);
	else if (v->m.core->link == VM_DISCONNECTED)
		step_disconnected(v);
	else
		step_connected(v);
}

static void begin_live(unsigned seed)
{
	struct policy_source source = {.file = (char *)"p", .text = (char *)policies[0]};

	srandom(seed);
	now = 1000 * SECOND;
	live = (struct rig){0};
	cpus = 10;
	job = 0;
	recorded = (struct recording_text){.data = malloc(64 << 20), .room = 64 << 20};
	for (unsigned i = 0; i < N_VMS; i++) {
		snprintf(live.vms[i].name, sizeof(live.vms[i].name), "vm \"\\ \xc3\xa4%u", i);
		live.vms[i].m.uuid[15] = (uint8_t)(i + 1);
		live.vms[i].uid = i;
	}
	fleet_init(&live.f, &(struct fleet_ops){0}, &(struct usage_clock){.boot = now, .real = 1700000000 * SECOND});
	rig_reload(&live, &source, 1, now);
	fleet_apply(&live.f, &(struct fleet_event){.kind = FLEET_CAPACITY, .now = now, .count = 10});
	wrote(recording_write_header(&recorded, &live.f, live.policy, cpus));
	add_of_store(&live.vms[0]);
}

/* ---- the one that is made of it ---- */

static struct rig replay;

static struct member *find(const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	for (unsigned i = 0; i < N_VMS; i++)
		if (memcmp(replay.vms[i].m.uuid, uuid, CPUPOLICY_UUID_SIZE) == 0)
			return &replay.vms[i];
	for (unsigned i = 0; i < N_VMS; i++)
		if (uuid_is_nil(replay.vms[i].m.uuid)) {
			memcpy(replay.vms[i].m.uuid, uuid, CPUPOLICY_UUID_SIZE);
			return &replay.vms[i];
		}
	ck_abort_msg("no such VM");
	return NULL;
}

static void take_subject(struct member *v, struct recording_line *line)
{
	snprintf(v->name, sizeof(v->name), "%s", line->name);
	free(v->class);
	free(v->tenant);
	v->class = TAKE(line->class);
	v->tenant = TAKE(line->tenant);
	v->uid = line->uid;
}

static void replay_header(const struct recording_line *line)
{
	fleet_init(&replay.f, &(struct fleet_ops){0}, &line->clock);
	rig_reload(&replay, line->sources, line->n_sources, line->at);
	fleet_apply(&replay.f, &(struct fleet_event){.kind = FLEET_CAPACITY, .now = line->at, .count = line->capacity});
	ck_assert_uint_eq(line->cpus, 10);
	ck_assert(!line->frozen && !line->drained && !line->observe);
}

static void replay_event(struct recording_line *line, unsigned number)
{
	struct recording_answer answer;
	struct fleet_answer given;
	struct fleet_vm *m = NULL;
	unsigned effects;

	if (!uuid_is_nil(line->uuid))
		m = &find(line->uuid)->m;
	line->event.vm = m;
	if (line->event.kind == FLEET_ASSIGN) {
		line->event.assignment = assignment_of(&replay, member_of(m));
		ck_assert_str_eq(line->event.assignment.class->name, line->class);
		ck_assert((line->event.assignment.tenant == FLEET_NO_TENANT) == (line->tenant == NULL));
	}
	if (line->n_vcpus > 0)
		ck_assert_uint_eq(line->n_vcpus, m->core->possible);
	given = fleet_apply(&replay.f, &line->event);
	answer = recording_answer(&given);
	ck_assert_msg(recording_same_answer(&answer, &line->answer), "line %u", number);
	if (recording_has_state(line->event.kind)) {
		struct recording_state state;

		recording_state(&replay.f, m, &state);
		ck_assert_msg(state.digest == line->state.digest, "line %u", number);
		ck_assert(state.of_vm == line->state.of_vm);
		ck_assert_uint_eq(state.desired, line->state.desired);
		ck_assert_uint_eq(state.target, line->state.target);
		ck_assert_uint_eq(state.allowance, line->state.allowance);
		ck_assert_uint_eq(state.held, line->state.held);
		ck_assert_uint_eq(state.overdue, line->state.overdue);
		ck_assert_int_eq(state.bound, line->state.bound);
		ck_assert_int_eq(state.balance, line->state.balance);
		ck_assert_uint_eq(state.guaranteed_ns, line->state.guaranteed_ns);
		ck_assert_uint_eq(state.burst_ns, line->state.burst_ns);
		ck_assert_uint_eq(state.job, line->state.job);
		ck_assert_mem_eq(&state.sums, &line->state.sums, sizeof(state.sums));
	}
	while (fleet_next(&replay.f, &effects))
		;
}

static void replay_line(struct recording_line *line, unsigned number)
{
	struct member *v = uuid_is_nil(line->uuid) ? NULL : find(line->uuid);

	switch (line->kind) {
	case RECORDING_HEADER:
		replay_header(line);
		break;
	case RECORDING_ADD:
		take_subject(v, line);
		rig_add(&replay, v, line->possible, line->restored ? &line->record : NULL, line->alive, line->at);
		break;
	case RECORDING_SUBJECT:
		take_subject(v, line);
		break;
	case RECORDING_PUBLISHED:
		v->m.core->generation = line->generation;
		break;
	case RECORDING_REMOVE:
		rig_remove(&replay, v, line->at);
		break;
	case RECORDING_RELOAD:
		rig_reload(&replay, line->sources, line->n_sources, line->at);
		break;
	case RECORDING_EVENT:
		replay_event(line, number);
		break;
	case RECORDING_CPUS:
	case RECORDING_RESHAPE:
		break;
	}
}

/* How many lines there were. */
static unsigned replay_text(const char *text, size_t size)
{
	const char *end = text + size;
	unsigned number = 0;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		struct recording_line line;
		char *error;

		ck_assert_ptr_nonnull(newline);
		ck_assert_msg(recording_read(&line, text, (size_t)(newline - text), "log", ++number, &error) == 0, "%s",
			      error);
		replay_line(&line, number);
		recording_line_clear(&line);
		text = newline + 1;
	}
	return number;
}

#define SEEDS 40
#define STEPS 800

START_TEST(what_is_recorded_makes_the_same_host_again)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		begin_live(seed);
		for (unsigned i = 0; i < STEPS; i++)
			step();
		ck_assert_uint_gt(replay_text(recorded.data, recorded.size), STEPS);
		rig_clear(&live);
		rig_clear(&replay);
		free(recorded.data);
	}
	for (unsigned kind = FLEET_START; kind <= FLEET_EVENT_MAX; kind++)
		ck_assert_msg(kinds[kind] > 50, "only %" PRIu64 " of %s", kinds[kind], fleet_event_name(kind));
}
END_TEST

/* A digest that is always the same would find the two alike as well. */
START_TEST(digest_tells_hosts_apart)
{
	struct recording_state a, b;

	begin_live(1);
	recording_state(&live.f, &live.vms[0].m, &a);
	live.vms[0].m.core->vcpus[3].flags ^= VCPU_WANTED;
	recording_state(&live.f, &live.vms[0].m, &b);
	ck_assert_uint_ne(a.digest, b.digest);
	live.vms[0].m.core->vcpus[3].flags ^= VCPU_WANTED;
	recording_state(&live.f, &live.vms[0].m, &b);
	ck_assert_uint_eq(a.digest, b.digest);
	live.f.ledger.sums.overdue++;
	recording_state(&live.f, NULL, &a);
	live.f.ledger.sums.overdue--;
	recording_state(&live.f, NULL, &b);
	ck_assert_uint_ne(a.digest, b.digest);
	rig_clear(&live);
	free(recorded.data);
}
END_TEST

START_TEST(line_that_does_not_fit_leaves_no_part)
{
	char before[64];

	begin_live(1);
	for (recorded.room = recorded.size; recorded.room < recorded.size + 200; recorded.room++) {
		size_t size = recorded.size;
		int r;

		memcpy(before, recorded.data + size - sizeof(before), sizeof(before));
		r = recording_write_published(&recorded, &live.vms[0].m, now);
		if (r == 0)
			break;
		ck_assert_int_eq(r, -ENOSPC);
		ck_assert_uint_eq(recorded.size, size);
		ck_assert_mem_eq(before, recorded.data + size - sizeof(before), sizeof(before));
	}
	ck_assert_uint_le(recorded.size, recorded.room);
	ck_assert_uint_lt(recorded.room, recorded.size + 3);
	rig_clear(&live);
	free(recorded.data);
}
END_TEST

/* ---- lines that are wrong ---- */

#define VM    "\"vm\":\"00000000-0000-0000-0000-000000000001\""
#define RULES "\"answer\":{\"rule\":\"none\"}"
#define SUMS  "\"host\":{\"reserved\":1,\"guaranteed\":1,\"allowed\":1,\"held\":1,\"occupied\":1,\"overdue\":0}"
#define STATE "\"state\":{" SUMS ",\"digest\":\"0123456789abcdef\"}"

static const struct {
	const char *line, *error;
} wrong[] = {
	{"", "log:7:1: '[' or '{' expected near end of file"},
	{"[]", "log:7:1: expected an object, not an array"},
	{"{}", "log:7:1: expected do in it, or recording"},
	{"{\"recording\":3,\"version\":\"\",\"boot\":1,\"real\":1,\"cpus\":1,\"observe\":false,\"frozen\":false,"
	 "\"drained\":false,\"policy\":[]}",
	 "log:7:14: recording: expected an integer from 1 to 2, not 3"},
	{"{\"recording\":1}", "log:7:1: expected version in it"},
	{"{\"do\":\"explode\"}", "log:7:7: do: expected what happened, not \"explode\""},
	{"{\"do\":\"tick\"," RULES "," STATE "}", "log:7:1: expected at in it"},
	{"{\"at\":-1,\"do\":\"tick\"," RULES "," STATE "}",
	 "log:7:7: at: expected an integer from 0 to 9223372036854775807, not -1"},
	{"{\"at\":1,\"do\":\"tick\"," STATE "}", "log:7:1: expected answer in it"},
	{"{\"at\":1,\"do\":\"tick\"," RULES "}", "log:7:1: expected state in it"},
	{"{\"at\":1,\"do\":\"tick\"," VM "," RULES "," STATE "}",
	 "log:7:21: vm: unknown key; expected one of at, do, answer, state"},
	{"{\"at\":1,\"do\":\"freeze\",\"on\":1," RULES "," STATE "}", "log:7:28: on: expected true or false, not 1"},
	{"{\"at\":1,\"do\":\"ask\",\"vm\":\"x\",\"vcpu\":1," RULES "}", "log:7:25: vm: expected a UUID, not \"x\""},
	{"{\"at\":1,\"do\":\"ask\"," VM ",\"vcpu\":512," RULES "}",
	 "log:7:71: vcpu: expected an integer from 0 to 511, not 512"},
	{"{\"at\":1,\"do\":\"ask\"," VM ",\"vcpu\":1,\"answer\":{\"rule\":\"nun\"}}",
	 "log:7:90: answer.rule: expected the name of a rule, not \"nun\""},
	{"{\"at\":1,\"do\":\"ask\"," VM ",\"vcpu\":1,\"answer\":{\"rule\":\"none\",\"reason\":99}}",
	 "log:7:106: answer.reason: expected an integer from 0 to 10, not 99"},
	{"{\"at\":1,\"do\":\"tick\"," RULES ",\"state\":{" SUMS ",\"digest\":\"0123\"}}",
	 "log:7:147: state.digest: expected 16 hexadecimal digits, not \"0123\""},
	{"{\"at\":1,\"do\":\"remove\"}", "log:7:1: expected vm in it"},
	{"{\"at\":1,\"do\":\"published\"," VM ",\"generation\":true}",
	 "log:7:83: generation: expected an integer from 0 to 4294967295, not true"},
	{"{\"at\":1,\"do\":\"reshape\"," VM ",\"name\":\"a\",\"possible\":513}",
	 "log:7:90: possible: expected an integer from 1 to 512, not 513"},
	{"{\"at\":1,\"do\":\"reshape\"," VM ",\"name\":\"\",\"possible\":1}",
	 "log:7:75: name: expected a name, not \"\""},
	{"{\"at\":1,\"do\":\"reload\",\"observe\":true,\"policy\":[{\"file\":\"a\"}]}",
	 "log:7:48: policy[0]: expected text in it"},
};

START_TEST(wrong_lines_are_refused)
{
	struct recording_line line;
	char *error;

	ck_assert_int_eq(recording_read(&line, wrong[_i].line, strlen(wrong[_i].line), "log", 7, &error), -EINVAL);
	ck_assert_ptr_nonnull(error);
	ck_assert_str_eq(error, wrong[_i].error);
	free(error);
}
END_TEST

START_TEST(line_that_is_too_long)
{
	char *text = calloc(1, RECORDING_LINE_MAX + 1), *error;
	struct recording_line line;

	ck_assert_int_eq(recording_read(&line, text, RECORDING_LINE_MAX + 1, "log", 7, &error), -EINVAL);
	ck_assert_str_eq(error, "log:7: expected a line of at most 67108864 bytes");
	free(error);
	free(text);
}
END_TEST

/* Each line with one byte changed is read or refused, never worse: run with sanitizers. */
START_TEST(damaged_lines_are_survived)
{
	static const char replacements[] = "{}[]\",:\\0 x9-\x80";
	const char *text, *end;

	begin_live(3);
	for (unsigned i = 0; i < 60; i++)
		step();
	text = recorded.data;
	end = recorded.data + recorded.size;
	for (unsigned number = 1; text < end; number++) {
		size_t size = (size_t)((const char *)memchr(text, '\n', (size_t)(end - text)) - text);
		char *changed = malloc(size);

		for (size_t i = 0; i < size; i += 1 + draw(7)) {
			struct recording_line line;
			char *error;

			memcpy(changed, text, size);
			changed[i] = replacements[draw(sizeof(replacements))];
			if (recording_read(&line, changed, size, "log", number, &error) == 0)
				recording_line_clear(&line);
			else
				ck_assert_ptr_nonnull(error);
			free(error);
			if (recording_read(&line, text, i, "log", number, &error) == 0)
				recording_line_clear(&line);
			free(error);
		}
		free(changed);
		text += size + 1;
	}
	rig_clear(&live);
	free(recorded.data);
}
END_TEST

/* ---- files ---- */

static struct loop *loop;
static struct recorder *recorder;
static char directory[64];
static char *error;
static unsigned n_ended;
static int ended_error;
static char ended_why[512];

/* The recorder's writes come here, since the program's symbols go before the C library's. */
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;

ssize_t write(int fd, const void *bytes, size_t size)
{
	char link[64], path[256] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) > 0 && strstr(path, ".jsonl")) {
		pthread_mutex_lock(&disk);
		pthread_mutex_unlock(&disk);
	}
	return syscall(SYS_write, fd, bytes, size);
}

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	strcpy(directory, "/tmp/check-recorder-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	recorder = NULL;
	error = NULL;
	n_ended = 0;
	begin_live(5);
	recorded.size = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void teardown(void)
{
	recorder = recorder_close(recorder);
	loop = loop_free(loop);
	free(error);
	rig_clear(&live);
	rig_clear(&replay);
	free(recorded.data);
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void on_ended(int r, const char *why, void *userdata)
{
	n_ended++;
	ended_error = r;
	snprintf(ended_why, sizeof(ended_why), "%s", why);
	loop_quit(loop);
}

static void open_recorder(void)
{
	int r = recorder_open(&recorder, loop, directory, on_ended, NULL, &error);

	ck_assert_msg(r == 0, "%s", error ? error : strerror(-r));
}

static char *read_recording(const char *path, size_t *ret_size)
{
	char *text = malloc(32 << 20);
	FILE *f = fopen(path, "re");

	ck_assert_ptr_nonnull(f);
	*ret_size = fread(text, 1, 32 << 20, f);
	fclose(f);
	return text;
}

/* Every line is whole, and there are as many of them as this. */
static unsigned count_lines(const char *path)
{
	_cleanup_free_ char *text = NULL;
	unsigned n = 0;
	size_t size;

	text = read_recording(path, &size);
	for (const char *p = text; p < text + size; n++) {
		const char *newline = memchr(p, '\n', (size_t)(text + size - p));
		struct recording_line line;

		ck_assert_ptr_nonnull(newline);
		ck_assert_int_eq(recording_read(&line, p, (size_t)(newline - p), "log", n + 1, &error), 0);
		recording_line_clear(&line);
		p = newline + 1;
	}
	return n;
}

static void tick(unsigned n)
{
	const struct fleet_event event = {.kind = FLEET_TICK, .now = now};
	const struct fleet_answer answer = {0};

	while (n-- > 0)
		recorder_event(recorder, &live.f, &event, &answer);
}

START_TEST(file_has_what_was_recorded)
{
	char path[256];
	struct stat st;
	struct policy_subject subject = subject_of(&live.vms[1]);

	umask(0);
	open_recorder();
	snprintf(path, sizeof(path), "%s", recorder_path(recorder));
	ck_assert_int_eq(strncmp(path, directory, strlen(directory)), 0);
	recorder_header(recorder, &live.f, live.policy, 10);
	rig_add(&live, &live.vms[1], POSSIBLE, NULL, false, now);
	recorder_add(recorder, &live.vms[1].m, &subject, NULL, NULL, false, now);
	recorder_subject(recorder, &live.vms[1].m, &subject, now);
	recorder_published(recorder, &live.vms[1].m, now);
	recorder_reshape(recorder, &live.vms[1].m, now);
	recorder_reload(recorder, &live.f, live.policy, now);
	recorder_cpus(recorder, 7, now);
	tick(1);
	recorder_remove(recorder, &live.vms[1].m, now);
	recorder = recorder_close(recorder);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_uint_eq(count_lines(path), 9);
	ck_assert_uint_eq(n_ended, 0);
}
END_TEST

static void stop(void *userdata)
{
	loop_quit(loop);
}

static void await_size(off_t more_than)
{
	struct loop_timer *timer;
	uint64_t late = loop_now(loop) + DEADLINE;
	struct stat st = {0};

	ck_assert_int_eq(loop_timer_new(&timer, loop, stop, NULL), 0);
	while (st.st_size <= more_than && loop_now(loop) < late) {
		loop_timer_set(timer, loop_now(loop) + SECOND / 100);
		ck_assert_int_eq(loop_run(loop), 0);
		ck_assert_int_eq(stat(recorder_path(recorder), &st), 0);
	}
	loop_timer_free(timer);
	ck_assert_int_gt(st.st_size, more_than);
}

/* While the daemon runs, not only when it ends. */
START_TEST(lines_reach_the_file_while_it_runs)
{
	struct stat st;

	open_recorder();
	recorder_header(recorder, &live.f, live.policy, 10);
	await_size(0);
	for (unsigned i = 1; i <= 3; i++) { /* the thread waits by now */
		ck_assert_int_eq(stat(recorder_path(recorder), &st), 0);
		tick(10);
		await_size(st.st_size);
		ck_assert_uint_eq(count_lines(recorder_path(recorder)), 1 + 10 * i);
	}
}
END_TEST

START_TEST(directory_that_is_not_there)
{
	strcat(directory, "/missing");
	ck_assert_int_eq(recorder_open(&recorder, loop, directory, on_ended, NULL, &error), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, directory));
	ck_assert_ptr_nonnull(strstr(error, "No such file"));
	directory[strlen(directory) - 8] = '\0';
}
END_TEST

static void fail_late(void *userdata)
{
	ck_abort_msg("the end of the recording was not told");
}

static void await_end(void)
{
	struct loop_timer *timer;

	ck_assert_int_eq(loop_timer_new(&timer, loop, fail_late, NULL), 0);
	loop_timer_set(timer, loop_now(loop) + DEADLINE);
	ck_assert_int_eq(loop_run(loop), 0);
	loop_timer_free(timer);
	ck_assert_uint_eq(n_ended, 1);
}

START_TEST(full_disk_ends_it_with_a_whole_line)
{
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	open_recorder();
	recorder_header(recorder, &live.f, live.policy, 10);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 5000;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	tick(100);
	await_end();
	limit.rlim_cur = RLIM_INFINITY;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(ended_error, -EFBIG);
	ck_assert_ptr_nonnull(strstr(ended_why, recorder_path(recorder)));
	tick(100);
	/* what was one write is there as a whole or not at all */
	ck_assert_uint_le(count_lines(recorder_path(recorder)), 101);
}
END_TEST

/* The disk does not answer: the daemon goes on, the recording ends where the memory for it does. */
START_TEST(slow_disk_is_not_waited_for)
{
	char path[256];
	unsigned n = 0;

	open_recorder();
	snprintf(path, sizeof(path), "%s", recorder_path(recorder));
	pthread_mutex_lock(&disk);
	recorder_header(recorder, &live.f, live.policy, 10);
	while (n < 100000) {
		tick(1);
		n++;
	}
	await_end();
	ck_assert_int_eq(ended_error, -ENOBUFS);
	ck_assert_ptr_nonnull(strstr(ended_why, "as fast as they come"));
	pthread_mutex_unlock(&disk);
	recorder = recorder_close(recorder);
	ck_assert_uint_gt(count_lines(path), 1000);
	ck_assert_uint_lt(count_lines(path), n);
	ck_assert_uint_eq(n_ended, 1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recorder");
	TCase *tc = tcase_create("recording");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, what_is_recorded_makes_the_same_host_again);
	tcase_add_test(tc, digest_tells_hosts_apart);
	tcase_add_test(tc, line_that_does_not_fit_leaves_no_part);
	tcase_add_loop_test(tc, wrong_lines_are_refused, 0, (int)ARRAY_SIZE(wrong));
	tcase_add_test(tc, line_that_is_too_long);
	tcase_add_test(tc, damaged_lines_are_survived);
	suite_add_tcase(suite, tc);
	tc = tcase_create("recorder");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, file_has_what_was_recorded);
	tcase_add_test(tc, lines_reach_the_file_while_it_runs);
	tcase_add_test(tc, directory_that_is_not_there);
	tcase_add_test(tc, full_disk_ends_it_with_a_whole_line);
	tcase_add_test(tc, slow_disk_is_not_waited_for);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
