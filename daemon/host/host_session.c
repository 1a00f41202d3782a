/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Connections that hold a VM, or wait to: how one becomes the live one, what it waits for, and how it ends. Follows VMM
 * processes to their end as well.
 */

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "daemon/host/host_private.h"
#include "proto/page.h"

/* A session that awaits a change which has no number yet. */
#define AWAITS_UNKNOWN UINT64_MAX

static bool lose(struct host_vm *vm, bool gone);

/* ---- sessions ---- */

struct host_session *host_session_free(struct host_session *s)
{
	if (!s)
		return NULL;
	vmpage_free(s->page);
	peer_clear(&s->peer);
	free(s->facts);
	free(s);
	return NULL;
}

static void session_unlink(struct host_session *s)
{
	struct host_session **places[] = {&s->vm->live, &s->vm->incoming, &s->vm->retired};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (*places[i] == s)
			*places[i] = NULL;
}

/* The page outlives the session in its VMM. What it says must not, where another session holds the VM. */
void host_session_silence(struct host_session *s)
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
	host_session_free(session);
}

int host_session_new(struct host_session **ret, struct host *host, const struct host_registration *reg,
		     const struct peer *peer, const struct host_link_ops *ops, void *link)
{
	_cleanup_(host_session_freep) struct host_session *s = calloc(1, sizeof(*s));
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

int host_session_make_page(struct host_session *s)
{
	return vmpage_new(&s->page, s->vm->core->possible, s->vm->core->class->ask_timeout_ms);
}

/* ---- the process of a VMM that lost us ---- */

void host_session_unwatch(struct host_vm *vm)
{
	vm->watch = loop_io_free(vm->watch);
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	vm->pidfd = -1;
}

static void on_process_end(int fd, unsigned events, void *userdata)
{
	struct host_vm *vm = userdata;

	host_session_unwatch(vm);
	if (vm->incoming)
		host_session_activate(vm);
	else
		lose(vm, true);
}

/* Where it cannot be watched, the next registration or the next start of the daemon looks again. */
static void watch_process(struct host_vm *vm)
{
	host_session_unwatch(vm);
	if (vm->peer.pid <= 0)
		return;
	vm->pidfd = (int)syscall(SYS_pidfd_open, vm->peer.pid, 0);
	if (vm->pidfd < 0)
		return;
	if (loop_io_new(&vm->watch, vm->host->loop, vm->pidfd, LOOP_READ, on_process_end, vm) < 0)
		host_session_unwatch(vm);
}

bool host_session_check_process(struct host_vm *vm)
{
	/* The order matters: what is watched is the process that was seen alive after it, and no later one of its number. */
	watch_process(vm);
	if (peer_alive(vm->peer.pid, vm->peer.start_time))
		return false;
	host_session_unwatch(vm);
	if (vm->incoming) {
		host_session_activate(vm);
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
		host_fleet_settle(host);
		/* It may have ended since it was seen alive: then nothing is left that could be watched. */
		return host_session_check_process(vm);
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

void host_session_lost(struct host_vm *vm, bool gone)
{
	if (!gone && host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_WARNING, .uid = &vm->peer.uid),
				"VM %s: the connection of its VMM was lost, its policy stays as it was", vm->name);
	if (gone && vm->incoming)
		host_session_activate(vm);
	else
		lose(vm, gone);
}

static void end_migrated(struct host_vm *vm)
{
	if (vm->incoming) {
		host_session_activate(vm);
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
	host_session_free(session);
	if (end == HOST_END_DAEMON)
		return;
	if (!live)
		host_notice_changed(vm);
	else if (unborn || end == HOST_END_SHUTDOWN)
		host_session_lost(vm, true);
	else if (end == HOST_END_MIGRATED)
		end_migrated(vm);
	else
		host_session_lost(vm, !peer_alive(vm->peer.pid, vm->peer.start_time));
}

/* ---- becoming live ---- */

void host_session_make_live(struct host_vm *vm, struct host_session *s)
{
	struct peer previous = vm->peer;

	host_session_unwatch(vm);
	vm->live = s;
	s->role = HOST_ROLE_LIVE;
	s->awaits = AWAITS_UNKNOWN;
	vm->peer = s->peer;
	s->peer = previous;
}

/* The event of its registration is applied. The page stays silent until the session's epoch is durable. */
void host_session_begin(struct host_vm *vm, struct host_session *s)
{
	/* s->peer is the one before, see host_session_make_live(). */
	bool same_process = s->peer.pid == vm->peer.pid && s->peer.start_time == vm->peer.start_time;

	host_effect_apply(vm, host_fleet_take(vm) | HOST_EFFECT_RECORDED);
	host_notice_changed(vm);
	/* Its owner may be another one. What refuses the class that follows from that does not refuse who comes back. */
	if (host_policy_differs(vm, vm->peer.uid)) {
		host_policy_apply(vm, vm->peer.uid);
		host_effect_apply(vm, host_fleet_take(vm) | HOST_EFFECT_RECORDED);
	}
	s->awaits = host_record_touch(vm, true);
	host_quota_session(vm, s->starts, same_process);
	host_cpu_begin(vm);
	host_fleet_settle(vm->host);
}

void host_session_resume(struct host_vm *vm, const struct vm_registration *registration)
{
	host_fleet_apply(vm->host, HOST_EVENT(.kind = FLEET_RESUME, .vm = &vm->member, .registration = registration));
}

static void retire(struct host_vm *vm)
{
	struct host_session *s = vm->live;

	if (!s)
		return;
	host_session_close(vm->retired, "another session of this VM was retired");
	host_session_silence(s);
	vm->live = NULL;
	vm->retired = s;
	s->role = HOST_ROLE_RETIRED;
}

void host_session_activate(struct host_vm *vm)
{
	struct host_session *s = vm->incoming;
	_cleanup_free_ struct host_facts *facts = NULL;

	if (!s)
		return;
	facts = TAKE(s->facts);
	vm->incoming = NULL;
	retire(vm);
	host_session_make_live(vm, s);
	if (host_notice_gate(vm))
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .uid = &vm->peer.uid),
				"VM %s has migrated to process %d", vm->name, (int)vm->peer.pid);
	host_session_resume(vm, &(struct vm_registration){
					.flags = facts->flags,
					.boot = facts->boot,
					.run_state = facts->run_state,
					.vcpus = facts->vcpus,
				});
	host_session_begin(vm, s);
}

/* ---- answering ---- */

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

/* What follows a registration that is in place: the guest may be here already. */
void host_session_joined(struct host_vm *vm, struct host_session *s)
{
	answer(s);
	/* The answer may have ended the session. */
	if (vm->incoming && vm->live && vm->live->awaits == 0 && vm->core->run_state == CPUPOLICY_RUN_INACTIVE)
		host_session_activate(vm);
}

/* ---- durability ---- */

void host_session_durable(struct host_vm *vm)
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
		host_notice_log(vm, HOST_LINE(.level = LOG_INFO, .peer = &vm->peer),
				"VM %s is registered by process %d, epoch %u, %u possible vCPUs", vm->name,
				(int)vm->peer.pid, vm->core->epoch, vm->core->possible);
	host_session_joined(vm, s);
}

void host_session_not_durable(struct host_vm *vm, uint64_t change, const char *why)
{
	struct host_session *s = vm->live;
	char sentence[CPUPOLICY_ERROR_SIZE];
	bool unborn;

	if (!s || !s->reply_due || s->awaits > change)
		return;
	unborn = s->starts;
	vm->live = NULL;
	vm->host->counters.registrations[COUNTERS_REFUSED_STORAGE]++;
	snprintf(sentence, sizeof(sentence), "The registration cannot be recorded: %s", why);
	s->ops->refused(s->link, CPUPOLICY_ERROR_STORAGE, sentence);
	host_session_free(s);
	lose(vm, unborn);
}
