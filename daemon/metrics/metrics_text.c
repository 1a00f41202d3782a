/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * OpenMetrics wants all samples of a metric in one piece, and what a VM's samples say comes from one look at it: so each
 * metric of VMs has a buffer of its own, and one pass over the VMs fills them all.
 */

#include "daemon/metrics/metrics_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/core/uuid.h"
#include "daemon/base/util.h"
#include "proto/message.h"

#define PREFIX "cpupolicy_"
/* A label's value at worst: each byte escaped. */
#define LABEL_SIZE (2 * CPUPOLICY_NAME_SIZE)

/* ---- text ---- */

struct buffer {
	char *text;
	size_t size;
	size_t room;
	bool failed; /* for want of memory */
};

static bool reserve(struct buffer *b, size_t n)
{
	size_t room = b->room ? b->room : 1024;
	char *text;

	if (b->failed)
		return false;
	if (b->room - b->size >= n)
		return true;
	while (room - b->size < n)
		room *= 2;
	text = realloc(b->text, room);
	if (!text) {
		b->failed = true;
		return false;
	}
	b->text = text;
	b->room = room;
	return true;
}

static void put(struct buffer *b, const char *text, size_t n)
{
	if (!reserve(b, n))
		return;
	memcpy(b->text + b->size, text, n);
	b->size += n;
}

static void put_text(struct buffer *b, const char *text)
{
	put(b, text, strlen(text));
}

static void put_format(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_format(struct buffer *b, const char *format, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		b->failed = true;
	else
		put(b, line, (size_t)n);
}

/* printf is slow, and of these there are many. */
static void put_number(struct buffer *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	put(b, digits + at, sizeof(digits) - at);
}

/* Exact: a double would lose nanoseconds after some months. */
static void put_seconds(struct buffer *b, uint64_t ns)
{
	char fraction[10] = ".";
	uint64_t rest = ns % NSEC_PER_SEC;

	put_number(b, ns / NSEC_PER_SEC);
	if (rest == 0)
		return;
	for (int i = 9; i > 0; i--, rest /= 10)
		fraction[i] = (char)('0' + rest % 10);
	put(b, fraction, sizeof(fraction));
}

static void put_vcpus(struct buffer *b, uint32_t count)
{
	if (count == FLEET_UNLIMITED)
		put_text(b, "+Inf");
	else
		put_number(b, count);
}

/* `value` within quotes; "" for NULL. */
static const char *escape(const char *value, char ret[LABEL_SIZE])
{
	size_t n = 0;

	for (; value && *value && n + 2 < LABEL_SIZE; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			ret[n++] = '\\';
		ret[n++] = (char)(*value == '\n' ? 'n' : *value);
	}
	ret[n] = '\0';
	return ret;
}

static void put_head(struct buffer *b, const char *name, const char *type, const char *unit, const char *help)
{
	put_format(b, "# TYPE " PREFIX "%s %s\n", name, type);
	if (unit)
		put_format(b, "# UNIT " PREFIX "%s %s\n", name, unit);
	put_format(b, "# HELP " PREFIX "%s %s\n", name, help);
}

/* ---- of VMs ---- */

/* One look at a VM. */
struct sample {
	const struct host_vm *vm;
	const struct vm *core;
	struct host_vm_view view;
	struct vm_counts counts;
	bool has_cpu;
	uint64_t cpu_used, cpu_granted;
	char label[sizeof("{vm=\"\"") + LABEL_SIZE]; /* open: more may follow before the brace */
	size_t label_size;
};

struct family {
	const char *name; /* after "cpupolicy_vm" */
	const char *type;
	const char *unit; /* NULL: none */
	const char *help;
	uint64_t (*number)(const struct sample *s); /* a sample of this value; or ... */
	void (*write)(struct buffer *b, const struct family *f, const struct sample *s);
};

static void put_sample(struct buffer *b, const struct family *f, const char *suffix, const struct sample *s,
		       const char *more)
{
	put_text(b, PREFIX "vm");
	put_text(b, f->name);
	put_text(b, suffix);
	put(b, s->label, s->label_size);
	put_text(b, more);
	put(b, "} ", 2);
}

#define NUMBER(name, value)                                                                                            \
	static uint64_t name(const struct sample *s)                                                                   \
	{                                                                                                              \
		return value;                                                                                          \
	}

NUMBER(get_possible, s->core->possible)
NUMBER(get_guaranteed, s->view.fleet.guaranteed)
NUMBER(get_limit, s->view.fleet.limit)
NUMBER(get_desired, s->core->desired)
NUMBER(get_target, s->view.fleet.target)
NUMBER(get_allowance, s->view.fleet.allowance)
NUMBER(get_enabled, s->counts.enabled)
NUMBER(get_online, s->counts.online)
NUMBER(get_overdue, s->counts.overdue)
NUMBER(get_running, s->core->link == VM_CONNECTED && s->core->run_state == CPUPOLICY_RUN_RUNNING)
NUMBER(get_disconnected, s->core->link == VM_DISCONNECTED)
NUMBER(get_unconfirmed, s->core->link == VM_CONNECTED && s->core->confirmed != s->core->generation)
NUMBER(get_observed, s->core->observe)
NUMBER(get_unenforced, strcmp(host_vm_enforcement(s->vm), "none") == 0)
NUMBER(get_resizing, s->core->job.id != 0)

static void write_info(struct buffer *b, const struct family *f, const struct sample *s)
{
	char class[LABEL_SIZE], tenant[LABEL_SIZE];

	put_sample(b, f, "_info", s, ",uuid=\"");
	b->size -= b->failed ? 0 : 2; /* the labels go on */
	put_text(b, host_vm_uuid(s->vm));
	put_text(b, "\",class=\"");
	put_text(b, escape(s->view.class, class));
	put_text(b, "\",tenant=\"");
	put_text(b, escape(s->view.tenant, tenant));
	put_text(b, "\"} 1\n");
}

/* A sample for those that are held back alone. */
static void write_bound(struct buffer *b, const struct family *f, const struct sample *s)
{
	char more[64];

	if (s->view.fleet.bound == RULE_NONE)
		return;
	snprintf(more, sizeof(more), ",rule=\"%s\"", rule_name(s->view.fleet.bound));
	put_sample(b, f, "", s, more);
	put_text(b, "1\n");
}

static void write_credit(struct buffer *b, const struct family *f, const struct sample *s)
{
	int64_t balance = s->view.fleet.balance;

	if (!s->view.fleet.metered)
		return;
	put_sample(b, f, "", s, "");
	if (balance < 0)
		put_text(b, "-");
	put_seconds(b, balance < 0 ? -(uint64_t)balance : (uint64_t)balance);
	put_text(b, "\n");
}

static void write_spent(struct buffer *b, const struct family *f, const struct sample *s)
{
	if (!s->view.fleet.metered)
		return;
	put_sample(b, f, "", s, "");
	put_text(b, s->view.fleet.spent ? "1\n" : "0\n");
}

static void write_usage(struct buffer *b, const struct family *f, const struct sample *s)
{
	put_sample(b, f, "_total", s, ",kind=\"guaranteed\"");
	put_seconds(b, s->view.guaranteed_ns);
	put_text(b, "\n");
	put_sample(b, f, "_total", s, ",kind=\"burst\"");
	put_seconds(b, s->view.burst_ns);
	put_text(b, "\n");
}

static void write_denied(struct buffer *b, const struct family *f, const struct sample *s)
{
	put_sample(b, f, "_total", s, "");
	put_number(b, s->core->denied);
	put_text(b, "\n");
}

/* In CPUs; a sample for those whose CPU time is to be held alone. */
static void write_quota(struct buffer *b, const struct family *f, const struct sample *s)
{
	uint32_t quota = vm_quota(s->core);

	if (quota == VM_QUOTA_NONE)
		return;
	put_sample(b, f, "", s, "");
	put_seconds(b, (uint64_t)quota * (NSEC_PER_SEC / 1000));
	put_text(b, "\n");
}

static void write_held(struct buffer *b, const struct family *f, const struct sample *s)
{
	if (vm_quota(s->core) == VM_QUOTA_NONE)
		return;
	put_sample(b, f, "", s, "");
	put_text(b, host_vm_quota_state(s->vm) == HOST_QUOTA_HELD ? "1\n" : "0\n");
}

static void put_cpu(struct buffer *b, const struct family *f, const struct sample *s, uint64_t ns)
{
	if (!s->has_cpu)
		return;
	put_sample(b, f, "_total", s, "");
	put_seconds(b, ns);
	put_text(b, "\n");
}

static void write_cpu_used(struct buffer *b, const struct family *f, const struct sample *s)
{
	put_cpu(b, f, s, s->cpu_used);
}

static void write_cpu_granted(struct buffer *b, const struct family *f, const struct sample *s)
{
	put_cpu(b, f, s, s->cpu_granted);
}

static const struct family families[] = {
	{"", "info", NULL, "A VM on record, its class and its tenant.", .write = write_info},
	{"_possible_vcpus", "gauge", "vcpus", "vCPUs that the VM was made with, on or off.", get_possible},
	{"_guaranteed_vcpus", "gauge", "vcpus", "vCPUs that its class guarantees it.", get_guaranteed},
	{"_limit_vcpus", "gauge", "vcpus", "vCPUs that its class permits it at most.", get_limit},
	{"_desired_vcpus", "gauge", "vcpus", "vCPUs that were last asked for.", get_desired},
	{"_target_vcpus", "gauge", "vcpus", "vCPUs that it is to have now.", get_target},
	{"_allowance_vcpus", "gauge", "vcpus", "vCPUs that there is room for.", get_allowance},
	{"_enabled_vcpus", "gauge", "vcpus", "vCPUs that the guest may use.", get_enabled},
	{"_online_vcpus", "gauge", "vcpus", "vCPUs that are powered on.", get_online},
	{"_overdue_vcpus", "gauge", "vcpus", "vCPUs that were asked back and not given.", get_overdue},
	{"_held_back", "gauge", NULL, "1 for a VM whose target is below its desired count, by what.",
	 .write = write_bound},
	{"_running", "gauge", NULL, "1 while its VMM is connected and the guest runs.", get_running},
	{"_disconnected", "gauge", NULL, "1 while its VMM is not connected and has not ended.", get_disconnected},
	{"_page_unconfirmed", "gauge", NULL, "1 while the VMM has not applied the latest policy page.",
	 get_unconfirmed},
	{"_observed", "gauge", NULL, "1 for a VM of which nothing is denied.", get_observed},
	{"_unenforced", "gauge", NULL, "1 for a VM whose guest nothing holds to the policy.", get_unenforced},
	{"_resizing", "gauge", NULL, "1 while a resize is under way.", get_resizing},
	{"_credit_vcpu_seconds", "gauge", "seconds", "Burst credit, of metered classes; below 0 is owed.",
	 .write = write_credit},
	{"_credit_spent", "gauge", NULL, "1 while it may not burst for want of credit, of metered classes.",
	 .write = write_spent},
	{"_usage_vcpu_seconds", "counter", "seconds", "Billed vCPU-seconds since the daemon started.",
	 .write = write_usage},
	{"_quota_cpus", "gauge", "cpus", "What its CPU time is to be held to, in CPUs.", .write = write_quota},
	{"_quota_held", "gauge", NULL, "1 while a provider holds it so.", .write = write_held},
	{"_cpu_seconds", "counter", "seconds", "CPU time that the VM's process used.", .write = write_cpu_used},
	{"_cpu_granted_vcpu_seconds", "counter", "seconds", "vCPU-seconds that were granted in the same time.",
	 .write = write_cpu_granted},
	{"_denied", "counter", NULL, "CPU_ON calls that were denied.", .write = write_denied},
};

/* How many VMs are in each state, besides. */
enum state { STATE_RUNNING, STATE_PAUSED, STATE_INACTIVE, STATE_DISCONNECTED, STATE_STOPPED, STATES };

static enum state state_of(const struct vm *vm)
{
	if (vm->link != VM_CONNECTED)
		return vm->link == VM_DISCONNECTED ? STATE_DISCONNECTED : STATE_STOPPED;
	if (vm->run_state == CPUPOLICY_RUN_RUNNING)
		return STATE_RUNNING;
	return vm->run_state == CPUPOLICY_RUN_PAUSED ? STATE_PAUSED : STATE_INACTIVE;
}

/* ---- the whole ---- */

struct metrics_text {
	struct host *host;
	char last[UUID_TEXT_SIZE]; /* VM that was taken in; "": none */
	uint64_t states[STATES];
	uint64_t quotas[HOST_QUOTA_STATES];
	struct buffer of_host;
	struct buffer of_vms[ARRAY_SIZE(families)];
};

static void look(struct metrics_text *text, const struct host_vm *vm)
{
	struct sample s = {.vm = vm, .core = host_vm_core(vm)};
	char name[LABEL_SIZE];

	host_vm_view(vm, &s.view);
	vm_counts(s.core, &s.counts);
	s.has_cpu = host_vm_cpu(vm, &s.cpu_used, &s.cpu_granted);
	text->quotas[host_vm_quota_state(vm)]++;
	s.label_size = (size_t)snprintf(s.label, sizeof(s.label), "{vm=\"%s\"", escape(host_vm_name(vm), name));
	text->states[state_of(s.core)]++;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		struct buffer *b = &text->of_vms[i];

		if (f->write) {
			f->write(b, f, &s);
			continue;
		}
		put_sample(b, f, "", &s, "");
		put_number(b, f->number(&s));
		put(b, "\n", 1);
	}
}

static void put_gauge(struct buffer *b, const char *name, const char *unit, const char *help, uint64_t value)
{
	put_head(b, name, "gauge", unit, help);
	put_format(b, PREFIX "%s %" PRIu64 "\n", name, value);
}

static void put_counter(struct buffer *b, const char *name, const char *help, uint64_t value)
{
	put_head(b, name, "counter", NULL, help);
	put_format(b, PREFIX "%s_total %" PRIu64 "\n", name, value);
}

static void put_states(struct buffer *b, const uint64_t *states)
{
	static const char *const names[STATES] = {
		[STATE_RUNNING] = "running",           [STATE_PAUSED] = "paused",   [STATE_INACTIVE] = "inactive",
		[STATE_DISCONNECTED] = "disconnected", [STATE_STOPPED] = "stopped",
	};

	put_head(b, "vms", "gauge", NULL, "VMs on record, by state.");
	for (int i = 0; i < STATES; i++)
		put_format(b, PREFIX "vms{state=\"%s\"} %" PRIu64 "\n", names[i], states[i]);
}

static void put_quotas(struct buffer *b, const uint64_t *quotas)
{
	put_head(b, "quotas", "gauge", NULL, "VMs by what becomes of the quota of their CPU time.");
	for (unsigned i = 0; i < HOST_QUOTA_STATES; i++)
		put_format(b, PREFIX "quotas{state=\"%s\"} %" PRIu64 "\n", host_quota_state_name(i), quotas[i]);
}

static uint64_t count_providers(const struct host *host)
{
	uint64_t n = 0;

	for (const struct host_provider *p = host_provider_next(host, NULL); p; p = host_provider_next(host, p))
		n++;
	return n;
}

static void put_host(struct buffer *b, const struct host_view *v)
{
	put_head(b, "capacity_vcpus", "gauge", "vcpus", "vCPUs that may be given out; +Inf: any number.");
	put_text(b, PREFIX "capacity_vcpus ");
	put_vcpus(b, v->capacity);
	put_text(b, "\n");
	put_gauge(b, "host_cpus", NULL, "CPUs that the host has for VMs; 0: not known.", v->cpus);
	put_gauge(b, "reserved_vcpus", "vcpus", "Guarantees of all running VMs, used or not.", v->sums.reserved);
	put_gauge(b, "guaranteed_vcpus", "vcpus", "vCPUs allowed within guarantees.", v->sums.guaranteed);
	put_gauge(b, "allowed_vcpus", "vcpus", "vCPUs allowed, burst included.", v->sums.allowed);
	put_gauge(b, "held_vcpus", "vcpus", "vCPUs that guests hold.", v->sums.held);
	put_gauge(b, "occupied_vcpus", "vcpus", "vCPUs that are allowed or held, whichever is more.", v->sums.occupied);
	put_gauge(b, "overdue_vcpus", "vcpus", "vCPUs held beyond what is allowed.", v->sums.overdue);
	put_gauge(b, "observing", NULL, "1 while the policy observes the whole host.", v->observe);
	put_gauge(b, "frozen", NULL, "1 while an operator froze the host.", v->frozen);
	put_gauge(b, "drained", NULL, "1 while an operator drains the host.", v->drained);
}

struct tenant_family {
	const char *name;
	const char *help;
	size_t offset; /* in struct ledger_sums */
};

static void put_tenants(struct buffer *b, const struct host *host, uint32_t n)
{
	static const struct tenant_family sums[] = {
		{"tenant_reserved_vcpus", "Guarantees of a tenant's running VMs.",
		 offsetof(struct ledger_sums, reserved)},
		{"tenant_allowed_vcpus", "vCPUs allowed to a tenant's VMs.", offsetof(struct ledger_sums, allowed)},
		{"tenant_held_vcpus", "vCPUs that a tenant's guests hold.", offsetof(struct ledger_sums, held)},
		{"tenant_overdue_vcpus", "vCPUs of a tenant held beyond what is allowed.",
		 offsetof(struct ledger_sums, overdue)},
	};
	struct host_tenant_view v;
	char name[LABEL_SIZE];

	put_head(b, "tenant_quota_vcpus", "gauge", "vcpus", "vCPUs that a tenant's VMs may have together.");
	for (uint32_t i = 0; i < n; i++) {
		host_tenant_view(host, i, &v);
		put_format(b, PREFIX "tenant_quota_vcpus{tenant=\"%s\"} ", escape(v.name, name));
		put_vcpus(b, v.quota);
		put_text(b, "\n");
	}
	for (size_t k = 0; k < ARRAY_SIZE(sums); k++) {
		put_head(b, sums[k].name, "gauge", "vcpus", sums[k].help);
		for (uint32_t i = 0; i < n; i++) {
			host_tenant_view(host, i, &v);
			put_format(b, PREFIX "%s{tenant=\"%s\"} %" PRIu64 "\n", sums[k].name, escape(v.name, name),
				   *(const uint64_t *)(const void *)((const char *)&v.sums + sums[k].offset));
		}
	}
}

static void put_verdicts(struct buffer *b, const struct counters *c)
{
	put_head(b, "verdicts", "counter", NULL, "CPU_ON calls, by what the guest was told and why.");
	for (unsigned i = 0; i < COUNTERS_RESULTS; i++)
		for (unsigned k = CPUPOLICY_REASON_NONE + 1; k <= CPUPOLICY_REASON_MAX; k++)
			put_format(b, PREFIX "verdicts_total{result=\"%s\",reason=\"%s\"} %" PRIu64 "\n",
				   counters_result_name(i), cpupolicy_msg_reason_name(k), c->verdicts[i][k]);
}

static void put_latency(struct buffer *b, const struct counters *c)
{
	const char *const name = "verdict_latency_seconds";
	uint64_t sum = 0;

	put_head(b, name, "histogram", "seconds", "From when an ask was there to be read until its verdict was sent.");
	for (unsigned i = 0; i < COUNTERS_LATENCIES; i++) {
		uint64_t bound = counters_latency_bounds[i];

		sum += c->latency[i];
		if (bound == UINT64_MAX)
			put_format(b, PREFIX "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, sum);
		else
			put_format(b, PREFIX "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)bound / NSEC_PER_SEC,
				   sum);
	}
	put_format(b, PREFIX "%s_count %" PRIu64 "\n" PREFIX "%s_sum ", name, sum, name);
	put_seconds(b, c->latency_sum);
	put_text(b, "\n");
}

static void put_counters(struct buffer *b, const struct counters *c)
{
	put_verdicts(b, c);
	put_latency(b, c);
	put_head(b, "registrations", "counter", NULL, "Registrations of VMs, by outcome.");
	for (unsigned i = 0; i < COUNTERS_REGISTRATIONS; i++)
		put_format(b, PREFIX "registrations_total{outcome=\"%s\"} %" PRIu64 "\n", counters_registration_name(i),
			   c->registrations[i]);
	put_head(b, "jobs", "counter", NULL, "Resizes that ended, by how.");
	for (unsigned i = JOB_RUNNING + 1; i <= JOB_RESULT_MAX; i++)
		put_format(b, PREFIX "jobs_total{result=\"%s\"} %" PRIu64 "\n", job_result_name(i), c->jobs[i]);
	put_head(b, "refusals", "counter", NULL, "Requests and registrations that were refused, by rule.");
	for (unsigned i = RULE_NONE + 1; i <= RULE_MAX; i++)
		put_format(b, PREFIX "refusals_total{rule=\"%s\"} %" PRIu64 "\n", rule_name(i), c->refusals[i]);
	put_head(b, "provider_calls", "counter", NULL, "Calls of providers to hold CPU time, by outcome.");
	put_format(b, PREFIX "provider_calls_total{result=\"done\"} %" PRIu64 "\n",
		   c->provider_calls[COUNTERS_CALL_DONE]);
	put_format(b, PREFIX "provider_calls_total{result=\"failed\"} %" PRIu64 "\n",
		   c->provider_calls[COUNTERS_CALL_FAILED]);
	put_counter(b, "store_writes", "Records that were made durable.", c->writes);
	put_counter(b, "store_errors", "Records that could not be made durable.", c->write_failures);
	put_counter(b, "checkpoints", "Rounds in which usage and credit were made durable.", c->checkpoints);
	put_counter(b, "reloads", "Policies that took the place of another.", c->reloads);
	put_counter(b, "reload_errors", "Policies that could not.", c->reload_failures);
}

static int finish(struct metrics_text *text)
{
	struct buffer *b = &text->of_host;
	struct host_view view;

	host_view(text->host, &view);
	put_head(b, "build", "info", NULL, "The daemon that says all this.");
	put_text(b, PREFIX "build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
	put_states(b, text->states);
	put_quotas(b, text->quotas);
	put_gauge(b, "providers", NULL, "Providers that are here.", count_providers(text->host));
	put_host(b, &view);
	put_tenants(b, text->host, view.tenants);
	put_counters(b, host_counters(text->host));
	/* the last of them ends the text */
	put_text(&text->of_vms[ARRAY_SIZE(families) - 1], "# EOF\n");
	if (b->failed)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (text->of_vms[i].failed)
			return -ENOMEM;
	return 0;
}

int metrics_text_step(struct metrics_text *text, size_t vms)
{
	struct host_vm *vm = text->last[0] ? host_after(text->host, text->last) : host_next(text->host, NULL);

	for (; vm && vms > 0; vms--, vm = host_next(text->host, vm)) {
		look(text, vm);
		memcpy(text->last, host_vm_uuid(vm), sizeof(text->last));
	}
	return vm ? 1 : finish(text);
}

int metrics_text_new(struct metrics_text **ret, struct host *host)
{
	struct metrics_text *text = calloc(1, sizeof(*text));

	if (!text)
		return -ENOMEM;
	text->host = host;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		char name[64];

		snprintf(name, sizeof(name), "vm%s", f->name);
		put_head(&text->of_vms[i], name, f->type, f->unit, f->help);
	}
	*ret = text;
	return 0;
}

struct metrics_text *metrics_text_free(struct metrics_text *text)
{
	if (!text)
		return NULL;
	free(text->of_host.text);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		free(text->of_vms[i].text);
	free(text);
	return NULL;
}

size_t metrics_text_parts(const struct metrics_text *text)
{
	return 1 + ARRAY_SIZE(text->of_vms);
}

const char *metrics_text_part(const struct metrics_text *text, size_t index, size_t *ret_size)
{
	const struct buffer *b = index == 0 ? &text->of_host : &text->of_vms[index - 1];

	*ret_size = b->size;
	return b->text;
}
