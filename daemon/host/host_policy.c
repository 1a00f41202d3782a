/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The policy in force. It says of each VM which class and tenant it has, by what was assigned, its name and its owner;
 * the fleet follows. A reload takes the place of all of it at once, or of nothing.
 */

#include <stdio.h>
#include <string.h>

#include "daemon/host/host_private.h"

/* ---- of one VM ---- */

void host_policy_announced_subject(const struct host *host, struct policy_subject *subject)
{
	const struct host_announcement *announced = host_announcement_find(host, subject->uuid);

	subject->announced_class = announced ? announced->said.class : NULL;
	subject->announced_tenant = announced ? announced->said.tenant : NULL;
}

struct policy_subject host_policy_subject(const struct host_vm *vm, uid_t uid)
{
	struct policy_subject subject = {
		.name = vm->name,
		.class = vm->assigned.class,
		.tenant = vm->assigned.tenant,
		.uid = uid,
	};

	for (size_t i = 0; i < sizeof(subject.uuid); i++)
		subject.uuid[i] = vm->uuid[i];
	host_policy_announced_subject(vm->host, &subject);
	return subject;
}

static struct policy_decision decide(const struct policy *policy, const struct host_vm *vm, uid_t uid)
{
	struct policy_subject subject = host_policy_subject(vm, uid);
	struct policy_decision decision;

	policy_assign(policy, &subject, &decision);
	return decision;
}

bool host_policy_differs(const struct host_vm *vm, uid_t uid)
{
	struct policy_decision decision = decide(vm->host->policy, vm, uid);

	return decision.assignment.class != vm->member.class || decision.assignment.tenant != vm->member.tenant;
}

struct fleet_answer host_policy_apply(struct host_vm *vm, uid_t uid)
{
	struct host *host = vm->host;
	struct policy_decision decision = decide(host->policy, vm, uid);
	struct fleet_answer answer;

	if (host->recorder) {
		struct policy_subject subject = host_policy_subject(vm, uid);

		recorder_subject(host->recorder, &vm->member, &subject, host_now(host));
	}
	answer = host_fleet_apply(
		host, HOST_EVENT(.kind = FLEET_ASSIGN, .vm = &vm->member, .assignment = decision.assignment));
	if (answer.rule == RULE_NONE)
		vm->decision = decision;
	return answer;
}

static void identity_of(struct host_identity *identity, const struct service_class *class,
			const struct fleet_tenant *tenants, uint32_t tenant)
{
	identity->class = class->name;
	identity->tenant = tenant != FLEET_NO_TENANT ? tenants[tenant].name : "";
}

void host_identify(const struct host *host, const char *vm, const char *name, uid_t uid, struct host_identity *ret)
{
	const struct host_vm *found = host_lookup(host, vm);
	struct host_identity identity = {.class = "", .tenant = ""};
	struct policy_subject subject = {.uid = uid};
	bool is_uuid = uuid_parse(subject.uuid, vm) >= 0;

	if (found)
		memcpy(identity.uuid, found->uuid_text, sizeof(identity.uuid));
	else if (is_uuid)
		uuid_format(identity.uuid, subject.uuid);
	if (found && !name) {
		identity_of(&identity, found->member.class, host->fleet.tenants, found->member.tenant);
	} else if (name && (found || is_uuid)) {
		uint32_t n;
		struct policy_decision decision;

		if (found)
			subject = host_policy_subject(found, uid);
		else
			host_policy_announced_subject(host, &subject);
		subject.name = name;
		policy_assign(host->policy, &subject, &decision);
		identity_of(&identity, decision.assignment.class, policy_tenants(host->policy, &n),
			    decision.assignment.tenant);
	}
	snprintf(identity.name, sizeof(identity.name), "%s", name ? name : found ? found->name : is_uuid ? "" : vm);
	*ret = identity;
}

static void log_unknown(const struct host_vm *vm)
{
	if (vm->decision.class_unknown)
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING),
				"VM %s was assigned to class %s, which the policy does not have", vm->name,
				vm->assigned.class);
	if (vm->decision.tenant_unknown)
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING),
				"VM %s was assigned to tenant %s, which the policy does not have", vm->name,
				vm->assigned.tenant);
	if (vm->decision.announced_class_unknown || vm->decision.announced_tenant_unknown)
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING),
				"VM %s was announced with a %s that the policy does not have", vm->name,
				vm->decision.announced_class_unknown ? "class" : "tenant");
}

void host_policy_announced(struct host_vm *vm)
{
	struct fleet_answer answer = host_policy_apply(vm, vm->peer.uid);
	char why[EXPLAIN_TEXT_SIZE];

	log_unknown(vm);
	if (answer.rule == RULE_NONE)
		return;
	answer.line.rule = answer.rule;
	answer.line.outcome = EXPLAIN_REFUSES;
	explain_text(why, sizeof(why), vm->name, &answer.line);
	host_notice_log(vm, HOST_LINE(.level = LOG_WARNING, .rule = rule_name(answer.rule)),
			"VM %s does not get the class and tenant that were announced, until the next reload: %s",
			vm->name, why);
}

/* ---- of the host ---- */

uint32_t host_policy_cpus(const struct host *host)
{
	return host->capacity_source ? capacity_cpus(host->capacity_source) : 0;
}

/* Not settled. */
static void set_capacity(struct host *host, const struct policy *policy)
{
	uint32_t capacity = policy_capacity_vcpus(policy, host_policy_cpus(host));

	if (capacity == host->fleet.capacity)
		return;
	host_fleet_apply(host, HOST_EVENT(.kind = FLEET_CAPACITY, .count = capacity));
	host_notice_host(host);
}

static void note_cpus(struct host *host)
{
	if (host->recorder)
		recorder_cpus(host->recorder, host_policy_cpus(host), host_now(host));
}

void host_capacity_changed(struct host *host)
{
	log_info("the host has %u CPUs for VMs", host_policy_cpus(host));
	note_cpus(host);
	set_capacity(host, host->policy);
	host_fleet_settle(host);
	host_notice_host(host);
}

static void assign(const struct fleet_vm *member, struct fleet_assignment *ret, void *userdata)
{
	const struct host_vm *vm = host_vm_of(member);

	*ret = decide(userdata, vm, vm->peer.uid).assignment;
}

static int take(struct host *host, struct policy *policy)
{
	struct fleet_policy next = {.observe = policy_observe(policy), .assign = assign, .userdata = policy};

	next.tenants = policy_tenants(policy, &next.n_tenants);
	return fleet_reload(&host->fleet, &next, host_now(host));
}

int host_policy_open(struct host *host)
{
	int r = take(host, host->policy);

	if (r < 0)
		return r;
	fleet_apply(&host->fleet, HOST_EVENT(.kind = FLEET_CAPACITY, .now = host_now(host),
					     .count = policy_capacity_vcpus(host->policy, host_policy_cpus(host))));
	return 0;
}

/* What was borrowed under the one is not asked back for the other: room that comes is there before the claims to it, and
 * room that goes stays until these have changed. */
static int take_with_capacity(struct host *host, struct policy *policy)
{
	bool grows = policy_capacity_vcpus(policy, host_policy_cpus(host)) > host->fleet.capacity;
	int r;

	if (grows && !host->fleet.frozen)
		set_capacity(host, policy);
	r = take(host, policy);
	if (r < 0) {
		set_capacity(host, host->policy);
		return r;
	}
	if (host->recorder)
		recorder_reload(host->recorder, &host->fleet, policy, host_now(host));
	set_capacity(host, policy);
	return 0;
}

static void follow(struct host *host)
{
	for (struct host_vm *vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm)) {
		vm->decision = decide(host->policy, vm, vm->peer.uid);
		log_unknown(vm);
	}
}

static void answer(struct host *host, enum host_error error, const char *why, host_done_fn fn, void *userdata)
{
	if (error == HOST_OK)
		host->counters.reloads++;
	else
		host->counters.reload_failures++;
	if (error != HOST_OK)
		log_error("the policy is not reloaded, the one in force stays: %s", why);
	if (fn)
		fn(error, why, 0, userdata);
}

void host_reload(struct host *host, uid_t uid, host_done_fn fn, void *userdata)
{
	_cleanup_free_ char *error = NULL;
	struct policy *policy = NULL;
	int r;

	if (host->fleet.frozen) {
		answer(host, HOST_FROZEN, "an operator froze the host: thaw it first", fn, userdata);
		return;
	}
	r = policy_load(&policy, host->config->policy_directory, &error);
	if (r >= 0)
		r = policy_resolve(policy, &error);
	if (r < 0) {
		policy_unref(policy);
		answer(host, r == -ENOMEM ? HOST_NO_MEMORY : HOST_INVALID_POLICY, error ? error : strerror(-r), fn,
		       userdata);
		return;
	}
	if (host->capacity_source)
		capacity_reread(host->capacity_source);
	note_cpus(host);
	r = take_with_capacity(host, policy);
	if (r < 0) {
		policy_unref(policy);
		host_fleet_settle(host);
		answer(host, HOST_NO_MEMORY, strerror(-r), fn, userdata);
		return;
	}
	policy_unref(host->policy);
	host->policy = policy;
	follow(host);
	host_fleet_settle(host);
	host_notice_host(host);
	log_info("uid %u has the policy in %s loaded", (unsigned)uid, host->config->policy_directory);
	if (host->observer && host->observer->reloaded)
		host->observer->reloaded(host->observer_data);
	answer(host, HOST_OK, NULL, fn, userdata);
}

void host_policy_thawed(struct host *host)
{
	for (struct host_vm *vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm))
		if (host_policy_differs(vm, vm->peer.uid))
			host_policy_apply(vm, vm->peer.uid);
	set_capacity(host, host->policy);
}
