/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * A line is read as strictly as a configuration: by a table of all keys, from which those are taken that belong to the
 * line's kind, and for an event to what that event has. Values are read into one flat structure and then put where they
 * belong.
 */

#include <stdio.h>
#include <string.h>

#include "daemon/core/uuid.h"
#include "daemon/json_table.h"
#include "daemon/recording_private.h"
#include "daemon/util.h"
#include "proto/text.h"

#define HAS_STATE  (1u << 30) /* beside enum recording_argument */
#define HEX_MAX    ((CPUPOLICY_MAX_VCPUS + 7) / 8)
#define MAX_FIELDS 32

struct hex {
	uint8_t bytes[HEX_MAX];
	size_t size;
};

struct vcpu_list {
	struct cpupolicy_vcpu *vcpus;
	uint32_t n;
};

struct raw_record {
	bool given;
	bool alive;
	struct store_vm vm;
	struct hex enabled, wanted;
};

struct raw {
	uint32_t recording;
	char *version;
	char *what;
	struct recording_line line; /* what goes there as it is */
	uint32_t reason, ost_event, ost_status, cause, run_state, flags, boot, epoch, generation;
	bool gone, ok, on, spent;
	uint64_t revision, job;
	int64_t balance;
	struct hex granted;
	struct vcpu_list vcpus;
	struct raw_record record;
};

/* ---- values ---- */

static int read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);

	if (!text || uuid_parse(to, text) < 0 || uuid_is_nil(to))
		return json_table_expected(reader, value, "a UUID");
	return 0;
}

static const char *check_name(const char *text)
{
	const char *why;

	return cpupolicy_text_check_name(text, &why) < 0 ? "a name" : NULL;
}

static const char *check_any(const char *text)
{
	return NULL;
}

static int read_text_or_null(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	return json_is_null(value) ? 0 : json_read_text(reader, row, value, to);
}

static int read_rule(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);

	for (unsigned rule = 0; text && rule <= RULE_MAX; rule++)
		if (strcmp(rule_name(rule), text) == 0) {
			*(enum rule *)to = rule;
			return 0;
		}
	return json_table_expected(reader, value, "the name of a rule");
}

/* Enumerators are stored as the int that the compiler makes of them. */
static int read_enum(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	uint32_t n = 0;
	int r = json_read_u32(reader, row, value, &n);

	if (r >= 0)
		*(unsigned *)to = n;
	return r;
}

_Static_assert(sizeof(enum cpupolicy_reason) == sizeof(unsigned) && sizeof(enum job_result) == sizeof(unsigned),
	       "read_enum()");

static int read_psci(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < INT32_MIN || n > INT32_MAX)
		return json_table_expected(reader, value, "a result of PSCI");
	*(int32_t *)to = (int32_t)n;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_hex(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	size_t length = text ? strlen(text) : 1;
	struct hex hex = {.size = length / 2};

	if (length % 2 != 0 || hex.size > sizeof(hex.bytes))
		return json_table_expected(reader, value, "bytes in hexadecimal digits");
	for (size_t i = 0; i < length; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return json_table_expected(reader, value, "bytes in hexadecimal digits");
		hex.bytes[i / 2] = (uint8_t)(hex.bytes[i / 2] << 4 | digit);
	}
	*(struct hex *)to = hex;
	return 0;
}

static int read_digest(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct hex hex = {.size = 0};
	uint64_t digest = 0;
	int r = read_hex(reader, row, value, &hex);

	if (r >= 0 && hex.size != sizeof(digest))
		r = json_table_expected(reader, value, "16 hexadecimal digits");
	for (size_t i = 0; i < hex.size; i++)
		digest = digest << 8 | hex.bytes[i];
	if (r >= 0)
		*(uint64_t *)to = digest;
	return r;
}

/* [mpidr, flags] */
static int read_vcpu(struct json_reader *reader, json_t *value, struct cpupolicy_vcpu *ret)
{
	json_t *mpidr = json_array_get(value, 0), *flags = json_array_get(value, 1);

	if (json_array_size(value) != 2 || !json_is_integer(mpidr) || json_integer_value(mpidr) < 0 ||
	    !json_is_integer(flags) || json_integer_value(flags) < 0 ||
	    json_integer_value(flags) > (json_int_t)CPUPOLICY_VCPU_FLAGS)
		return json_table_fail(reader, false, "expected an MPIDR and flags");
	*ret = (struct cpupolicy_vcpu){
		.mpidr = (uint64_t)json_integer_value(mpidr),
		.flags = (uint32_t)json_integer_value(flags),
	};
	return 0;
}

static int read_vcpus(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct vcpu_list *list = to;
	json_t *element;
	size_t i;

	if (json_array_size(value) < 1 || json_array_size(value) > CPUPOLICY_MAX_VCPUS)
		return json_table_fail(reader, false, "expected an array of 1 to %u vCPUs", CPUPOLICY_MAX_VCPUS);
	list->vcpus = calloc(json_array_size(value), sizeof(*list->vcpus));
	if (!list->vcpus)
		return -ENOMEM;
	json_array_foreach(value, i, element) {
		int r;

		json_table_push(reader, NULL, i);
		r = read_vcpu(reader, element, &list->vcpus[i]);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	list->n = (uint32_t)json_array_size(value);
	return 0;
}

/* ---- objects ---- */

static const struct json_row source_rows[] = {
	{.key = "file",
	 .read = json_read_text,
	 JSON_MEMBER(struct policy_source, file),
	 .check = check_any,
	 .required = true},
	{.key = "text",
	 .read = json_read_text,
	 JSON_MEMBER(struct policy_source, text),
	 .check = check_any,
	 .required = true},
	{0},
};

static int read_policy(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct recording_line *line = to;
	json_t *element;
	size_t i;

	if (!json_is_array(value))
		return json_table_expected(reader, value, "an array");
	line->sources = calloc(json_array_size(value) + 1, sizeof(*line->sources));
	if (!line->sources)
		return -ENOMEM;
	json_array_foreach(value, i, element) {
		int r;

		json_table_push(reader, NULL, i);
		r = json_table_read(reader, source_rows, element, &line->sources[line->n_sources++]);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	return 0;
}

#define ANSWER(member) JSON_MEMBER(struct recording_answer, member)

static const struct json_row answer_rows[] = {
	{.key = "rule", .read = read_rule, ANSWER(rule), .required = true},
	{.key = "psci", .read = read_psci, ANSWER(verdict.psci)},
	{.key = "reason", .read = read_enum, ANSWER(verdict.reason), .max = CPUPOLICY_REASON_MAX},
	{.key = "would", .read = read_enum, ANSWER(verdict.would), .max = CPUPOLICY_REASON_MAX},
	{.key = "superseded", .read = json_read_u64, ANSWER(superseded), .max = INT64_MAX},
	{.key = "would_refuse", .read = json_read_bool, ANSWER(would_refuse)},
	{0},
};

#define SUMS(member) JSON_MEMBER(struct ledger_sums, member)

static const struct json_row sums_rows[] = {
	{.key = "reserved", .read = json_read_u64, SUMS(reserved), .max = INT64_MAX, .required = true},
	{.key = "guaranteed", .read = json_read_u64, SUMS(guaranteed), .max = INT64_MAX, .required = true},
	{.key = "allowed", .read = json_read_u64, SUMS(allowed), .max = INT64_MAX, .required = true},
	{.key = "held", .read = json_read_u64, SUMS(held), .max = INT64_MAX, .required = true},
	{.key = "occupied", .read = json_read_u64, SUMS(occupied), .max = INT64_MAX, .required = true},
	{.key = "overdue", .read = json_read_u64, SUMS(overdue), .max = INT64_MAX, .required = true},
	{0},
};

#define STATE(member) JSON_MEMBER(struct recording_state, member)

static const struct json_row host_state_rows[] = {
	{.key = "host", .read = json_read_object, STATE(sums), .rows = sums_rows, .required = true},
	{.key = "digest", .read = read_digest, STATE(digest), .required = true},
	{0},
};

static const struct json_row vm_state_rows[] = {
	{.key = "desired", .read = json_read_u32, STATE(desired), .max = UINT32_MAX, .required = true},
	{.key = "allowance", .read = json_read_u32, STATE(allowance), .max = UINT32_MAX, .required = true},
	{.key = "target", .read = json_read_u32, STATE(target), .max = UINT32_MAX, .required = true},
	{.key = "held", .read = json_read_u32, STATE(held), .max = UINT32_MAX, .required = true},
	{.key = "overdue", .read = json_read_u32, STATE(overdue), .max = UINT32_MAX, .required = true},
	{.key = "bound", .read = read_rule, STATE(bound), .required = true},
	{.key = "balance", .read = json_read_i64, STATE(balance), .required = true},
	{.key = "guaranteed_ns", .read = json_read_u64, STATE(guaranteed_ns), .max = INT64_MAX, .required = true},
	{.key = "burst_ns", .read = json_read_u64, STATE(burst_ns), .max = INT64_MAX, .required = true},
	{.key = "job", .read = json_read_u64, STATE(job), .max = INT64_MAX, .required = true},
	{.key = "host", .read = json_read_object, STATE(sums), .rows = sums_rows, .required = true},
	{.key = "digest", .read = read_digest, STATE(digest), .required = true},
	{0},
};

static int read_state(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct recording_state *state = to;

	return json_table_read(reader, state->of_vm ? vm_state_rows : host_state_rows, value, state);
}

#define JOB(member) JSON_MEMBER(struct job, member)

static const struct json_row job_rows[] = {
	{.key = "id", .read = json_read_u64, JOB(id), .min = 1, .max = INT64_MAX, .required = true},
	{.key = "from", .read = json_read_u32, JOB(from), .max = UINT32_MAX, .required = true},
	{.key = "to", .read = json_read_u32, JOB(to), .max = UINT32_MAX, .required = true},
	{.key = "result", .read = read_enum, JOB(result), .max = JOB_RESULT_MAX, .required = true},
	{.key = "uid", .read = json_read_u32, JOB(uid), .max = UINT32_MAX, .required = true},
	{0},
};

#define ROW(member) JSON_MEMBER(struct usage_row, member)

static const struct json_row usage_rows[] = {
	{.key = "number", .read = json_read_u64, ROW(number), .min = 1, .max = INT64_MAX, .required = true},
	{.key = "begin", .read = json_read_u64, ROW(begin), .max = INT64_MAX, .required = true},
	{.key = "end", .read = json_read_u64, ROW(end), .max = INT64_MAX, .required = true},
	{.key = "guaranteed_ns", .read = json_read_u64, ROW(guaranteed_ns), .max = INT64_MAX, .required = true},
	{.key = "burst_ns", .read = json_read_u64, ROW(burst_ns), .max = INT64_MAX, .required = true},
	{0},
};

#define RECORD(member) JSON_MEMBER(struct raw_record, member)

static const struct json_row record_rows[] = {
	{.key = "alive", .read = json_read_bool, RECORD(alive), .required = true},
	{.key = "stopped", .read = json_read_bool, RECORD(vm.stopped), .required = true},
	{.key = "boot", .read = json_read_u32, RECORD(vm.boot), .max = CPUPOLICY_MAX_VCPUS, .required = true},
	{.key = "desired", .read = json_read_u32, RECORD(vm.desired), .max = UINT32_MAX, .required = true},
	{.key = "desired_set", .read = json_read_bool, RECORD(vm.desired_set), .required = true},
	{.key = "boot_removable", .read = json_read_bool, RECORD(vm.boot_removable), .required = true},
	{.key = "notify", .read = json_read_bool, RECORD(vm.notify), .required = true},
	{.key = "epoch", .read = json_read_u32, RECORD(vm.epoch), .max = UINT32_MAX, .required = true},
	{.key = "enabled", .read = read_hex, RECORD(enabled), .required = true},
	{.key = "wanted", .read = read_hex, RECORD(wanted), .required = true},
	{.key = "job", .read = json_read_object, RECORD(vm.job), .rows = job_rows},
	{.key = "last_job", .read = json_read_object, RECORD(vm.last_job), .rows = job_rows},
	{.key = "credit_opened", .read = json_read_bool, RECORD(vm.meters.credit_opened), .required = true},
	{.key = "credit_spent", .read = json_read_bool, RECORD(vm.meters.credit_spent), .required = true},
	{.key = "balance", .read = json_read_i64, RECORD(vm.meters.balance), .required = true},
	{.key = "metered_at", .read = json_read_u64, RECORD(vm.meters.at), .max = INT64_MAX, .required = true},
	{.key = "row", .read = json_read_object, RECORD(vm.meters.row), .rows = usage_rows},
	{.key = "last_row", .read = json_read_u64, RECORD(vm.meters.last_row), .max = INT64_MAX, .required = true},
	{0},
};

static int read_record(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct raw_record *record = to;

	record->given = true;
	return json_table_read(reader, record_rows, value, record);
}

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
	 .row = {.key = "version", .read = json_read_text, RAW(version), .check = check_any, .required = true}},
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
	 .row = {.key = "policy", .read = read_policy, RAW(line), .required = true}},
	{.kinds = ANY_KIND, .row = {.key = "at", .read = json_read_u64, LINE(at), .max = INT64_MAX, .required = true}},
	{.kinds = ANY_KIND,
	 .row = {.key = "do", .read = json_read_text, RAW(what), .check = check_any, .required = true}},
	{.kinds = OF_VM,
	 .arguments = RECORDING_OF_VM,
	 .row = {.key = "vm", .read = read_uuid, LINE(uuid), .required = true}},
	{.kinds = KIND(ADD) | KIND(RESHAPE) | KIND(SUBJECT),
	 .row = {.key = "name", .read = json_read_text, LINE(name), .check = check_name, .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .arguments = RECORDING_ASSIGNMENT,
	 .row = {.key = "class", .read = read_text_or_null, LINE(class), .check = check_name, .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .arguments = RECORDING_ASSIGNMENT,
	 .row = {.key = "tenant", .read = read_text_or_null, LINE(tenant), .check = check_name, .required = true}},
	{.kinds = KIND(ADD) | KIND(SUBJECT),
	 .row = {.key = "uid", .read = json_read_u32, LINE(uid), .max = UINT32_MAX, .required = true}},
	{.kinds = KIND(ADD) | KIND(RESHAPE),
	 .row = {.key = "possible",
		 .read = json_read_u32,
		 LINE(possible),
		 .min = 1,
		 .max = CPUPOLICY_MAX_VCPUS,
		 .required = true}},
	{.kinds = KIND(ADD), .row = {.key = "record", .read = read_record, RAW(record)}},
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
	{.arguments = RECORDING_VCPUS, .row = {.key = "vcpus", .read = read_vcpus, RAW(vcpus), .required = true}},
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
	{.arguments = RECORDING_STORED, .row = {.key = "granted", .read = read_hex, RAW(granted)}},
	{.arguments = RECORDING_JOB,
	 .row = {.key = "job", .read = json_read_u64, RAW(job), .min = 1, .max = INT64_MAX, .required = true}},
	{.arguments = RECORDING_BALANCE,
	 .row = {.key = "balance", .read = json_read_i64, RAW(balance), .required = true}},
	{.arguments = RECORDING_BALANCE, .row = {.key = "spent", .read = json_read_bool, RAW(spent), .required = true}},
	{.arguments = RECORDING_ON, .row = {.key = "on", .read = json_read_bool, RAW(on), .required = true}},
	{.kinds = KIND(EVENT),
	 .row = {.key = "answer", .read = json_read_object, LINE(answer), .rows = answer_rows, .required = true}},
	{.arguments = HAS_STATE, .row = {.key = "state", .read = read_state, LINE(state), .required = true}},
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

static int copy_bits(struct json_reader *reader, const struct hex *hex, uint32_t possible, uint8_t **ret)
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
	store_vm_clear(&line->record);
	free(line->vcpus);
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
