/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/handover/handover_take.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"
#include "daemon/core/uuid.h"

#define PAGE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* ---- one descriptor ---- */

static int option(int fd, int name)
{
	socklen_t length = sizeof(int);
	int value;

	return getsockopt(fd, SOL_SOCKET, name, &value, &length) < 0 ? -errno : value;
}

static bool is_connection(int fd)
{
	return option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_TYPE) == SOCK_STREAM && option(fd, SO_ACCEPTCONN) == 0;
}

/* Nobody but this user may write it, and nobody may make it shorter under us. */
static bool is_page(int fd, const struct stat *st)
{
	int seals = fcntl(fd, F_GET_SEALS), flags = fcntl(fd, F_GETFL);

	return S_ISREG(st->st_mode) && st->st_uid == geteuid() && (st->st_mode & 0777) == 0600 && flags >= 0 &&
	       (flags & O_ACCMODE) == O_RDWR && seals >= 0 && (seals & (PAGE_SEALS | F_SEAL_WRITE)) == PAGE_SEALS;
}

static bool is_what_it_should_be(int fd, enum handover_fd what, const struct stat *st)
{
	return what == HANDOVER_PAGE ? is_page(fd, st) : S_ISSOCK(st->st_mode) && is_connection(fd);
}

/* Its place, by its number. */
static bool place(struct handover_session *s, int fd)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0)
		return false;
	for (int i = 0; i < HANDOVER_FDS; i++) {
		if (s->fds[i] >= 0 || s->inodes[i] != st.st_ino || !is_what_it_should_be(fd, i, &st))
			continue;
		flags = fcntl(fd, F_GETFL);
		if (i != HANDOVER_PAGE && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
			return false;
		s->fds[i] = fd;
		return true;
	}
	return false;
}

/* ---- one session ---- */

static void close_all(struct handover_session *s)
{
	for (size_t i = 0; i < HANDOVER_FDS; i++)
		if (s->fds[i] >= 0)
			close(take_fd(&s->fds[i]));
}

void handover_drop(struct service *service, struct handover_session *session, const char *why)
{
	char uuid[UUID_TEXT_SIZE];

	uuid_format(uuid, session->uuid);
	log_notice("the session of VM %s is not gone on with: %s; its VMM reconnects", uuid, why);
	close_all(session);
	service_forget_slot(service, session->slot);
}

/* All that are kept under its number, and these are all of them. */
static const char *find_descriptors(struct service *service, struct handover_session *s)
{
	const char *why = NULL;
	int fd;

	while ((fd = service_take_slot(service, s->slot)) >= 0) {
		if (place(s, fd))
			continue;
		close(fd);
		why = "a descriptor is kept for it that is not its own";
	}
	for (size_t i = 0; i < HANDOVER_FDS && !why; i++)
		if (s->fds[i] < 0)
			why = "not all of its descriptors were kept";
	return why;
}

int handover_peer(struct peer *ret, const struct handover_session *session)
{
	const struct ucred registered = {.pid = session->pid, .uid = session->uid, .gid = (gid_t)-1};
	_cleanup_(peer_clear) struct peer peer = {0};
	int r = peer_from_socket(&peer, session->fds[HANDOVER_CONNECTION]);

	if (r < 0)
		return r;
	/* Of a connection that a daemon opened, it says that one did. */
	if (session->opened ? peer.uid != geteuid() : peer.uid != session->uid || peer.pid != session->pid)
		return -EPERM;
	if (session->opened) {
		peer_clear(&peer);
		r = peer_from_credentials(&peer, &registered);
		if (r < 0)
			return r;
	}
	/* It may have ended by now. */
	peer.start_time = session->start_time;
	*ret = peer;
	peer = (struct peer){0};
	return 0;
}

/* ---- all of it ---- */

/* It is sealed against writing, so that it stays as it was checked. */
static int read_memfd(int fd, char **ret, size_t *ret_size)
{
	_cleanup_free_ char *text = NULL;
	int seals = fcntl(fd, F_GET_SEALS);
	size_t size, at = 0;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || seals < 0 || !(seals & F_SEAL_WRITE) || !(seals & F_SEAL_SHRINK))
		return -EBADF;
	if (st.st_size > (off_t)HANDOVER_MAX + 4096)
		return -EFBIG;
	size = (size_t)st.st_size;
	text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	while (at < size) {
		ssize_t n = pread(fd, text + at, size - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (size_t)n;
	}
	text[size] = '\0';
	*ret = TAKE(text);
	*ret_size = size;
	return 0;
}

static int read_handover(struct handover **ret, int fd, const char *state_directory)
{
	_cleanup_free_ char *text = NULL, *error = NULL;
	char state[HANDOVER_STATE_SIZE];
	size_t size = 0;
	int r;

	r = handover_state(state, state_directory);
	if (r >= 0)
		r = read_memfd(fd, &text, &size);
	if (r >= 0)
		r = handover_parse(ret, text, size, state, &error);
	if (r < 0)
		log_warning("the last daemon's handover is not used: %s; the VMMs reconnect",
			    error ? error : strerror(-r));
	return r;
}

void handover_take(struct handover **ret, struct service *service, const char *state_directory)
{
	_cleanup_close_ int fd = service_take(service, SERVICE_HANDOVER);
	struct handover *handover = NULL;
	size_t dropped;

	/* It holds for one start: what comes after this one must not find it. */
	if (fd >= 0) {
		service_forget(service, SERVICE_HANDOVER);
		read_handover(&handover, fd, state_directory);
	}
	for (size_t i = 0; handover && i < handover_count(handover); i++) {
		struct handover_session *s = handover_at(handover, i);
		const char *why = find_descriptors(service, s);

		if (why)
			handover_drop(service, s, why);
	}
	dropped = service_drop_kept(service);
	if (dropped > 0)
		log_notice("hung up on %zu connections that were kept and are in no handover; their VMMs reconnect",
			   dropped);
	*ret = handover;
}
