/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A line is read as strictly as a configuration: by a table of all keys, from which those are taken that belong to the
 * line's kind, and for an event to what that event has. Values are read into one flat structure and then put where they
 * belong.
 */

#include <stdio.h>
#include <string.h>

#include "daemon/settings/json_table.h"
#include "daemon/recording/recording_object.h"
#include "daemon/recording/recording_private.h"
#include "daemon/base/util.h"

#define HAS_STATE  (1u << 30) /* beside enum recording_argument */
#define MAX_FIELDS 32

struct raw {
	uint32_t recording;
	char *version;
	char *what;
	struct recording_line line; /* what goes there as it is */
	uint32_t reason, ost_event, ost_status, cause, run_state, flags, boot, epoch, generation;
	bool gone, ok, on, spent;
	uint64_t revision, job;
	uint32_t millis;
	int64_t balance;
	struct recording_hex granted;
	struct recording_vcpus vcpus;
	struct recording_record record;
};

/* ---- lines ---- */

#define KIND(kind)   (1u << RECORDING_##kind)
#define ANY_KIND     (~KIND(HEADER))
#define OF_VM        (KIND(ADD) | KIND(RESHAPE) | KIND(SUBJECT) | KIND(PUBLISHED) | KIND(REMOVE))
#define RAW(member)  JSON_MEMBER(struct raw, member)
#define LINE(member) RAW(line.member)

/* A key belongs to lines of these kinds, and to events with one of these arguments. */
static const struct field {
	unsigned kinds;
	unsigned arguments;
	struct json_row row;
} fields[] = {
	{.kinds = KIND(HEADER),
	 .row = {.key = "recording",
		 .read = json_read_u32,
		 RAW(recording),
		 .min = 1,
		 .max = RECORDING_VERSION,
		 .required = true}},
	{.kinds = KIND(HEADER),
	 .row = {.key = "version",
		 .read = json_read_text,
		 RAW(version),
		 .check = recording_check_any,
		 .required = true}},
	{.kinds = KIND(HEADER),
	 .arguments = RECORDING_CLOCK,
	 .row = {.key = "boot", .read = json_read_u64, LINE(clock.boot), .max = INT64_MAX, .required = true}},
	{.kinds = KIND(HEADER),
	 .arguments = RECORDING_CLOCK,
	 .row = {.key = "real", .read = json_read_u64, LINE(clock.real), .max = INT64_MAX, .required = true}},
	{.kinds = KIND(HEADER) | KIND(CPUS),
	 .row = {.key = "cpus", .read = json_read_u32, LINE(cpus), .max = UINT32_MAX, .required = true}},
	{.kinds = KIND(HEADER),
	 .row = {.key = "capacity", .read = json_read_u32, LINE(capacity), .min = 1, .max = UINT32_MAX}},
	{.kinds = KIND(HEADER) | KIND(RELOAD),
	 .row = {.key = "observe", .read = json_read_bool, LINE(observe), .required = true}},
	{.kinds = KIND(HEADER), .row = {.key = "frozen", .read = json_read_bool, LINE(frozen), .required = true}},
	{.kinds = KIND(HEADER), .row = {.key = "drained", .read = json_read_bool, LINE(drained), .required = true}},
	{.kinds = KIND(HEADER) | KIND(RELOAD),
	 .row = {.key = "policy", .read = recording_read_policy, RAW(line), .required = true}},
	{.kinds = ANY_KIND, .row = {.key = "at", .read = json_read_u64, LINE(at), .max = INT64_MAX, .required = true}},
	{.kinds = ANY_KIND,
	 .row = {.key = "do", .read = json_read_text, RAW(what), .check = recording_check_any, .required = true}},
	{.kinds = OF_VM,
	 .arguments = RECORDING_OF_VM,
	 .row = {.key = "vm", .read = recording_read_uuid, LINE(uuid), .required = true}},
	{.kinds = KIND(ADD) | KIND(RESHAPE) | KIND(SUBJECT),
	 .row = {.key = "name", .read = json_read_text, LINE(name), .check = recording_check_name, .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .arguments = RECORDING_ASSIGNMENT,
	 .row = {.key = "class",
		 .read = recording_read_text_or_null,
		 LINE(class),
		 .check = recording_check_name,
		 .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .arguments = RECORDING_ASSIGNMENT,
	 .row = {.key = "tenant",
		 .read = recording_read_text_or_null,
		 LINE(tenant),
		 .check = recording_check_name,
		 .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .row = {.key = "announced_class",
		 .read = json_read_text,
		 LINE(announced_class),
		 .check = recording_check_name}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .row = {.key = "announced_tenant",
		 .read = json_read_text,
		 LINE(announced_tenant),
		 .check = recording_check_name}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .row = {.key = "uid", .read = json_read_u32, LINE(uid), .max = UINT32_MAX, .required = true}},
	{.kinds = KIND(ADD) | KIND(RESHAPE),
	 .row = {.key = "possible",
		 .read = json_read_u32,
		 LINE(possible),
		 .min = 1,
		 .max = CPUPOLICY_MAX_VCPUS,
		 .required = true}},
	{.kinds = KIND(ADD), .row = {.key = "record", .read = recording_read_record, RAW(record)}},
	{.kinds = KIND(PUBLISHED),
	 .row = {.key = "generation", .read = json_read_u32, LINE(generation), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_VCPU,
	 .row = {.key = "vcpu",
		 .read = json_read_u32,
		 LINE(event.vcpu),
		 .max = CPUPOLICY_MAX_VCPUS - 1,
		 .required = true}},
	{.arguments = RECORDING_COUNT,
	 .row = {.key = "count", .read = json_read_u32, LINE(event.count), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_REASON,
	 .row = {.key = "reason", .read = json_read_u32, RAW(reason), .max = CPUPOLICY_REASON_MAX, .required = true}},
	{.arguments = RECORDING_OST,
	 .row = {.key = "ost_event", .read = json_read_u32, RAW(ost_event), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_OST,
	 .row = {.key = "ost_status", .read = json_read_u32, RAW(ost_status), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_CAUSE,
	 .row = {.key = "cause",
		 .read = json_read_u32,
		 RAW(cause),
		 .min = CPUPOLICY_EJECT_REQUESTED,
		 .max = CPUPOLICY_EJECT_RESET,
		 .required = true}},
	{.arguments = RECORDING_RUN_STATE,
	 .row = {.key = "run_state",
		 .read = json_read_u32,
		 RAW(run_state),
		 .min = CPUPOLICY_RUN_RUNNING,
		 .max = CPUPOLICY_RUN_INACTIVE,
		 .required = true}},
	{.arguments = RECORDING_VCPUS,
	 .row = {.key = "vcpus", .read = recording_read_vcpus, RAW(vcpus), .required = true}},
	{.arguments = RECORDING_REGISTRATION,
	 .row = {.key = "flags", .read = json_read_u32, RAW(flags), .max = CPUPOLICY_REG_FLAGS, .required = true}},
	{.arguments = RECORDING_REGISTRATION,
	 .row = {.key = "boot",
		 .read = json_read_u32,
		 RAW(boot),
		 .min = 1,
		 .max = CPUPOLICY_MAX_VCPUS,
		 .required = true}},
	{.arguments = RECORDING_GONE, .row = {.key = "gone", .read = json_read_bool, RAW(gone), .required = true}},
	{.arguments = RECORDING_CONFIRM,
	 .row = {.key = "epoch", .read = json_read_u32, RAW(epoch), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_CONFIRM,
	 .row = {.key = "generation", .read = json_read_u32, RAW(generation), .max = UINT32_MAX, .required = true}},
	{.arguments = RECORDING_STORED,
	 .row = {.key = "revision", .read = json_read_u64, RAW(revision), .max = INT64_MAX, .required = true}},
	{.arguments = RECORDING_STORED, .row = {.key = "ok", .read = json_read_bool, RAW(ok), .required = true}},
	{.arguments = RECORDING_STORED, .row = {.key = "granted", .read = recording_read_hex, RAW(granted)}},
	{.arguments = RECORDING_JOB,
	 .row = {.key = "job", .read = json_read_u64, RAW(job), .min = 1, .max = INT64_MAX, .required = true}},
	{.arguments = RECORDING_JOB,
	 .row = {.key = "millis", .read = json_read_u32, RAW(millis), .min = 1, .max = UINT32_MAX}},
	{.arguments = RECORDING_BALANCE,
	 .row = {.key = "balance", .read = json_read_i64, RAW(balance), .required = true}},
	{.arguments = RECORDING_BALANCE, .row = {.key = "spent", .read = json_read_bool, RAW(spent), .required = true}},
	{.arguments = RECORDING_ON, .row = {.key = "on", .read = json_read_bool, RAW(on), .required = true}},
	{.kinds = KIND(EVENT),
	 .row = {.key = "answer",
		 .read = json_read_object,
		 LINE(answer),
		 .rows = recording_answer_rows,
		 .required = true}},
	{.arguments = HAS_STATE, .row = {.key = "state", .read = recording_read_state, LINE(state), .required = true}},
};

static int find_event(const char *what, enum fleet_event_kind *ret)
{
	for (unsigned kind = FLEET_START; kind <= FLEET_EVENT_MAX; kind++)
		if (strcmp(fleet_event_name(kind), what) == 0) {
			*ret = kind;
			return 0;
		}
	return -ENOENT;
}

/* The line's kind, before the rest of it is looked at. */
static int find_kind(struct json_reader *reader, json_t *root, struct recording_line *line)
{
	static const struct {
		const char *what;
		enum recording_kind kind;
	} kinds[] = {
		{"add", RECORDING_ADD},         {"reshape", RECORDING_RESHAPE},
		{"subject", RECORDING_SUBJECT}, {"published", RECORDING_PUBLISHED},
		{"remove", RECORDING_REMOVE},   {"reload", RECORDING_RELOAD},
		{"cpus", RECORDING_CPUS},
	};
	json_t *value = json_object_get(root, "do");
	const char *what = json_string_value(value);

	if (!json_is_object(root))
		return json_table_expected(reader, root, "an object");
	if (json_object_get(root, "recording")) {
		line->kind = RECORDING_HEADER;
		return 0;
	}
	if (!what)
		return json_table_fail(reader, false, "expected do in it, or recording");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].what, what) == 0) {
			line->kind = kinds[i].kind;
			return 0;
		}
	line->kind = RECORDING_EVENT;
	if (find_event(what, &line->event.kind) >= 0)
		return 0;
	json_table_enter(reader, root, "do");
	return json_table_expected(reader, value, "what happened");
}

static void select_rows(const struct recording_line *line, struct json_row rows[static MAX_FIELDS])
{
	unsigned arguments = 0;
	size_t n = 0;

	if (line->kind == RECORDING_EVENT) {
		arguments = recording_arguments(line->event.kind);
		if (recording_has_state(line->event.kind))
			arguments |= HAS_STATE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fields) && n < MAX_FIELDS - 1; i++)
		if ((fields[i].kinds & 1u << line->kind) || (fields[i].arguments & arguments))
			rows[n++] = fields[i].row;
	rows[n] = (struct json_row){0};
}

/* ---- where it belongs ---- */

static int copy_bits(struct json_reader *reader, const struct recording_hex *hex, uint32_t possible, uint8_t **ret)
{
	if (hex->size != (possible + 7) / 8)
		return json_table_fail(reader, false, "expected a bit for each of %u vCPUs in the record", possible);
	*ret = malloc(hex->size);
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, hex->bytes, hex->size);
	return 0;
}

static int place_record(struct json_reader *reader, struct raw *raw)
{
	struct recording_line *line = &raw->line;
	struct store_vm *vm = &line->record;
	int r;

	if (!raw->record.given)
		return 0;
	*vm = raw->record.vm;
	line->restored = true;
	line->handover = raw->record.handover;
	raw->record.handover.vcpus = NULL;
	line->alive = raw->record.alive;
	memcpy(vm->uuid, line->uuid, sizeof(vm->uuid));
	vm->possible = line->possible;
	vm->uid = line->uid;
	if (vm->boot > vm->possible)
		return json_table_fail(reader, false, "expected a boot set of possible vCPUs in the record");
	r = json_replace_text(&vm->name, line->name);
	if (r >= 0)
		r = copy_bits(reader, &raw->record.enabled, vm->possible, &vm->enabled);
	if (r >= 0)
		r = copy_bits(reader, &raw->record.wanted, vm->possible, &vm->wanted);
	return r;
}

static int place_granted(struct json_reader *reader, struct raw *raw)
{
	struct recording_line *line = &raw->line;

	if (raw->ok != (raw->granted.size > 0))
		return json_table_fail(reader, false, "expected granted in it, if and only if ok");
	line->event.revision = raw->revision;
	line->event.ok = raw->ok;
	if (!raw->ok)
		return 0;
	line->granted = malloc(raw->granted.size);
	if (!line->granted)
		return -ENOMEM;
	memcpy(line->granted, raw->granted.bytes, raw->granted.size);
	line->granted_size = raw->granted.size;
	line->event.granted = line->granted;
	return 0;
}

/* The event will point to it where the line comes to rest. */
static void place_registration(struct raw *raw)
{
	struct recording_line *line = &raw->line;

	line->registration = (struct vm_registration){
		.flags = raw->flags,
		.boot = raw->boot,
		.run_state = raw->run_state,
		.vcpus = line->vcpus,
	};
}

/* At most one member of the event's union, which its kind names. */
static int place_event(struct json_reader *reader, struct raw *raw)
{
	struct recording_line *line = &raw->line;
	struct fleet_event *event = &line->event;
	unsigned arguments = recording_arguments(event->kind);

	event->now = line->at;
	line->vcpus = TAKE(raw->vcpus.vcpus);
	line->n_vcpus = raw->vcpus.n;
	if (arguments & RECORDING_REGISTRATION) {
		place_registration(raw);
	} else if (arguments & (RECORDING_RUN_STATE | RECORDING_VCPUS)) {
		event->run_state = raw->run_state;
		event->vcpus = line->vcpus;
	} else if (arguments & RECORDING_STORED) {
		return place_granted(reader, raw);
	} else if (arguments & RECORDING_REASON) {
		event->reason = raw->reason;
	} else if (arguments & RECORDING_OST) {
		event->ost_event = raw->ost_event;
		event->ost_status = raw->ost_status;
	} else if (arguments & RECORDING_CAUSE) {
		event->cause = raw->cause;
	} else if (arguments & RECORDING_GONE) {
		event->gone = raw->gone;
	} else if (arguments & RECORDING_CONFIRM) {
		event->epoch = raw->epoch;
		event->generation = raw->generation;
	} else if (arguments & RECORDING_JOB) {
		event->job = raw->job;
		event->millis = raw->millis;
	} else if (arguments & RECORDING_BALANCE) {
		event->balance = raw->balance;
		event->spent = raw->spent;
	} else if (arguments & RECORDING_ON) {
		event->on = raw->on;
	} else if (arguments & RECORDING_CLOCK) {
		event->clock = line->clock;
	}
	return 0;
}

static int read_root(struct json_reader *reader, json_t *root, struct raw *raw)
{
	struct json_row rows[MAX_FIELDS];
	struct recording_line *line = &raw->line;
	int r = find_kind(reader, root, line);

	if (r < 0)
		return r;
	if (line->kind == RECORDING_EVENT)
		line->state.of_vm = recording_arguments(line->event.kind) & RECORDING_OF_VM;
	line->capacity = FLEET_UNLIMITED;
	line->state.quota = VM_QUOTA_NONE;
	select_rows(line, rows);
	r = json_table_read(reader, rows, root, raw);
	if (r < 0)
		return r;
	switch (line->kind) {
	case RECORDING_HEADER:
		line->at = line->clock.boot;
		return 0;
	case RECORDING_ADD:
		return place_record(reader, raw);
	case RECORDING_EVENT:
		return place_event(reader, raw);
	default:
		return 0;
	}
}

void recording_line_clear(struct recording_line *line)
{
	for (size_t i = 0; i < line->n_sources; i++) {
		free(line->sources[i].file);
		free(line->sources[i].text);
	}
	free(line->sources);
	free(line->name);
	free(line->class);
	free(line->tenant);
	free(line->announced_class);
	free(line->announced_tenant);
	store_vm_clear(&line->record);
	free(line->vcpus);
	free(line->handover.vcpus);
	free(line->granted);
	*line = (struct recording_line){0};
}

int recording_read(struct recording_line *ret, const char *line, size_t size, const char *file, unsigned number,
		   char **ret_error)
{
	struct json_reader reader = {.file = file, .line = number - 1};
	_cleanup_(json_decrefp) json_t *root = NULL;
	_cleanup_free_ char *text = NULL;
	struct raw raw = {0};
	int r = -ENOMEM;

	*ret_error = NULL;
	if (size > RECORDING_LINE_MAX) {
		if (asprintf(ret_error, "%s:%u: expected a line of at most %u bytes", file, number,
			     RECORDING_LINE_MAX) < 0)
			*ret_error = NULL;
		return -EINVAL;
	}
	text = malloc(size + 1);
	if (text) {
		memcpy(text, line, size);
		text[size] = '\0';
		reader.text = text;
		r = json_table_parse(&reader, size, &root);
	}
	if (r >= 0)
		r = read_root(&reader, root, &raw);
	free(raw.version);
	free(raw.what);
	free(raw.vcpus.vcpus);
	free(raw.record.handover.vcpus);
	if (r < 0) {
		*ret_error = reader.error;
		recording_line_clear(&raw.line);
		return r;
	}
	*ret = raw.line;
	if (ret->kind == RECORDING_EVENT && (recording_arguments(ret->event.kind) & RECORDING_REGISTRATION))
		ret->event.registration = &ret->registration;
	return 0;
}
