/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/recording/recording_object.h"
#include "daemon/handover/handover_core.h"

#include <string.h>

#include "daemon/core/uuid.h"
#include "daemon/base/util.h"
#include "proto/text.h"

/* ---- values ---- */

int recording_read_uuid(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);

	if (!text || uuid_parse(to, text) < 0 || uuid_is_nil(to))
		return json_table_expected(reader, value, "a UUID");
	return 0;
}

const char *recording_check_name(const char *text)
{
	const char *why;

	return cpupolicy_text_check_name(text, &why) < 0 ? "a name" : NULL;
}

const char *recording_check_any(const char *text)
{
	return NULL;
}

int recording_read_text_or_null(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
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

_Static_assert(sizeof(enum cpupolicy_reason) == sizeof(unsigned) && sizeof(enum job_result) == sizeof(unsigned) &&
		       sizeof(enum cpupolicy_means) == sizeof(unsigned),
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

int recording_read_hex(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	const char *text = json_string_value(value);
	size_t length = text ? strlen(text) : 1;
	struct recording_hex hex = {.size = length / 2};

	if (length % 2 != 0 || hex.size > sizeof(hex.bytes))
		return json_table_expected(reader, value, "bytes in hexadecimal digits");
	for (size_t i = 0; i < length; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return json_table_expected(reader, value, "bytes in hexadecimal digits");
		hex.bytes[i / 2] = (uint8_t)(hex.bytes[i / 2] << 4 | digit);
	}
	*(struct recording_hex *)to = hex;
	return 0;
}

static int read_digest(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct recording_hex hex = {.size = 0};
	uint64_t digest = 0;
	int r = recording_read_hex(reader, row, value, &hex);

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

int recording_read_vcpus(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct recording_vcpus *list = to;
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
	 .check = recording_check_any,
	 .required = true},
	{.key = "text",
	 .read = json_read_text,
	 JSON_MEMBER(struct policy_source, text),
	 .check = recording_check_any,
	 .required = true},
	{0},
};

int recording_read_policy(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
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

const struct json_row recording_answer_rows[] = {
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
	{.key = "quota", .read = json_read_u32, STATE(quota), .max = UINT32_MAX - 1},
	{.key = "host", .read = json_read_object, STATE(sums), .rows = sums_rows, .required = true},
	{.key = "digest", .read = read_digest, STATE(digest), .required = true},
	{0},
};

int recording_read_state(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
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

#define RECORD(member) JSON_MEMBER(struct recording_record, member)

static const struct json_row record_rows[] = {
	{.key = "alive", .read = json_read_bool, RECORD(alive), .required = true},
	{.key = "stopped", .read = json_read_bool, RECORD(vm.stopped), .required = true},
	{.key = "boot", .read = json_read_u32, RECORD(vm.boot), .max = CPUPOLICY_MAX_VCPUS, .required = true},
	{.key = "desired", .read = json_read_u32, RECORD(vm.desired), .max = UINT32_MAX, .required = true},
	{.key = "desired_set", .read = json_read_bool, RECORD(vm.desired_set), .required = true},
	{.key = "desired_millis", .read = json_read_u32, RECORD(vm.desired_millis), .min = 1, .max = UINT32_MAX},
	{.key = "means", .read = read_enum, RECORD(vm.means), .max = CPUPOLICY_MEANS_MAX},
	{.key = "realm", .read = json_read_bool, RECORD(vm.realm)},
	{.key = "boot_removable", .read = json_read_bool, RECORD(vm.boot_removable), .required = true},
	{.key = "notify", .read = json_read_bool, RECORD(vm.notify), .required = true},
	{.key = "epoch", .read = json_read_u32, RECORD(vm.epoch), .max = UINT32_MAX, .required = true},
	{.key = "enabled", .read = recording_read_hex, RECORD(enabled), .required = true},
	{.key = "wanted", .read = recording_read_hex, RECORD(wanted), .required = true},
	{.key = "job", .read = json_read_object, RECORD(vm.job), .rows = job_rows},
	{.key = "last_job", .read = json_read_object, RECORD(vm.last_job), .rows = job_rows},
	{.key = "credit_opened", .read = json_read_bool, RECORD(vm.meters.credit_opened), .required = true},
	{.key = "credit_spent", .read = json_read_bool, RECORD(vm.meters.credit_spent), .required = true},
	{.key = "balance", .read = json_read_i64, RECORD(vm.meters.balance), .required = true},
	{.key = "metered_at", .read = json_read_u64, RECORD(vm.meters.at), .max = INT64_MAX, .required = true},
	{.key = "row", .read = json_read_object, RECORD(vm.meters.row), .rows = usage_rows},
	{.key = "handover", .read = handover_core_read, RECORD(handover)},
	{.key = "last_row", .read = json_read_u64, RECORD(vm.meters.last_row), .max = INT64_MAX, .required = true},
	{0},
};

int recording_read_record(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct recording_record *record = to;

	record->given = true;
	return json_table_read(reader, record_rows, value, record);
}
