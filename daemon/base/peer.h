/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_PEER_H
#define CPUPOLICYD_PEER_H

/* Who is on the other end of a unix socket, as the kernel says: nothing here is claimed by the peer itself. */

#include <stdbool.h>
#include <sys/types.h>
#include <stdint.h>

#define PEER_PID_GONE (-1)

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0: not visible from here, PEER_PID_GONE: of an earlier boot of the host */
	/* Of that process, clock ticks since boot: tells it from a later one with its number. 0: not known. */
	uint64_t start_time;
	char *label; /* LSM label; NULL: none */
};

int peer_from_socket(struct peer *ret, int fd);
void peer_clear(struct peer *peer);
/* When that process began, as above. */
uint64_t peer_start_time_of(pid_t pid);
/* False only if that very process is known to have ended. */
bool peer_alive(pid_t pid, uint64_t start_time);

#endif
