/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HANDOVER_H
#define CPUPOLICYD_HANDOVER_H

/*
 * What a daemon that stops tells its successor of the sessions that go on, and what the successor makes of it. It is
 * lines of JSON in a memfd that the service manager keeps with the descriptors of the sessions: a first line that says of
 * which format and of which state directory, a line for each session, and a last one that says how many there are. All
 * of it is as this version writes it, or nothing is taken: then the VMMs reconnect.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/base/service.h"
#include "daemon/core/rate.h"
#include "daemon/core/vm_handover.h"

#define HANDOVER_FORMAT     1u
#define HANDOVER_MAX        (64u << 20) /* bytes; sessions beyond it reconnect */
#define HANDOVER_INPUT_MAX  16384u
#define HANDOVER_OUTPUT_MAX 65536u
#define HANDOVER_STATE_SIZE 48u

enum handover_fd {
	HANDOVER_CONNECTION,
	HANDOVER_PAGE,     /* the memfd, to be mapped writable */
	HANDOVER_DOORBELL, /* our end */
	HANDOVER_FDS,
};

struct handover_bytes {
	uint8_t *data;
	uint32_t size;
};

/* A registered, live session whose VM's record is on disk as it is. */
struct handover_session {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	uint32_t slot;                 /* under which its descriptors are kept */
	uint64_t inodes[HANDOVER_FDS]; /* which of them is which, and the right one */
	uint32_t uid;                  /* of its process, as recorded */
	pid_t pid;
	uint64_t start_time;
	uint32_t features;
	bool opened; /* the daemon made the connection for it: it does not tell who is at the other end */
	struct rate messages;
	struct handover_bytes input;  /* received and not handled */
	struct handover_bytes output; /* not sent yet */
	struct vm_handover core;
	int fds[HANDOVER_FDS]; /* once they are found; -1: taken */
};

void handover_session_clear(struct handover_session *session);

/* Which state directory it is: HANDOVER_STATE_SIZE bytes. */
int handover_state(char *ret, const char *directory);

/* ---- writing ---- */

struct handover_writer;

int handover_writer_new(struct handover_writer **ret, const char *state);
struct handover_writer *handover_writer_free(struct handover_writer *writer);
/* -EFBIG: it would be too much, and is left out. */
int handover_writer_add(struct handover_writer *writer, const struct handover_session *session);
/* A sealed memfd with all of it. */
int handover_writer_finish(struct handover_writer *writer, int *ret_fd);

/* ---- reading ---- */

struct handover;

/* -EINVAL: it is not a handover of this format and for this state directory; *ret_error says why, or is NULL. */
int handover_parse(struct handover **ret, const char *text, size_t size, const char *state, char **ret_error);
struct handover *handover_free(struct handover *handover); /* closes what was not taken */
size_t handover_count(const struct handover *handover);
struct handover_session *handover_at(struct handover *handover, size_t i);
/* NULL: none */
struct handover_session *handover_find(struct handover *handover, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);

#endif
