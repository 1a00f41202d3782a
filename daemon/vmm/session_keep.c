/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Sessions that outlive this process. When one is registered, its three descriptors go to the service manager, under a
 * number of their own, the lowest that is free: names must be short. When it ends they are forgotten there. What else a
 * successor needs is collected when this process ends.
 */

#include "daemon/vmm/session_private.h"

#include <string.h>
#include <sys/stat.h>

#include "daemon/base/util.h"

/* ---- numbers ---- */

static int32_t take_slot(struct session_hub *hub)
{
	for (; hub->next_slot < SERVICE_SLOTS_MAX; hub->next_slot++) {
		uint8_t *byte = &hub->slots[hub->next_slot / 8], bit = (uint8_t)(1u << hub->next_slot % 8);

		if (*byte & bit)
			continue;
		*byte |= bit;
		return (int32_t)hub->next_slot++;
	}
	return -1;
}

static void release_slot(struct session_hub *hub, uint32_t slot)
{
	hub->slots[slot / 8] &= (uint8_t) ~(1u << slot % 8);
	if (slot < hub->next_slot)
		hub->next_slot = slot;
}

/* ---- keeping ---- */

static bool find_inodes(struct session *s, const int fds[static HANDOVER_FDS])
{
	struct stat st;

	for (size_t i = 0; i < HANDOVER_FDS; i++) {
		if (fstat(fds[i], &st) < 0)
			return false;
		s->inodes[i] = st.st_ino;
	}
	return true;
}

void session_keep(struct session *s)
{
	struct session_hub *hub = s->hub;
	_cleanup_close_ int memfd = -1;
	int bell;

	host_session_descriptors(s->host_session, &memfd, &bell);
	if (!hub->service || !service_keeps(hub->service) || memfd < 0)
		return;

	const int fds[HANDOVER_FDS] = {s->fd, memfd, bell};

	if (!find_inodes(s, fds))
		return;
	s->slot = take_slot(hub);
	if (s->slot >= 0)
		service_keep_slot(hub->service, (uint32_t)s->slot, fds, HANDOVER_FDS);
}

void session_unkeep(struct session *s, bool forget)
{
	if (s->slot < 0)
		return;
	if (forget)
		service_forget_slot(s->hub->service, (uint32_t)s->slot);
	release_slot(s->hub, (uint32_t)s->slot);
	s->slot = -1;
}

/* ---- the end of this process, and the next one ---- */

void session_hub_stop(struct session_hub *hub)
{
	hub->stopping = true;
}

void session_stop(struct session *session)
{
	loop_io_set(session->io, session->queue_length > 0 ? LOOP_WRITE : 0);
}

bool session_hand_over(struct session *session, struct handover_session *ret)
{
	struct session *s = session;

	*ret = (struct handover_session){.fds = {-1, -1, -1}};
	if (s->state != CPUPOLICY_MSG_REGISTERED || s->dead || s->slot < 0 || !s->host_session)
		return false;
	if (!host_hand_over(s->host_session, ret))
		return false;
	ret->slot = (uint32_t)s->slot;
	memcpy(ret->inodes, s->inodes, sizeof(ret->inodes));
	ret->opened = s->opened;
	ret->messages = s->rate;
	ret->input = (struct handover_bytes){.data = TAKE(s->held), .size = s->held_length};
	ret->output = (struct handover_bytes){.data = TAKE(s->queue), .size = s->queue_length};
	s->held_length = s->queue_length = 0;
	return true;
}

static void take_bytes(uint8_t **to, uint32_t *to_length, struct handover_bytes *from)
{
	*to = TAKE(from->data);
	*to_length = from->size;
	from->size = 0;
}

int session_take_over(struct session **ret, struct session_hub *hub, struct handover_session *from,
		      const struct session_ops *ops, void *userdata)
{
	const struct peer *known = host_adoptable(hub->host, from->uuid);
	struct peer peer;
	struct session *s;
	int r;

	if (!known)
		return -ENOENT;
	r = peer_copy(&peer, known);
	if (r < 0)
		return r;
	r = session_new(&s, hub, from->fds[HANDOVER_CONNECTION], &peer, NULL, ops, userdata);
	peer_clear(&peer);
	if (r < 0)
		return r;
	s->host_session = host_adopt(hub->host, from->uuid, &session_link_ops, s);
	if (!s->host_session) {
		s->fd = -1;
		session_free(s);
		return -ENOENT;
	}
	from->fds[HANDOVER_CONNECTION] = -1;
	s->state = CPUPOLICY_MSG_REGISTERED;
	s->features = (uint8_t)from->features;
	s->opened = from->opened;
	s->rate = from->messages;
	s->slot = (int32_t)from->slot;
	hub->slots[from->slot / 8] |= (uint8_t)(1u << from->slot % 8);
	memcpy(s->inodes, from->inodes, sizeof(s->inodes));
	take_bytes(&s->held, &s->held_length, &from->input);
	take_bytes(&s->queue, &s->queue_length, &from->output);
	/* In a turn of its own: what is held, and what the socket takes by now. */
	session_resume(s);
	*ret = s;
	return 0;
}
