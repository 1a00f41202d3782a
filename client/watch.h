/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_WATCH_H
#define CPUCTL_WATCH_H

/* What `cpuctl watch` knows of the VMs, and the events that it makes of differences: a VM as it was last told against a VM
 * as it is. So an event that was missed (the daemon restarted) is told late, and never twice. */

#include <stdbool.h>
#include <stddef.h>

#include "client/vm_info.h"

struct watched {
	struct vm_info vm;
	/* as last told */
	char *state, *class, *tenant, *reason, *enabled_set, *online_set, *overdue_set, *quota;
	uint32_t desired, desired_uid, target;
	bool seen; /* in the list that is being read */
};

struct watch {
	struct watched *vms;
	size_t n;
	const char *only; /* path of the VM to watch; NULL: all */
	bool json;
	int outcome; /* of printing */
};

/* `vm` is taken over. A VM that is new is told as such with `event` ("present", "new"). */
void watch_put(struct watch *w, struct vm_info *vm, const char *event);
/* NULL: it is not watched. */
struct watched *watch_find(struct watch *w, const char *path);
struct watched *watch_find_name(struct watch *w, const char *name);
void watch_remove(struct watch *w, const char *path);
/* All VMs as they are now, in place of what was known; taken over. */
void watch_replace(struct watch *w, struct vm_info *vms, size_t n, const char *event);
/* Tells how `one` differs from what was told. */
void watch_tell(struct watch *w, struct watched *one);
void watch_clear(struct watch *w);

struct watch_denied {
	uint32_t vcpu, count;
	const char *reason, *rule;
	bool enforced;
};
void watch_tell_denied(struct watch *w, const struct watched *one, const struct watch_denied *denied);
/* `result` NULL: it began */
void watch_tell_job(struct watch *w, const struct watched *one, uint64_t job, const char *result);
void watch_tell_daemon(struct watch *w, bool there);

#endif
