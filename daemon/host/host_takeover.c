/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Sessions that go on in another daemon: what this one hands over of them, and what it goes on with of those of the last.
 * The record on disk is what it was, and the page what it says; what neither has comes with the handover. So only a VM
 * whose record has all its changes is handed over, and only one whose record, token and owner are the same is taken.
 */

#include <string.h>

#include "daemon/handover/handover_take.h"
#include "daemon/host/host_private.h"

/* ---- to the next ---- */

static bool is_durable(const struct host_vm *vm)
{
	return vm->record.durable == vm->record.changes && vm->record.writing == 0 && !vm->requests && vm->n_rows == 0;
}

bool host_hand_over(const struct host_session *session, struct handover_session *ret)
{
	const struct host_vm *vm = session->vm;
	struct vm_handover core;

	if (session->role != HOST_ROLE_LIVE || session->awaits != 0 || session->reply_due || vm->forgetting ||
	    !is_durable(vm))
		return false;
	core.vcpus = calloc(vm->core->possible, sizeof(*core.vcpus));
	if (!core.vcpus)
		return false;
	if (!vm_handover_get(vm->core, &core)) {
		free(core.vcpus);
		return false;
	}
	memcpy(ret->uuid, vm->uuid, sizeof(ret->uuid));
	memcpy(ret->token, vm->token, sizeof(ret->token));
	ret->uid = vm->peer.uid;
	ret->pid = vm->peer.pid;
	ret->start_time = vm->peer.start_time;
	ret->features = (uint32_t)session->features;
	ret->core = core;
	return true;
}

void host_session_descriptors(struct host_session *session, int *ret_memfd, int *ret_bell_fd)
{
	*ret_memfd = vmpage_take_memfd(session->page);
	*ret_bell_fd = vmpage_bell(session->page);
}

/* ---- from the last ---- */

/* A session without a connection yet. */
static void on_closed(void *link, const char *why)
{
}

static const struct host_link_ops unlinked = {.closed = on_closed};

static int make_session(struct host_session **ret, struct host_vm *vm, struct handover_session *h)
{
	const struct host_registration reg = {.features = h->features};
	_cleanup_(host_session_freep) struct host_session *s = NULL;
	struct peer peer = {0};
	int r;

	if (h->uid != vm->peer.uid || h->pid != vm->peer.pid || h->start_time != vm->peer.start_time)
		return -EPERM;
	r = handover_peer(&peer, h);
	if (r >= 0)
		r = host_session_new(&s, vm->host, &reg, &peer, &unlinked, NULL);
	peer_clear(&peer);
	if (r < 0)
		return r;
	s->vm = vm;
	r = vmpage_adopt(&s->page, vm->core->possible, h->fds[HANDOVER_PAGE], h->fds[HANDOVER_DOORBELL]);
	if (r < 0)
		return r;
	h->fds[HANDOVER_PAGE] = h->fds[HANDOVER_DOORBELL] = -1;
	*ret = TAKE(s);
	return 0;
}

const struct vm_handover *host_take_over(struct host_vm *vm)
{
	struct host *host = vm->host;
	struct handover_session *h = host->handover ? handover_find(host->handover, vm->uuid) : NULL;
	struct host_session *s = NULL;

	if (!h || h->fds[HANDOVER_PAGE] < 0 || memcmp(h->token, vm->token, sizeof(h->token)) != 0 ||
	    !vm_handover_fits(vm->core, &h->core, host_now(host)))
		return NULL;
	if (make_session(&s, vm, h) < 0)
		return NULL;
	host_session_make_live(vm, s);
	s->awaits = 0; /* its epoch is the record's */
	vm_handover_set(vm->core, &h->core);
	return &h->core;
}

void host_taken_over(struct host *host)
{
	host->handover = NULL;
	for (struct host_vm *vm = host_index_after(&host->index, NULL); vm; vm = host_index_after(&host->index, vm))
		/* The policy may be another one than the last daemon's. */
		if (vm->live && !host_effect_is_published(vm))
			host_effect_publish(vm);
}

static struct host_session *find_unlinked(const struct host *host, const uint8_t *uuid)
{
	const struct host_vm *vm = host_index_uuid(&host->index, uuid);

	return vm && vm->live && vm->live->ops == &unlinked ? vm->live : NULL;
}

const struct peer *host_adoptable(const struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	const struct host_session *s = find_unlinked(host, uuid);

	return s ? &s->peer : NULL;
}

struct host_session *host_adopt(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE],
				const struct host_link_ops *ops, void *link)
{
	struct host_session *s = find_unlinked(host, uuid);

	if (!s)
		return NULL;
	s->ops = ops;
	s->link = link;
	return s;
}

void host_abandon(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE])
{
	host_detach(find_unlinked(host, uuid), HOST_END_LOST);
}
