/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Which connection holds which VM. core/claim.c decides who may; this collects the facts, carries out what was decided,
 * and follows sessions to their end and VMM processes to theirs.
 */

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "daemon/core/claim.h"
#include "daemon/host_private.h"
#include "daemon/util.h"
#include "proto/page.h"

/* A session that awaits a change which has no number yet. */
#define AWAITS_UNKNOWN UINT64_MAX

static bool lose(struct host_vm *vm, bool gone);

/* ---- sessions ---- */

static struct host_session *session_free(struct host_session *s)
{
	if (!s)
		return NULL;
	vmpage_free(s->page);
	peer_clear(&s->peer);
	free(s->facts);
	free(s);
	return NULL;
}
DEFINE_CLEANUP(struct host_session *, session_free)

static void session_unlink(struct host_session *s)
{
	struct host_session **places[] = {&s->vm->live, &s->vm->incoming, &s->vm->retired};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (*places[i] == s)
			*places[i] = NULL;
}

/* The page outlives the session in its VMM. What it says must not, where another session holds the VM. */
static void session_silence(struct host_session *s)
{
	for (uint32_t i = 0; s->page && i < s->vm->core->possible; i++)
		vmpage_set_word(s->page, i, 0);
}

void host_session_close(struct host_session *session, const char *why)
{
	if (!session)
		return;
	session_unlink(session);
	session->ops->closed(session->link, why);
	session_free(session);
}

static int peer_copy(struct peer *ret, const struct peer *peer)
{
	char *label = NULL;

	if (peer->label) {
		label = strdup(peer->label);
		if (!label)
			return -ENOMEM;
	}
	*ret = *peer;
	ret->label = label;
	return 0;
}

static int session_new(struct host_session **ret, struct host *host, const struct host_registration *reg,
		       const struct peer *peer, const struct host_link_ops *ops, void *link)
{
	_cleanup_(session_freep) struct host_session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->host = host;
	s->ops = ops;
	s->link = link;
	s->features = reg->features;
	r = peer_copy(&s->peer, peer);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

static int session_make_page(struct host_session *s)
{
	return vmpage_new(&s->page, s->vm->core->possible, s->vm->core->class->ask_timeout_ms);
}

/* ---- the process of a VMM that lost us ---- */

void host_registration_unwatch(struct host_vm *vm)
{
	vm->watch = loop_io_free(vm->watch);
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	vm->pidfd = -1;
}

static void on_process_end(int fd, unsigned events, void *userdata)
{
	struct host_vm *vm = userdata;

	host_registration_unwatch(vm);
	if (vm->incoming)
		host_registration_activate(vm);
	else
		lose(vm, true);
}

/* Where it cannot be watched, the next registration or the next start of the daemon looks again. */
static void watch_process(struct host_vm *vm)
{
	host_registration_unwatch(vm);
	if (vm->peer.pid <= 0)
		return;
	vm->pidfd = (int)syscall(SYS_pidfd_open, vm->peer.pid, 0);
	if (vm->pidfd < 0)
		return;
	if (loop_io_new(&vm->watch, vm->host->loop, vm->pidfd, LOOP_READ, on_process_end, vm) < 0)
		host_registration_unwatch(vm);
}

bool host_registration_check_process(struct host_vm *vm)
{
	/* The order matters: what is watched is the process that was seen alive after it, and no later one of its number. */
	watch_process(vm);
	if (peer_alive(vm->peer.pid, vm->peer.start_time))
		return false;
	host_registration_unwatch(vm);
	if (vm->incoming) {
		host_registration_activate(vm);
		return false;
	}
	return lose(vm, true);
}

/* ---- the end of a live session ---- */

static void stop_or_disconnect(struct host_vm *vm, bool gone)
{
	host_fleet_apply(vm->host, HOST_EVENT(.kind = FLEET_LOST, .vm = &vm->member, .gone = gone));
	/* A VM that stopped is recorded as such, or deleted, by whoever knows which. */
	host_effect_apply(vm, host_fleet_take(vm) | (gone ? HOST_EFFECT_RECORDED : 0));
	host_notice_changed(vm);
}

/* The live session is gone already. True: the VM was removed, the pointer is dead. */
static bool lose(struct host_vm *vm, bool gone)
{
	struct host *host = vm->host;

	stop_or_disconnect(vm, gone);
	if (!gone) {
		watch_process(vm);
		host_fleet_settle(host);
		return false;
	}
	if (vm->visible && host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid), "VM %s has stopped", vm->name);
	if (!vm->core->desired_set || !vm->visible) {
		host_vm_remove(vm, "the VM has ended");
		return true;
	}
	host_record_touch(vm, false);
	host_fleet_settle(host);
	return false;
}

static void end_live(struct host_vm *vm, bool gone)
{
	if (!gone && host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING, .uid = &vm->peer.uid),
				"VM %s: the connection of its VMM was lost, its policy stays as it was", vm->name);
	if (gone && vm->incoming)
		host_registration_activate(vm);
	else
		lose(vm, gone);
}

static void end_migrated(struct host_vm *vm)
{
	if (vm->incoming) {
		host_registration_activate(vm);
		return;
	}
	host_vm_hold(vm);
	stop_or_disconnect(vm, true);
	if (host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid), "VM %s lives on elsewhere",
				vm->name);
	host_vm_remove(vm, "the VM lives on elsewhere");
	host_vm_release(vm);
}

void host_detach(struct host_session *session, enum host_end end)
{
	struct host_vm *vm;
	bool live, unborn;

	if (!session)
		return;
	vm = session->vm;
	live = session->role == HOST_ROLE_LIVE;
	unborn = session->starts;
	session_unlink(session);
	session_free(session);
	if (end == HOST_END_DAEMON)
		return;
	if (!live)
		host_notice_changed(vm);
	else if (unborn || end == HOST_END_SHUTDOWN)
		end_live(vm, true);
	else if (end == HOST_END_MIGRATED)
		end_migrated(vm);
	else
		end_live(vm, !peer_alive(vm->peer.pid, vm->peer.start_time));
}

/* ---- becoming live ---- */

static void make_live(struct host_vm *vm, struct host_session *s)
{
	struct peer previous = vm->peer;

	host_registration_unwatch(vm);
	vm->live = s;
	s->role = HOST_ROLE_LIVE;
	s->awaits = AWAITS_UNKNOWN;
	vm->peer = s->peer;
	s->peer = previous;
}

/* The event of its registration is applied. The page stays silent until the session's epoch is durable. */
static void begin(struct host_vm *vm, struct host_session *s)
{
	host_effect_apply(vm, host_fleet_take(vm) | HOST_EFFECT_RECORDED);
	host_notice_changed(vm);
	/* Its owner may be another one. What refuses the class that follows from that does not refuse who comes back. */
	if (host_policy_differs(vm, vm->peer.uid)) {
		host_policy_apply(vm, vm->peer.uid);
		host_effect_apply(vm, host_fleet_take(vm) | HOST_EFFECT_RECORDED);
	}
	s->awaits = host_record_touch(vm, true);
	host_fleet_settle(vm->host);
}

static void apply_resume(struct host_vm *vm, const struct vm_registration *registration)
{
	host_fleet_apply(vm->host, HOST_EVENT(.kind = FLEET_RESUME, .vm = &vm->member, .registration = registration));
}

static void retire(struct host_vm *vm)
{
	struct host_session *s = vm->live;

	if (!s)
		return;
	host_session_close(vm->retired, "another session of this VM was retired");
	session_silence(s);
	vm->live = NULL;
	vm->retired = s;
	s->role = HOST_ROLE_RETIRED;
}

void host_registration_activate(struct host_vm *vm)
{
	struct host_session *s = vm->incoming;
	_cleanup_free_ struct host_facts *facts = NULL;

	if (!s)
		return;
	facts = TAKE(s->facts);
	vm->incoming = NULL;
	retire(vm);
	make_live(vm, s);
	if (host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid),
				"VM %s has migrated to process %d", vm->name, (int)vm->peer.pid);
	apply_resume(vm, &(struct vm_registration){
				 .flags = facts->flags,
				 .boot = facts->boot,
				 .run_state = facts->run_state,
				 .vcpus = facts->vcpus,
			 });
	begin(vm, s);
}

/* ---- registration ---- */

struct refusal {
	uint32_t code; /* CPUPOLICY_ERROR_*; 0: it is not refused */
	enum counters_registration outcome;
	char why[CPUPOLICY_ERROR_SIZE];
};

static void refuse(struct host *host, const struct host_registration *reg, const struct peer *peer,
		   const struct host_link_ops *ops, void *link, const struct refusal *refusal)
{
	char uuid[UUID_TEXT_SIZE], uid[16];

	host->counters.registrations[refusal->outcome]++;
	if (peerlog_open(&host->peerlog, peer->uid, host_now(host))) {
		uuid_format(uuid, reg->uuid);
		snprintf(uid, sizeof(uid), "%u", (unsigned)peer->uid);
		log_fields(LOG_WARNING,
			   (const struct log_field[]){
				   {"VM_UUID", uuid},
				   {"VM_NAME", reg->name},
				   {"UID", uid},
				   {NULL, NULL},
			   },
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
		end_live(vm, !peer_alive(vm->peer.pid, vm->peer.start_time));
		vm = host_index_uuid(&host->index, uuid);
	}
	if (vm && vm->core->link == VM_DISCONNECTED)
		host_registration_check_process(vm);
}

static enum claim_outcome decide(struct host *host, const struct host_vm *vm, const struct host_registration *reg,
				 const struct peer *peer)
{
	const struct host_vm *named = host_index_name(&host->index, reg->name);
	uint8_t ignored[CPUPOLICY_UUID_SIZE];
	struct claim c = {
		.name_taken = named && named != vm,
		.name_is_uuid = uuid_parse(ignored, reg->name) == 0,
		.token_given = token_given(reg->token),
		.incoming = reg->vm.flags & CPUPOLICY_REG_INCOMING,
		.full = host->index.n >= host->config->max_vms,
	};

	if (vm) {
		c.uuid_known = true;
		c.stopped = vm->core->link == VM_STOPPED;
		c.live = !c.stopped;
		c.token_matches = tokens_equal(reg->token, vm->token);
		c.name_differs = strcmp(reg->name, vm->name) != 0;
		c.possible_differs = reg->possible != vm->core->possible;
		c.same_owner = peer->uid == 0 || peer->uid == vm->peer.uid;
		c.incoming_taken = vm->incoming != NULL;
		/* A former migration source that connects again must not take the VM from who runs it. */
		if (vm->live && reg->vm.run_state == CPUPOLICY_RUN_INACTIVE)
			c.incoming = true;
	}
	return claim_decide(&c);
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
	r = host_vm_enter(vm, NULL, false);
	if (r < 0) {
		host_vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

static void answer(struct host_session *s)
{
	const struct host_vm *vm = s->vm;
	struct cpupolicy_register_reply reply = {
		.epoch = vm->core->epoch,
		.possible = vm->core->possible,
		.page_size = vmpage_size(s->page),
	};
	int page_fd, doorbell_fd;

	s->reply_due = false;
	memcpy(reply.token, vm->token, sizeof(reply.token));
	for (uint32_t i = 0; s->role == HOST_ROLE_LIVE && i < vm->core->possible; i++)
		reply.enabled += !!(vm_word(vm->core, i) & CPUPOLICY_WORD_ENABLED);
	if (vmpage_take_descriptors(s->page, &page_fd, &doorbell_fd) < 0)
		return; /* a session is answered once */
	s->ops->registered(s->link, &reply, page_fd, doorbell_fd);
}

/* Whether there is room for what its class guarantees, and new VMs are welcome. */
static bool admit(struct host_vm *vm, const struct vm_registration *registration, struct refusal *ret_refusal)
{
	struct host *host = vm->host;
	struct fleet_answer answer;
	char why[EXPLAIN_TEXT_SIZE];

	answer = host_fleet_apply(host,
				  HOST_EVENT(.kind = FLEET_START, .vm = &vm->member, .registration = registration));
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
	r = session_make_page(s);
	if (r < 0)
		return r;
	if (!admit(vm, &reg->vm, ret_refusal))
		return 1;
	memcpy(vm->token, token, sizeof(token));
	make_live(vm, s);
	s->starts = s->reply_due = true;
	begin(vm, s);
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
	r = session_make_page(s);
	if (r < 0)
		return r;
	if (vm->live) {
		session_silence(vm->live);
		host_session_close(vm->live, "another connection with this VM's token took its place");
	}
	make_live(vm, s);
	s->reply_due = true;
	apply_resume(vm, &reg->vm);
	begin(vm, s);
	return 0;
}

static int join(struct host_vm *vm, struct host_session *s, const struct host_registration *reg)
{
	struct host_facts *facts;
	int r;

	s->vm = vm;
	r = session_make_page(s);
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

/* What follows a registration that is in place: the guest may be here already. */
static void joined(struct host_vm *vm, struct host_session *s)
{
	answer(s);
	/* The answer may have ended the session. */
	if (vm->incoming && vm->live && vm->live->awaits == 0 && vm->core->run_state == CPUPOLICY_RUN_INACTIVE)
		host_registration_activate(vm);
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

/* The class that it has, or would have. */
static const struct service_class *class_of(const struct host *host, const struct host_vm *vm,
					    const struct host_registration *reg, uid_t uid)
{
	struct policy_subject subject = {.name = reg->name, .uid = uid};
	struct policy_decision decision;

	memcpy(subject.uuid, reg->uuid, sizeof(subject.uuid));
	if (vm) {
		subject.class = vm->assigned.class;
		subject.tenant = vm->assigned.tenant;
	}
	policy_assign(host->policy, &subject, &decision);
	return decision.assignment.class;
}

/* All but room for it. */
static enum claim_outcome examine(struct host *host, struct host_vm *vm, const struct host_registration *reg,
				  const struct peer *peer, struct refusal *ret)
{
	enum claim_outcome outcome = decide(host, vm, reg, peer);
	const char *why = claim_refusal(outcome, &ret->code);

	ret->outcome = outcome == CLAIM_REFUSED_FULL ? COUNTERS_REFUSED_LIMIT : COUNTERS_REFUSED_IDENTITY;
	if (!why && host_policy_asks(class_of(host, vm, reg, peer->uid)) && !(reg->features & CPUPOLICY_F_ASK)) {
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
	_cleanup_(session_freep) struct host_session *s = NULL;
	struct refusal refusal = {0};
	enum claim_outcome outcome;
	struct host_vm *vm;
	int r = 0;

	settle(host, reg->uuid);
	vm = host_index_uuid(&host->index, reg->uuid);
	outcome = examine(host, vm, reg, peer, &refusal);
	if (refusal.code == 0) {
		r = session_new(&s, host, reg, peer, ops, link);
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
		joined(vm, TAKE(s));
		host_vm_release(vm);
	}
	s = NULL;
	return 0;
}

/* ---- durability ---- */

void host_registration_durable(struct host_vm *vm)
{
	struct host *host = vm->host;
	struct host_session *s = vm->live;

	if (!s || s->awaits == 0 || s->awaits > vm->record.durable)
		return;
	s->awaits = 0;
	if (s->reply_due)
		host->counters.registrations[s->starts ? COUNTERS_STARTED : COUNTERS_RESUMED]++;
	s->starts = false;
	host_effect_publish(vm);
	if (!vm->visible) {
		vm->visible = true;
		if (host->observer && host->observer->added)
			host->observer->added(vm, host->observer_data);
	}
	if (!s->reply_due)
		return;
	if (host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid),
				"VM %s is registered by process %d, epoch %u, %u possible vCPUs", vm->name,
				(int)vm->peer.pid, vm->core->epoch, vm->core->possible);
	joined(vm, s);
}

void host_registration_not_durable(struct host_vm *vm, const char *why)
{
	struct host_session *s = vm->live;
	char sentence[CPUPOLICY_ERROR_SIZE];
	bool unborn;

	if (!s || !s->reply_due)
		return;
	unborn = s->starts;
	vm->live = NULL;
	vm->host->counters.registrations[COUNTERS_REFUSED_STORAGE]++;
	snprintf(sentence, sizeof(sentence), "The registration cannot be recorded: %s", why);
	s->ops->refused(s->link, CPUPOLICY_ERROR_STORAGE, sentence);
	session_free(s);
	lose(vm, unborn);
}
