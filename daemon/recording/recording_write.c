/* SPDX-License-Identifier: GPL-2.0-or-later */

/* No allocation: these run between an event and its consequences. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/uuid.h"
#include "daemon/handover/handover_core.h"
#include "daemon/recording/recording_private.h"
#include "daemon/base/util.h"

#define JSON_BOOL(b) ((b) ? "true" : "false")

/* ---- text; once something did not fit, size is beyond the room ---- */

static bool is_over(const struct recording_text *t)
{
	return t->size >= t->room;
}

static void __attribute__((format(printf, 2, 3))) add(struct recording_text *t, const char *format, ...)
{
	va_list ap;
	int n;

	if (is_over(t))
		return;
	va_start(ap, format);
	n = vsnprintf(t->data + t->size, t->room - t->size, format, ap);
	va_end(ap);
	t->size = n < 0 ? t->room : t->size + (size_t)n;
}

static void add_char(struct recording_text *t, char c)
{
	if (!is_over(t))
		t->data[t->size++] = c;
}

static void add_string(struct recording_text *t, const char *text)
{
	if (!text) {
		add(t, "null");
		return;
	}
	add_char(t, '"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f) {
			add(t, "\\u%04x", c);
			continue;
		}
		if (c == '"' || c == '\\')
			add_char(t, '\\');
		add_char(t, (char)c);
	}
	add_char(t, '"');
}

static void add_hex(struct recording_text *t, const uint8_t *bytes, size_t size)
{
	add_char(t, '"');
	for (size_t i = 0; i < size; i++) {
		add_char(t, "0123456789abcdef"[bytes[i] >> 4]);
		add_char(t, "0123456789abcdef"[bytes[i] & 15]);
	}
	add_char(t, '"');
}

/* The line is whole, or it was never begun. */
static int end(struct recording_text *t, size_t begin)
{
	add(t, "}\n");
	if (!is_over(t))
		return 0;
	t->size = begin;
	return -ENOSPC;
}

static void begin(struct recording_text *t, uint64_t now, const char *what, const struct fleet_vm *m)
{
	char uuid[UUID_TEXT_SIZE];

	add(t, "{\"at\":%" PRIu64 ",\"do\":\"%s\"", now, what);
	if (!m)
		return;
	uuid_format(uuid, m->uuid);
	add(t, ",\"vm\":\"%s\"", uuid);
}

/* ---- the policy ---- */

static void add_policy(struct recording_text *t, const struct policy *policy)
{
	size_t n;
	const struct policy_source *sources = policy_sources(policy, &n);

	add(t, ",\"policy\":[");
	for (size_t i = 0; i < n; i++) {
		add(t, "%s{\"file\":", i > 0 ? "," : "");
		add_string(t, sources[i].file);
		add(t, ",\"text\":");
		add_string(t, sources[i].text);
		add_char(t, '}');
	}
	add_char(t, ']');
}

size_t recording_policy_size(const struct policy *policy)
{
	size_t n, size = 4096;
	const struct policy_source *sources = policy_sources(policy, &n);

	/* a control character takes six bytes */
	for (size_t i = 0; i < n; i++)
		size += 6 * (strlen(sources[i].file) + strlen(sources[i].text)) + 64;
	return size;
}

int recording_write_header(struct recording_text *text, const struct fleet *fleet, const struct policy *policy,
			   uint32_t cpus)
{
	size_t before = text->size;

	add(text, "{\"recording\":%u,\"version\":\"%s\",\"boot\":%" PRIu64 ",\"real\":%" PRIu64 ",\"cpus\":%" PRIu32,
	    RECORDING_VERSION, PACKAGE_VERSION, fleet->clock.boot, fleet->clock.real, cpus);
	if (fleet->capacity != FLEET_UNLIMITED)
		add(text, ",\"capacity\":%" PRIu32, fleet->capacity);
	add(text, ",\"observe\":%s,\"frozen\":%s,\"drained\":%s", JSON_BOOL(fleet->observe), JSON_BOOL(fleet->frozen),
	    JSON_BOOL(fleet->drained));
	add_policy(text, policy);
	return end(text, before);
}

int recording_write_reload(struct recording_text *text, const struct fleet *fleet, const struct policy *policy,
			   uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "reload", NULL);
	add(text, ",\"observe\":%s", JSON_BOOL(fleet->observe));
	add_policy(text, policy);
	return end(text, before);
}

int recording_write_cpus(struct recording_text *text, uint32_t cpus, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "cpus", NULL);
	add(text, ",\"cpus\":%" PRIu32, cpus);
	return end(text, before);
}

/* ---- members ---- */

static void add_subject(struct recording_text *t, const struct policy_subject *subject)
{
	add(t, ",\"name\":");
	add_string(t, subject->name);
	add(t, ",\"class\":");
	add_string(t, subject->class);
	add(t, ",\"tenant\":");
	add_string(t, subject->tenant);
	if (subject->announced_class) {
		add(t, ",\"announced_class\":");
		add_string(t, subject->announced_class);
	}
	if (subject->announced_tenant) {
		add(t, ",\"announced_tenant\":");
		add_string(t, subject->announced_tenant);
	}
	add(t, ",\"uid\":%" PRIu32, (uint32_t)subject->uid);
}

static void add_job(struct recording_text *t, const char *key, const struct job *job)
{
	if (job->id == 0)
		return;
	add(t, ",\"%s\":{\"id\":%" PRIu64 ",\"from\":%" PRIu32 ",\"to\":%" PRIu32 ",\"result\":%d,\"uid\":%" PRIu32 "}",
	    key, job->id, job->from, job->to, (int)job->result, job->uid);
}

static void add_meters(struct recording_text *t, const struct fleet_saved *m)
{
	add(t,
	    ",\"credit_opened\":%s,\"credit_spent\":%s,\"balance\":%" PRId64 ",\"metered_at\":%" PRIu64
	    ",\"last_row\":%" PRIu64,
	    JSON_BOOL(m->credit_opened), JSON_BOOL(m->credit_spent), m->balance, m->at, m->last_row);
	if (m->row.number != 0)
		add(t,
		    ",\"row\":{\"number\":%" PRIu64 ",\"begin\":%" PRIu64 ",\"end\":%" PRIu64
		    ",\"guaranteed_ns\":%" PRIu64 ",\"burst_ns\":%" PRIu64 "}",
		    m->row.number, m->row.begin, m->row.end, m->row.guaranteed_ns, m->row.burst_ns);
}

static void add_handover(struct recording_text *t, const struct vm_handover *handover)
{
	add(t, ",\"handover\":");
	if (!is_over(t))
		t->size += handover_core_print(t->data + t->size, t->room - t->size, handover);
}

/* What the fleet is restored from. The session's token is nobody's business. */
static void add_record(struct recording_text *t, const struct store_vm *r, const struct vm_handover *handover,
		       bool alive)
{
	size_t bits = (r->possible + 7) / 8;

	add(t,
	    ",\"record\":{\"alive\":%s,\"stopped\":%s,\"boot\":%" PRIu32 ",\"desired\":%" PRIu32 ",\"desired_set\":%s"
	    ",\"boot_removable\":%s,\"notify\":%s,\"epoch\":%" PRIu32,
	    JSON_BOOL(alive), JSON_BOOL(r->stopped), r->boot, r->desired, JSON_BOOL(r->desired_set),
	    JSON_BOOL(r->boot_removable), JSON_BOOL(r->notify), r->epoch);
	if (r->desired_millis > 0)
		add(t, ",\"desired_millis\":%" PRIu32, r->desired_millis);
	if (r->means != CPUPOLICY_MEANS_PSCI)
		add(t, ",\"means\":%u", (unsigned)r->means);
	if (r->realm)
		add(t, ",\"realm\":true");
	add(t, ",\"enabled\":");
	add_hex(t, r->enabled, bits);
	add(t, ",\"wanted\":");
	add_hex(t, r->wanted, bits);
	add_job(t, "job", &r->job);
	add_job(t, "last_job", &r->last_job);
	add_meters(t, &r->meters);
	if (handover)
		add_handover(t, handover);
	add_char(t, '}');
}

int recording_write_add(struct recording_text *text, const struct fleet_vm *member,
			const struct policy_subject *subject, const struct store_vm *record,
			const struct vm_handover *handover, bool alive, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "add", member);
	add_subject(text, subject);
	add(text, ",\"possible\":%" PRIu32, member->core->possible);
	if (record)
		add_record(text, record, handover, alive);
	return end(text, before);
}

int recording_write_reshape(struct recording_text *text, const struct fleet_vm *member, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "reshape", member);
	add(text, ",\"name\":");
	add_string(text, member->name);
	add(text, ",\"possible\":%" PRIu32, member->core->possible);
	return end(text, before);
}

int recording_write_subject(struct recording_text *text, const struct fleet_vm *member,
			    const struct policy_subject *subject, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "subject", member);
	add_subject(text, subject);
	return end(text, before);
}

int recording_write_published(struct recording_text *text, const struct fleet_vm *member, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "published", member);
	add(text, ",\"generation\":%" PRIu32, member->core->generation);
	return end(text, before);
}

int recording_write_remove(struct recording_text *text, const struct fleet_vm *member, uint64_t now)
{
	size_t before = text->size;

	begin(text, now, "remove", member);
	return end(text, before);
}

/* ---- events ---- */

static void add_vcpus(struct recording_text *t, const struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	add(t, ",\"vcpus\":[");
	for (uint32_t i = 0; i < n; i++)
		add(t, "%s[%" PRIu64 ",%" PRIu32 "]", i > 0 ? "," : "", vcpus[i].mpidr, vcpus[i].flags);
	add_char(t, ']');
}

static void add_registration(struct recording_text *t, const struct vm_registration *r, uint32_t possible)
{
	add(t, ",\"flags\":%" PRIu32 ",\"boot\":%" PRIu32 ",\"run_state\":%u", r->flags, r->boot,
	    (unsigned)r->run_state);
	add_vcpus(t, r->vcpus, possible);
}

static void add_stored(struct recording_text *t, const struct fleet_event *e)
{
	add(t, ",\"revision\":%" PRIu64 ",\"ok\":%s", e->revision, JSON_BOOL(e->ok));
	if (!e->ok)
		return;
	add(t, ",\"granted\":");
	add_hex(t, e->granted, (e->vm->core->possible + 7) / 8);
}

static void add_assignment(struct recording_text *t, const struct fleet *f, const struct fleet_event *e)
{
	uint32_t tenant = e->assignment.tenant;

	add(t, ",\"class\":");
	add_string(t, e->assignment.class->name);
	add(t, ",\"tenant\":");
	add_string(t, tenant < f->n_tenants ? f->tenants[tenant].name : NULL);
}

static void add_arguments(struct recording_text *t, const struct fleet *f, const struct fleet_event *e)
{
	unsigned arguments = recording_arguments(e->kind);

	if (arguments & RECORDING_VCPU)
		add(t, ",\"vcpu\":%" PRIu32, e->vcpu);
	if (arguments & RECORDING_COUNT)
		add(t, ",\"count\":%" PRIu32, e->count);
	if (arguments & RECORDING_REASON)
		add(t, ",\"reason\":%u", (unsigned)e->reason);
	if (arguments & RECORDING_OST)
		add(t, ",\"ost_event\":%" PRIu32 ",\"ost_status\":%" PRIu32, e->ost_event, e->ost_status);
	if (arguments & RECORDING_CAUSE)
		add(t, ",\"cause\":%u", (unsigned)e->cause);
	if (arguments & RECORDING_GONE)
		add(t, ",\"gone\":%s", JSON_BOOL(e->gone));
	if (arguments & RECORDING_CONFIRM)
		add(t, ",\"epoch\":%" PRIu32 ",\"generation\":%" PRIu32, e->epoch, e->generation);
	if (arguments & RECORDING_STORED)
		add_stored(t, e);
	if (arguments & RECORDING_JOB)
		add(t, ",\"job\":%" PRIu64, e->job);
	if ((arguments & RECORDING_JOB) && e->millis > 0)
		add(t, ",\"millis\":%" PRIu32, e->millis);
	if (arguments & RECORDING_ASSIGNMENT)
		add_assignment(t, f, e);
	if (arguments & RECORDING_BALANCE)
		add(t, ",\"balance\":%" PRId64 ",\"spent\":%s", e->balance, JSON_BOOL(e->spent));
	if (arguments & RECORDING_ON)
		add(t, ",\"on\":%s", JSON_BOOL(e->on));
	if (arguments & RECORDING_CLOCK)
		add(t, ",\"boot\":%" PRIu64 ",\"real\":%" PRIu64, e->clock.boot, e->clock.real);
	if (arguments & RECORDING_REGISTRATION) {
		add_registration(t, e->registration, e->vm->core->possible);
		return;
	}
	if (arguments & RECORDING_RUN_STATE)
		add(t, ",\"run_state\":%u", (unsigned)e->run_state);
	if (arguments & RECORDING_VCPUS)
		add_vcpus(t, e->vcpus, e->vm->core->possible);
}

static void add_answer(struct recording_text *t, enum fleet_event_kind kind, const struct fleet_answer *answer)
{
	add(t, ",\"answer\":{\"rule\":\"%s\"", rule_name(answer->rule));
	if (kind == FLEET_ASK)
		add(t, ",\"psci\":%" PRId32 ",\"reason\":%u,\"would\":%u", answer->verdict.psci,
		    (unsigned)answer->verdict.reason, (unsigned)answer->verdict.would);
	if (answer->superseded.id != 0)
		add(t, ",\"superseded\":%" PRIu64, answer->superseded.id);
	if (answer->would_refuse)
		add(t, ",\"would_refuse\":true");
	add_char(t, '}');
}

static void add_state(struct recording_text *t, const struct recording_state *s)
{
	add(t, ",\"state\":{");
	if (s->of_vm) {
		add(t,
		    "\"desired\":%" PRIu32 ",\"allowance\":%" PRIu32 ",\"target\":%" PRIu32 ",\"held\":%" PRIu32
		    ",\"overdue\":%" PRIu32 ",\"bound\":\"%s\",\"balance\":%" PRId64,
		    s->desired, s->allowance, s->target, s->held, s->overdue, rule_name(s->bound), s->balance);
		add(t, ",\"guaranteed_ns\":%" PRIu64 ",\"burst_ns\":%" PRIu64 ",\"job\":%" PRIu64 ",", s->guaranteed_ns,
		    s->burst_ns, s->job);
		if (s->quota != VM_QUOTA_NONE)
			add(t, "\"quota\":%" PRIu32 ",", s->quota);
	}
	add(t,
	    "\"host\":{\"reserved\":%" PRIu64 ",\"guaranteed\":%" PRIu64 ",\"allowed\":%" PRIu64 ",\"held\":%" PRIu64,
	    s->sums.reserved, s->sums.guaranteed, s->sums.allowed, s->sums.held);
	add(t, ",\"occupied\":%" PRIu64 ",\"overdue\":%" PRIu64 "},\"digest\":\"%016" PRIx64 "\"}", s->sums.occupied,
	    s->sums.overdue, s->digest);
}

int recording_write_event(struct recording_text *text, const struct fleet *fleet, const struct fleet_event *event,
			  const struct fleet_answer *answer)
{
	const struct fleet_vm *m = recording_arguments(event->kind) & RECORDING_OF_VM ? event->vm : NULL;
	struct recording_state state;
	size_t before = text->size;

	begin(text, event->now, fleet_event_name(event->kind), m);
	add_arguments(text, fleet, event);
	add_answer(text, event->kind, answer);
	if (recording_has_state(event->kind)) {
		recording_state(fleet, m, &state);
		add_state(text, &state);
	}
	return end(text, before);
}
