/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_PEER_H
#define CPUPOLICYD_PEER_H

/* Who is on the other end of a unix socket, as the kernel says: nothing here is claimed by the peer itself. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ucred;

#define PEER_PID_GONE (-1)

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0: not visible from here, PEER_PID_GONE: of an earlier boot of the host */
	/* Of that process, clock ticks since boot: tells it from a later one with its number. 0: not known. */
	uint64_t start_time;
	char *label; /* LSM label; NULL: none */
	/* Of its cgroup, where the service manager of the host made it; NULL: it did not, or /proc does not show it. */
	char *machine;
	char *unit;
	char *slice;
	gid_t *groups; /* the supplementary ones */
	size_t n_groups;
};

int peer_from_socket(struct peer *ret, int fd);
/* Of a sender, by the credentials that the kernel attached to its message. Its groups are not known. */
int peer_from_credentials(struct peer *ret, const struct ucred *cred);
int peer_copy(struct peer *ret, const struct peer *peer);
void peer_clear(struct peer *peer);
/* When that process began, as above. */
uint64_t peer_start_time_of(pid_t pid);
bool peer_in_group(const struct peer *peer, gid_t gid);
/* Certainly the same process. */
bool peer_same_process(const struct peer *a, const struct peer *b);
/* Of the same kind before it has said anything: uid, and label and unit where there are. */
bool peer_alike(const struct peer *a, const struct peer *b);
/* A label's length without the mode that AppArmor adds to it: "libvirt-UUID (enforce)". */
size_t peer_label_length(const char *label);
/* CPU time of all its threads, ns. -ESRCH: it is another one by now, or none; another errno where it cannot be seen. */
int peer_cpu_time(pid_t pid, uint64_t start_time, uint64_t *ret);
/* False only if that very process is known to have ended. */
bool peer_alive(pid_t pid, uint64_t start_time);

#endif
