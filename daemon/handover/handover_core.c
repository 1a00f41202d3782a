/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/handover/handover_core.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- printing ---- */

struct printer {
	char *buffer;
	size_t room;
	size_t size;
};

static void __attribute__((format(printf, 2, 3))) add(struct printer *p, const char *format, ...)
{
	bool fits = p->size < p->room;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(fits ? p->buffer + p->size : NULL, fits ? p->room - p->size : 0, format, ap);
	va_end(ap);
	p->size += n > 0 ? (size_t)n : 0;
}

/* JSON's integers, as they are read, are signed. */
static uint64_t number(uint64_t n)
{
	return n < INT64_MAX ? n : INT64_MAX;
}

static const char *truth(bool b)
{
	return b ? "true" : "false";
}

static void add_rate(struct printer *p, const char *key, const struct rate *r)
{
	add(p, ",\"%s\":[%" PRIu64 ",%" PRIu64 "]", key, number(r->at), number(r->tokens));
}

static void add_job(struct printer *p, const struct job *j, bool restored)
{
	add(p,
	    ",\"job\":{\"id\":%" PRIu64 ",\"from\":%" PRIu32 ",\"to\":%" PRIu32 ",\"uid\":%" PRIu32
	    ",\"pending\":%" PRIu32 ",\"settled\":%" PRIu32 ",\"refused\":%" PRIu32,
	    j->id, j->from, j->to, j->uid, j->pending, j->settled, j->refused);
	add(p,
	    ",\"forbidden\":%s,\"online\":%s,\"stopped\":%s,\"deadline\":%" PRIu64 ",\"remaining\":%" PRIu64
	    ",\"restored\":%s}",
	    truth(j->forbidden), truth(j->online), truth(j->stopped), number(j->deadline), number(j->remaining),
	    truth(restored));
}

static void add_vcpu(struct printer *p, const struct vcpu *v)
{
	add(p, "[%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%u,%u,%u,%u,%" PRIu32 "]", number(v->mpidr), v->grant, v->denied,
	    v->flags, v->answer, v->serial, v->reason, v->since);
}

size_t handover_core_print(char *buffer, size_t room, const struct vm_handover *h)
{
	struct printer p = {.buffer = buffer, .room = room};

	add(&p,
	    "{\"epoch\":%" PRIu32 ",\"generation\":%" PRIu32 ",\"confirmed\":%" PRIu32 ",\"allowance\":%" PRIu32
	    ",\"run_state\":%u",
	    h->epoch, h->generation, h->confirmed, h->allowance, (unsigned)h->run_state);
	add(&p, ",\"rate_waits\":%s,\"denied\":%" PRIu64, truth(h->rate_waits), number(h->denied));
	if (h->reclaim_at != UINT64_MAX)
		add(&p, ",\"reclaim_at\":%" PRIu64, number(h->reclaim_at));
	add_rate(&p, "cpu_on", &h->cpu_on);
	add_rate(&p, "plugs", &h->plugs);
	if (h->job.id != 0)
		add_job(&p, &h->job, h->job_restored);
	add(&p, ",\"vcpus\":[");
	for (uint32_t i = 0; i < h->possible; i++) {
		if (i > 0)
			add(&p, ",");
		add_vcpu(&p, &h->vcpus[i]);
	}
	add(&p, "]}");
	return p.size;
}

/* ---- reading ---- */

struct raw {
	struct vm_handover h;
	uint32_t run_state;
};

int handover_core_read_rate(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	json_t *at = json_array_get(value, 0), *tokens = json_array_get(value, 1);

	if (json_array_size(value) != 2 || !json_is_integer(at) || json_integer_value(at) < 0 ||
	    !json_is_integer(tokens) || json_integer_value(tokens) < 0)
		return json_table_expected(reader, value, "a time and tokens");
	*(struct rate *)to = (struct rate){
		.at = (uint64_t)json_integer_value(at),
		.tokens = (uint64_t)json_integer_value(tokens),
	};
	return 0;
}

static int read_vcpu(struct json_reader *reader, json_t *value, struct vcpu *ret)
{
	static const uint64_t most[] = {INT64_MAX, UINT32_MAX, UINT32_MAX, UINT8_MAX,
					UINT8_MAX, UINT8_MAX,  UINT8_MAX,  UINT32_MAX};
	uint64_t n[sizeof(most) / sizeof(most[0])];
	json_t *element;
	size_t i;

	if (json_array_size(value) != sizeof(n) / sizeof(n[0]))
		return json_table_fail(reader, false, "expected the numbers of a vCPU");
	json_array_foreach(value, i, element) {
		if (!json_is_integer(element) || json_integer_value(element) < 0 ||
		    (uint64_t)json_integer_value(element) > most[i])
			return json_table_fail(reader, false, "expected the numbers of a vCPU");
		n[i] = (uint64_t)json_integer_value(element);
	}
	*ret = (struct vcpu){
		.mpidr = n[0],
		.grant = (uint32_t)n[1],
		.denied = (uint32_t)n[2],
		.flags = (uint8_t)n[3],
		.answer = (uint8_t)n[4],
		.serial = (uint8_t)n[5],
		.reason = (uint8_t)n[6],
		.since = (uint32_t)n[7],
	};
	return 0;
}

static int read_vcpus(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct vm_handover *h = to;
	json_t *element;
	size_t i;

	if (json_array_size(value) < 1 || json_array_size(value) > CPUPOLICY_MAX_VCPUS)
		return json_table_fail(reader, false, "expected an array of 1 to %u vCPUs", CPUPOLICY_MAX_VCPUS);
	h->vcpus = calloc(json_array_size(value), sizeof(*h->vcpus));
	if (!h->vcpus)
		return -ENOMEM;
	h->possible = (uint32_t)json_array_size(value);
	json_array_foreach(value, i, element) {
		int r;

		json_table_push(reader, NULL, i);
		r = read_vcpu(reader, element, &h->vcpus[i]);
		json_table_pop(reader);
		if (r < 0)
			return r;
	}
	return 0;
}

#define RAW(member) JSON_MEMBER(struct raw, member)

static const struct json_row job_rows[] = {
	{.key = "id", .read = json_read_u64, RAW(h.job.id), .min = 1, .max = INT64_MAX, .required = true},
	{.key = "from", .read = json_read_u32, RAW(h.job.from), .max = UINT32_MAX, .required = true},
	{.key = "to", .read = json_read_u32, RAW(h.job.to), .max = UINT32_MAX, .required = true},
	{.key = "uid", .read = json_read_u32, RAW(h.job.uid), .max = UINT32_MAX, .required = true},
	{.key = "pending", .read = json_read_u32, RAW(h.job.pending), .max = CPUPOLICY_MAX_VCPUS, .required = true},
	{.key = "settled", .read = json_read_u32, RAW(h.job.settled), .max = CPUPOLICY_MAX_VCPUS, .required = true},
	{.key = "refused", .read = json_read_u32, RAW(h.job.refused), .max = CPUPOLICY_MAX_VCPUS, .required = true},
	{.key = "forbidden", .read = json_read_bool, RAW(h.job.forbidden), .required = true},
	{.key = "online", .read = json_read_bool, RAW(h.job.online), .required = true},
	{.key = "stopped", .read = json_read_bool, RAW(h.job.stopped), .required = true},
	{.key = "deadline", .read = json_read_u64, RAW(h.job.deadline), .max = INT64_MAX, .required = true},
	{.key = "remaining", .read = json_read_u64, RAW(h.job.remaining), .max = INT64_MAX, .required = true},
	{.key = "restored", .read = json_read_bool, RAW(h.job_restored), .required = true},
	{0},
};

static const struct json_row rows[] = {
	{.key = "epoch", .read = json_read_u32, RAW(h.epoch), .min = 1, .max = UINT32_MAX, .required = true},
	{.key = "generation", .read = json_read_u32, RAW(h.generation), .min = 1, .max = UINT32_MAX, .required = true},
	{.key = "confirmed", .read = json_read_u32, RAW(h.confirmed), .max = UINT32_MAX, .required = true},
	{.key = "allowance", .read = json_read_u32, RAW(h.allowance), .max = UINT32_MAX, .required = true},
	{.key = "run_state",
	 .read = json_read_u32,
	 RAW(run_state),
	 .min = CPUPOLICY_RUN_RUNNING,
	 .max = CPUPOLICY_RUN_INACTIVE,
	 .required = true},
	{.key = "rate_waits", .read = json_read_bool, RAW(h.rate_waits), .required = true},
	{.key = "denied", .read = json_read_u64, RAW(h.denied), .max = INT64_MAX, .required = true},
	{.key = "reclaim_at", .read = json_read_u64, RAW(h.reclaim_at), .max = INT64_MAX},
	{.key = "cpu_on", .read = handover_core_read_rate, RAW(h.cpu_on), .required = true},
	{.key = "plugs", .read = handover_core_read_rate, RAW(h.plugs), .required = true},
	{.key = "job", .read = json_read_object, .rows = job_rows},
	{.key = "vcpus", .read = read_vcpus, RAW(h), .required = true},
	{0},
};

int handover_core_read(struct json_reader *reader, const struct json_row *row, json_t *value, void *to)
{
	struct raw raw = {.h = {.reclaim_at = UINT64_MAX}};
	int r = json_table_read(reader, rows, value, &raw);

	raw.h.run_state = raw.run_state;
	*(struct vm_handover *)to = raw.h;
	return r;
}
