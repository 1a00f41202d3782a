/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Who may hold which VM. core/claim.c decides whose it is, the fleet whether there is room; this collects the facts and
 * carries out what was decided.
 */

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/core/claim.h"
#include "daemon/host/host_private.h"

struct refusal {
	uint32_t code; /* CPUPOLICY_ERROR_*; 0: it is not refused */
	uint32_t rule; /* of registration, that refused it; 0: another reason */
	enum counters_registration outcome;
	char why[CPUPOLICY_ERROR_SIZE];
};

static void refuse(struct host *host, const struct host_registration *reg, const struct peer *peer,
		   const struct host_link_ops *ops, void *link, const struct refusal *refusal)
{
	char uuid[UUID_TEXT_SIZE], rule[32];
	struct peerlog_fields fields;

	host->counters.registrations[refusal->outcome]++;
	if (peerlog_open(&host->peerlog, peer->uid, host_now(host))) {
		uuid_format(uuid, reg->uuid);
		snprintf(rule, sizeof(rule), "registration-%u", refusal->rule);
		log_fields(LOG_WARNING,
			   peerlog_fields(&fields, peer,
					  (const struct log_field[]){
						  {"VM_UUID", uuid},
						  {"VM_NAME", reg->name},
						  {"RULE", refusal->rule > 0 ? rule : NULL},
						  {NULL, NULL},
					  }),
			   "refused to register VM %s: %s", reg->name, refusal->why);
	}
	ops->refused(link, refusal->code, refusal->why);
}

static bool tokens_equal(const uint8_t *a, const uint8_t *b)
{
	uint8_t differ = 0;

	for (size_t i = 0; i < CPUPOLICY_TOKEN_SIZE; i++)
		differ |= a[i] ^ b[i];
	return differ == 0;
}

static bool token_given(const uint8_t *token)
{
	static const uint8_t none[CPUPOLICY_TOKEN_SIZE];

	return !tokens_equal(token, none);
}

/* Whose VMM has ended without anybody noticing yet is stopped first: its successor may be who registers now. */
static void settle(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	struct host_vm *vm = host_index_uuid(&host->index, uuid);

	if (!vm)
		return;
	if (vm->live && vm->live->ops->ended && vm->live->ops->ended(vm->live->link)) {
		host_session_close(vm->live, "the VMM has hung up");
		host_session_lost(vm, !peer_alive(vm->peer.pid, vm->peer.start_time));
		vm = host_index_uuid(&host->index, uuid);
	}
	if (vm && vm->core->link == VM_DISCONNECTED)
		host_session_check_process(vm);
}

/* What the policy says of the VM that it would be. */
static struct policy_decision would_have(const struct host *host, const struct host_vm *vm,
					 const struct host_registration *reg, uid_t uid)
{
	struct policy_subject subject = {.name = reg->name, .uid = uid};
	struct policy_decision decision;

	memcpy(subject.uuid, reg->uuid, sizeof(subject.uuid));
	if (vm) {
		subject.class = vm->assigned.class;
		subject.tenant = vm->assigned.tenant;
	}
	host_policy_announced_subject(host, &subject);
	policy_assign(host->policy, &subject, &decision);
	return decision;
}

static bool is_the_opened(const struct host_voucher *voucher, const struct host_registration *reg,
			  const struct peer *peer)
{
	return memcmp(voucher->uuid, reg->uuid, sizeof(voucher->uuid)) == 0 && voucher->uid == peer->uid &&
	       (!*voucher->name || strcmp(voucher->name, reg->name) == 0);
}

/* A label may come with a mode that whoever announced it does not say. */
static bool is_label(const char *announced, const char *label)
{
	size_t length = label ? peer_label_length(label) : 0;

	return label && (strcmp(announced, label) == 0 ||
			 (strlen(announced) == length && memcmp(announced, label, length) == 0));
}

/* What a provider said of the VM, against the peer. */
static void compare_announced(const struct host *host, const struct host_registration *reg, const struct peer *peer,
			      struct claim *claim)
{
	const struct host_announcement *a = host_announcement_find(host, reg->uuid);
	bool uid_said = a && a->said.uid != STORE_ANNOUNCEMENT_ANY_UID, label_said = a && a->said.label;

	claim->announced = a;
	claim->not_announced_uid = uid_said && peer->uid != 0 && peer->uid != a->said.uid;
	claim->not_announced_label = label_said && !is_label(a->said.label, peer->label);
	claim->announced_as = uid_said && peer->uid == a->said.uid && !claim->not_announced_label;
	/* Nobody takes the name of one that is to come. */
	if (!reg->voucher && host_announcement_name_is_taken(host, reg->name, reg->uuid))
		claim->name_taken = true;
}

/* The rules of registration. */
static bool is_denied(const struct host *host, const struct host_registration *reg, const struct peer *peer,
		      uint32_t tenant, const struct claim *claim, uint32_t *ret_rule)
{
	const struct registrants_subject subject = {
		.name = reg->name,
		.uuid = reg->uuid,
		.tenant = tenant,
		.peer = peer,
		.announced = claim->announced && !claim->not_announced_uid && !claim->not_announced_label,
	};

	return !registrants_allow(policy_registrants(host->policy), &subject, ret_rule);
}

static enum claim_outcome decide(struct host *host, const struct host_vm *vm, const struct host_registration *reg,
				 const struct peer *peer, uint32_t tenant, uint32_t *ret_rule)
{
	const struct host_vm *named = host_index_name(&host->index, reg->name);
	uint8_t ignored[CPUPOLICY_UUID_SIZE];
	uint32_t rule;
	struct claim c = {
		.name_taken = named && named != vm,
		.name_is_uuid = uuid_parse(ignored, reg->name) == 0,
		.token_given = token_given(reg->token),
		.incoming = reg->vm.flags & CPUPOLICY_REG_INCOMING,
		.full = host->index.n >= host->config->max_vms,
		.opened = reg->voucher,
		.not_the_opened = reg->voucher && !is_the_opened(reg->voucher, reg, peer),
	};
	enum claim_outcome outcome;

	compare_announced(host, reg, peer, &c);
	c.denied = is_denied(host, reg, peer, tenant, &c, &rule);
	if (vm) {
		c.uuid_known = true;
		c.stopped = vm->core->link == VM_STOPPED;
		c.live = !c.stopped;
		c.token_matches = tokens_equal(reg->token, vm->token);
		c.name_differs = strcmp(reg->name, vm->name) != 0;
		c.possible_differs = reg->possible != vm->core->possible;
		c.same_owner = peer->uid == 0 || peer->uid == vm->peer.uid;
		c.same_process = peer_same_process(peer, &vm->peer);
		c.incoming_taken = vm->incoming != NULL;
		/* A former migration source that connects again must not take the VM from who runs it. */
		if (vm->live && reg->vm.run_state == CPUPOLICY_RUN_INACTIVE)
			c.incoming = true;
		/* A target that was cut off before it knew that the VM is its own now. */
		if (!vm->live && peer->pid == vm->peer.pid && peer->start_time == vm->peer.start_time)
			c.incoming = false;
	}
	outcome = claim_decide(&c);
	*ret_rule = outcome == CLAIM_REFUSED_RULE ? rule : 0;
	return outcome;
}

/* The name may be new; the record keeps what an operator asked for. */
static int find_or_make(struct host_vm **ret, struct host *host, struct host_vm *vm,
			const struct host_registration *reg, uid_t uid)
{
	static const struct host_assigned none = {.uid = (uid_t)-1};
	int r;

	if (vm) {
		r = strcmp(vm->name, reg->name) != 0 || vm->core->possible != reg->possible
			    ? host_vm_reshape(vm, reg->name, reg->possible)
			    : 0;
		*ret = vm;
		return r;
	}
	r = host_vm_new(&vm, host, reg->uuid, reg->name, reg->possible, uid, &none);
	if (r < 0)
		return r;
	r = host_vm_enter(vm, NULL, NULL, false);
	if (r < 0) {
		host_vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

/* What it boots with, if no operator asked for a count: as announced, else as its VMM proposes. */
static struct vm_registration as_announced(const struct host_vm *vm, const struct vm_registration *registration)
{
	const struct host_announcement *a = host_announcement_find(vm->host, vm->uuid);
	uint32_t possible = vm->core->possible;
	struct vm_registration r = *registration;

	if (a && a->said.desired > 0)
		r.boot = a->said.desired < possible ? a->said.desired : possible;
	return r;
}

/* Whether there is room for what its class guarantees, and new VMs are welcome. */
static bool admit(struct host_vm *vm, const struct vm_registration *proposed, struct refusal *ret_refusal)
{
	const struct vm_registration registration = as_announced(vm, proposed);
	struct host *host = vm->host;
	struct fleet_answer answer;
	char why[EXPLAIN_TEXT_SIZE];

	answer = host_fleet_apply(host,
				  HOST_EVENT(.kind = FLEET_START, .vm = &vm->member, .registration = &registration));
	if (answer.rule == RULE_NONE && !answer.would_refuse)
		return true;
	explain_text(why, sizeof(why), vm->name, &answer.line);
	if (answer.would_refuse) {
		host_notice_log(vm, HOST_LINE(.level = LOG_NOTICE, .rule = rule_name(answer.line.rule)),
				"VM %s is admitted, since it is observed; else: %s", vm->name, why);
		return true;
	}
	host->counters.refusals[answer.rule]++;
	ret_refusal->code = CPUPOLICY_ERROR_LIMIT;
	ret_refusal->outcome = COUNTERS_REFUSED_ADMISSION;
	snprintf(ret_refusal->why, sizeof(ret_refusal->why), "%.*s.", (int)sizeof(ret_refusal->why) - 2, why);
	return false;
}

/* 1: admission refuses it. */
static int start_vm(struct host_vm *vm, struct host_session *s, const struct host_registration *reg,
		    struct refusal *ret_refusal)
{
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	int r;

	if (getrandom(token, sizeof(token), 0) != (ssize_t)sizeof(token))
		return -EIO;
	s->vm = vm;
	if (host_policy_differs(vm, s->peer.uid))
		host_policy_apply(vm, s->peer.uid);
	r = host_session_make_page(s);
	if (r < 0)
		return r;
	if (!admit(vm, &reg->vm, ret_refusal))
		return 1;
	memcpy(vm->token, token, sizeof(token));
	host_session_make_live(vm, s);
	s->starts = s->reply_due = true;
	host_session_begin(vm, s);
	return 0;
}

static int start(struct host *host, struct host_vm *vm, struct host_session *s, const struct host_registration *reg,
		 struct refusal *ret_refusal)
{
	bool made = !vm;
	int r = find_or_make(&vm, host, vm, reg, s->peer.uid);

	if (r < 0)
		return r;
	r = start_vm(vm, s, reg, ret_refusal);
	if (r == 0)
		return 0;
	if (made)
		host_vm_remove(vm, "it could not start");
	else
		host_record_touch(vm, false); /* its name may be another one */
	host_fleet_settle(host);
	return r;
}

static int resume(struct host_vm *vm, struct host_session *s, const struct host_registration *reg)
{
	int r;

	s->vm = vm;
	r = host_session_make_page(s);
	if (r < 0)
		return r;
	if (vm->live) {
		host_session_silence(vm->live);
		host_session_close(vm->live, "another connection with this VM's token took its place");
	}
	host_session_make_live(vm, s);
	s->reply_due = true;
	host_session_resume(vm, &reg->vm);
	host_session_begin(vm, s);
	return 0;
}

static int join(struct host_vm *vm, struct host_session *s, const struct host_registration *reg)
{
	struct host_facts *facts;
	int r;

	s->vm = vm;
	r = host_session_make_page(s);
	if (r < 0)
		return r;
	facts = malloc(sizeof(*facts) + reg->possible * sizeof(facts->vcpus[0]));
	if (!facts)
		return -ENOMEM;
	facts->flags = reg->vm.flags;
	facts->boot = reg->vm.boot;
	facts->run_state = reg->vm.run_state;
	memcpy(facts->vcpus, reg->vm.vcpus, reg->possible * sizeof(facts->vcpus[0]));
	s->facts = facts;
	s->role = HOST_ROLE_INCOMING;
	vm->incoming = s;
	vmpage_publish(s->page, vm->core->epoch, 1);
	vm->host->counters.registrations[COUNTERS_JOINED]++;
	host_notice_changed(vm);
	if (host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &s->peer.uid),
				"VM %s: process %d joins as migration target", vm->name, (int)s->peer.pid);
	return 0;
}

static int carry_out(struct host *host, enum claim_outcome outcome, struct host_vm *vm, struct host_session *s,
		     const struct host_registration *reg, struct refusal *ret_refusal)
{
	switch (outcome) {
	case CLAIM_START:
		return start(host, vm, s, reg, ret_refusal);
	case CLAIM_RESUME:
		return resume(vm, s, reg);
	default:
		return join(vm, s, reg);
	}
}

/* All but room for it. */
static enum claim_outcome examine(struct host *host, struct host_vm *vm, const struct host_registration *reg,
				  const struct peer *peer, struct refusal *ret)
{
	struct policy_decision has = would_have(host, vm, reg, peer->uid);
	enum claim_outcome outcome = decide(host, vm, reg, peer, has.assignment.tenant, &ret->rule);
	const char *why = claim_refusal(outcome, &ret->code);

	ret->outcome = outcome == CLAIM_REFUSED_FULL ? COUNTERS_REFUSED_LIMIT : COUNTERS_REFUSED_IDENTITY;
	if (!why && host_policy_asks(has.assignment.class) && !(reg->features & CPUPOLICY_F_ASK)) {
		ret->code = CPUPOLICY_ERROR_UNSUPPORTED;
		ret->outcome = COUNTERS_REFUSED_UNSUPPORTED;
		why = "The class of this VM asks before each CPU_ON, and this VMM cannot ask.";
	}
	if (!why && vm && (vm->forgetting || (vm->live && vm->live->reply_due))) {
		ret->code = CPUPOLICY_ERROR_BUSY;
		ret->outcome = COUNTERS_REFUSED_BUSY;
		why = "Another registration of this VM is being recorded.";
	}
	if (why)
		snprintf(ret->why, sizeof(ret->why), "%s", why);
	else
		ret->code = 0;
	return outcome;
}

int host_attach(struct host *host, const struct host_registration *reg, const struct peer *peer,
		const struct host_link_ops *ops, void *link, struct host_session **ret)
{
	_cleanup_(host_session_freep) struct host_session *s = NULL;
	struct refusal refusal = {0};
	enum claim_outcome outcome;
	struct host_vm *vm;
	int r = 0;

	settle(host, reg->uuid);
	vm = host_index_uuid(&host->index, reg->uuid);
	outcome = examine(host, vm, reg, peer, &refusal);
	if (refusal.code == 0) {
		r = host_session_new(&s, host, reg, peer, ops, link);
		if (r >= 0)
			r = carry_out(host, outcome, vm, s, reg, &refusal);
	}
	if (r < 0) {
		host->counters.registrations[COUNTERS_REFUSED_RESOURCES]++;
		return r;
	}
	if (refusal.code != 0) {
		*ret = NULL;
		refuse(host, reg, peer, ops, link, &refusal);
		return 0;
	}
	*ret = s;
	vm = s->vm;
	if (outcome == CLAIM_INCOMING) {
		host_vm_hold(vm);
		host_session_joined(vm, TAKE(s));
		host_vm_release(vm);
	}
	s = NULL;
	return 0;
}
