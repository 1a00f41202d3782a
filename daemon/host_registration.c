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
	r = peer_copy(&s->peer, peer);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

static int session_make_page(struct host_session *s)
{
	return vmpage_new(&s->page, s->vm->core->possible, s->vm->core->level->ask_timeout_ms);
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
	/* The order matters: what is watched is the process that was seen alive after it, and no later one of its
	 * number. */
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

/* The live session is gone already. True: the VM was removed, the pointer is dead. */
static bool lose(struct host_vm *vm, bool gone)
{
	unsigned effects = vm_lost(vm->core, gone, loop_now(vm->host->loop));

	if (gone)
		effects &= ~(unsigned)VM_EFFECT_STORE; /* below, if at all */
	host_effect_apply(vm, effects);
	host_notice_changed(vm);
	if (!gone) {
		watch_process(vm);
		return false;
	}
	if (vm->visible && host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid), "VM %s has stopped", vm->name);
	if (!vm->core->desired_set || !vm->visible) {
		host_vm_remove(vm, "the VM has ended");
		return true;
	}
	host_record_touch(vm, false);
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
	host_effect_apply(vm, vm_lost(vm->core, true, loop_now(vm->host->loop)) & ~(unsigned)VM_EFFECT_STORE);
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

/* The page stays silent until the session's epoch is durable. */
static void begin(struct host_vm *vm, struct host_session *s, unsigned effects)
{
	host_effect_apply(vm, effects & ~(unsigned)VM_EFFECT_STORE);
	host_notice_changed(vm);
	s->awaits = host_record_touch(vm, true);
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
	begin(vm, s,
	      vm_resume(vm->core,
			&(struct vm_registration){
				.flags = facts->flags,
				.boot = facts->boot,
				.run_state = facts->run_state,
				.vcpus = facts->vcpus,
			},
			loop_now(vm->host->loop)));
}

/* ---- registration ---- */

static void refuse(struct host *host, const struct host_registration *reg, const struct peer *peer,
		   const struct host_link_ops *ops, void *link, uint32_t code, const char *why)
{
	char uuid[UUID_TEXT_SIZE], uid[16];

	if (peerlog_open(&host->peerlog, peer->uid, loop_now(host->loop))) {
		uuid_format(uuid, reg->uuid);
		snprintf(uid, sizeof(uid), "%u", (unsigned)peer->uid);
		log_fields(LOG_WARNING,
			   (const struct log_field[]){
				   {"VM_UUID", uuid},
				   {"VM_NAME", reg->name},
				   {"UID", uid},
				   {NULL, NULL},
			   },
			   "refused to register VM %s: %s", reg->name, why);
	}
	ops->refused(link, code, why);
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
		/* A target that was cut off before it knew that the VM is its own now. */
		if (!vm->live && peer->pid == vm->peer.pid && peer->start_time == vm->peer.start_time)
			c.incoming = false;
	}
	return claim_decide(&c);
}

static bool level_asks(const struct service_level *level)
{
	return level->ask || level->cpu_on.per_second > 0;
}

/* The name may be new; the record keeps what an operator asked for. */
static int find_or_make(struct host_vm **ret, struct host *host, struct host_vm *vm,
			const struct host_registration *reg)
{
	int r;

	if (!vm)
		return host_vm_new(ret, host, reg->uuid, reg->name, reg->possible);
	if (strcmp(vm->name, reg->name) != 0 || vm->core->possible != reg->possible) {
		r = host_vm_reshape(vm, reg->name, reg->possible);
		if (r < 0)
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

static int start(struct host *host, struct host_vm *vm, struct host_session *s, const struct host_registration *reg)
{
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	bool made = !vm;
	int r;

	if (getrandom(token, sizeof(token), 0) != (ssize_t)sizeof(token))
		return -EIO;
	r = find_or_make(&vm, host, vm, reg);
	if (r < 0)
		return r;
	s->vm = vm;
	r = session_make_page(s);
	if (r < 0) {
		if (made)
			host_vm_remove(vm, "no policy page");
		return r;
	}
	memcpy(vm->token, token, sizeof(token));
	make_live(vm, s);
	s->starts = s->reply_due = true;
	begin(vm, s, vm_start(vm->core, &reg->vm, loop_now(host->loop)));
	return 0;
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
	begin(vm, s, vm_resume(vm->core, &reg->vm, loop_now(vm->host->loop)));
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
		     const struct host_registration *reg)
{
	switch (outcome) {
	case CLAIM_START:
		return start(host, vm, s, reg);
	case CLAIM_RESUME:
		return resume(vm, s, reg);
	default:
		return join(vm, s, reg);
	}
}

int host_attach(struct host *host, const struct host_registration *reg, const struct peer *peer,
		const struct host_link_ops *ops, void *link, struct host_session **ret)
{
	_cleanup_(session_freep) struct host_session *s = NULL;
	char uuid[UUID_TEXT_SIZE];
	enum claim_outcome outcome;
	struct host_vm *vm;
	const char *why;
	uint32_t code = 0;
	int r;

	settle(host, reg->uuid);
	vm = host_index_uuid(&host->index, reg->uuid);
	outcome = decide(host, vm, reg, peer);
	why = claim_refusal(outcome, &code);
	uuid_format(uuid, reg->uuid);
	if (!why && level_asks(config_level(host->config, uuid, reg->name)) && !(reg->features & CPUPOLICY_F_ASK)) {
		code = CPUPOLICY_ERROR_UNSUPPORTED;
		why = "The service level of this VM asks before each CPU_ON, and this VMM cannot ask.";
	}
	if (!why && vm && (vm->forgetting || (vm->live && vm->live->reply_due))) {
		code = CPUPOLICY_ERROR_BUSY;
		why = "Another registration of this VM is being recorded.";
	}
	if (why) {
		*ret = NULL;
		refuse(host, reg, peer, ops, link, code, why);
		return 0;
	}
	r = session_new(&s, host, reg, peer, ops, link);
	if (r < 0)
		return r;
	r = carry_out(host, outcome, vm, s, reg);
	if (r < 0)
		return r;
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

void host_registration_not_durable(struct host_vm *vm, uint64_t change, const char *why)
{
	struct host_session *s = vm->live;
	char sentence[CPUPOLICY_ERROR_SIZE];
	bool unborn;

	if (!s || !s->reply_due || s->awaits > change)
		return;
	unborn = s->starts;
	vm->live = NULL;
	snprintf(sentence, sizeof(sentence), "The registration cannot be recorded: %s", why);
	s->ops->refused(s->link, CPUPOLICY_ERROR_STORAGE, sentence);
	session_free(s);
	lose(vm, unborn);
}
