/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef LIBCPUPOLICY_H
#define LIBCPUPOLICY_H

/*
 * libcpupolicy: the VMM's side of the cpupolicyd protocol (docs/protocol.md).
 *
 * One object per VM. The library owns a connection to the daemon, connects again by itself, keeps the policy page and
 * answers from it. It never blocks, starts no thread and needs nothing but libc: the caller watches one descriptor and
 * calls cpupolicy_dispatch() when it is readable.
 *
 * Locking: the caller serialises all calls on one object (in QEMU: the big lock). Callbacks run inside
 * cpupolicy_dispatch() and cpupolicy_wait() only, may call back into the library, and may not free the object.
 *
 * Errors are negative errno values. Strings returned are owned by the object and valid until the next call.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cpupolicy-proto.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cpupolicy;

/* Who the VM is. Copied by cpupolicy_new(). */
struct cpupolicy_identity {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	const char *name;       /* 1 to 255 bytes of UTF-8 */
	uint32_t possible;      /* 1 .. CPUPOLICY_MAX_VCPUS */
	uint32_t boot;          /* proposed count of vCPUs enabled at first boot, 1 .. possible */
	const uint64_t *mpidrs; /* possible of them, unique */
	uint32_t flags;         /* CPUPOLICY_REG_NOTIFY, _BOOT_REMOVABLE, _REALM, and the means */
};

enum cpupolicy_link {
	CPUPOLICY_LINK_LOCAL,      /* no daemon: the caller switches the vCPUs (standalone, or break-glass) */
	CPUPOLICY_LINK_CONNECTING, /* no daemon yet, or lost: the last policy holds, none means deny */
	CPUPOLICY_LINK_REGISTERED,
	CPUPOLICY_LINK_REFUSED, /* the daemon refused the VM: cpupolicy_link_reason() says why; retried if it may pass */
};

struct cpupolicy_ops {
	/* A page with a new generation is there: apply it, then cpupolicy_confirm(). Also after each (re)registration. */
	void (*policy_changed)(void *opaque);
	/* The link changed; `reason` is a sentence for the user, never NULL. May be NULL itself. */
	void (*link_changed)(void *opaque, enum cpupolicy_link link, const char *reason);
	/* The answer to cpupolicy_ask(), exactly one for each that was not abandoned. */
	void (*verdict)(void *opaque, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *verdict);
	/* Fill flags (CPUPOLICY_VCPU_ONLINE, _ACKED, _ENABLED) of `n` vCPUs with the truth as of now; the library adds
	 * _EJECTED. Return the VM's run state. Called before each registration and resynchronisation. */
	enum cpupolicy_run_state (*get_state)(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n);
};

/*
 * cpupolicy_new() makes an object that has no policy: every CPU_ON but of a vCPU 0 is denied. Then one of
 *   cpupolicy_start_path()  connect to the daemon's socket, again and again (backoff 100 ms to 5 s)
 *   cpupolicy_start_fd()    use this connected socket (taken over, also on failure); when it ends, the last policy
 *                           holds for good
 *   cpupolicy_start_local() no daemon: the first `boot` vCPUs are enabled
 * -EINVAL: identity out of range. -EALREADY: started already.
 */
int cpupolicy_new(struct cpupolicy **ret, const struct cpupolicy_identity *identity, const struct cpupolicy_ops *ops,
		  void *opaque);
/* Closes without UNREGISTER (for the daemon: a VMM that crashed) unless cpupolicy_unregister() came before. NULL is
 * accepted, NULL is returned. */
struct cpupolicy *cpupolicy_free(struct cpupolicy *c);

int cpupolicy_start_path(struct cpupolicy *c, const char *path);
int cpupolicy_start_fd(struct cpupolicy *c, int fd);
int cpupolicy_start_local(struct cpupolicy *c);

/* One descriptor, the same for the object's life, readable when cpupolicy_dispatch() has something to do. */
int cpupolicy_get_fd(const struct cpupolicy *c);
/* Does what there is to do: connects, reads, writes, times out. Never blocks. 0, or a negative errno value if the
 * object is unusable (out of memory); trouble with the daemon is not an error but a link state. */
int cpupolicy_dispatch(struct cpupolicy *c);
/* For start-up: dispatches until registered (0), refused (-EACCES) or `timeout_ms` has passed (-ETIMEDOUT; -1: never).
 * Returns 0 at once on a local link. -ENOTCONN: not started, or the socket that was handed over has ended. -EDEADLK:
 * called from a callback. */
int cpupolicy_wait(struct cpupolicy *c, int timeout_ms);

enum cpupolicy_link cpupolicy_link(const struct cpupolicy *c);
const char *cpupolicy_link_reason(const struct cpupolicy *c);

/* ---- policy ---- */

struct cpupolicy_view {
	bool enabled;   /* the guest may have it; false also when it ejected it since the grant */
	bool wanted;    /* false while enabled: asked back */
	bool ejected;   /* the guest gave it back, no newer grant */
	uint8_t serial; /* changes when the guest is to be notified again */
	uint32_t grant; /* changes with every new grant */
	enum cpupolicy_page_verdict verdict;
	bool observe;
};

/* The policy for a vCPU as it is now; all false without a page (vCPU 0: enabled and wanted). vcpu < possible. */
void cpupolicy_view(const struct cpupolicy *c, uint32_t vcpu, struct cpupolicy_view *ret);
/* Generation and epoch of the page in use; 0 without one. */
void cpupolicy_generation(const struct cpupolicy *c, uint32_t *ret_epoch, uint32_t *ret_generation);
/* The generation that was last reported as applied. */
uint32_t cpupolicy_confirmed(const struct cpupolicy *c);
/* Tells the daemon that the generation current at the last policy_changed callback is applied. */
void cpupolicy_confirm(struct cpupolicy *c);

/* ---- CPU_ON, CPU_OFF ---- */

enum cpupolicy_answer {
	CPUPOLICY_ANSWER_ALLOW, /* go on with cpupolicy_power_on() */
	CPUPOLICY_ANSWER_DENY,  /* answer DENIED; the library has recorded and will report it */
	CPUPOLICY_ANSWER_ASKED, /* the verdict callback will come; the caller waits without holding a lock */
};

/*
 * What policy says to `caller`'s CPU_ON of `target`, after the VMM has checked the call's parameters and that the
 * target is off. A caller has one ask at most: a second one for the same target returns ASKED again without
 * asking again, for another target it replaces the first. vCPU 0 is always allowed.
 */
enum cpupolicy_answer cpupolicy_cpu_on(struct cpupolicy *c, uint32_t caller, uint32_t target, uint32_t function,
				       enum cpupolicy_reason *ret_reason);
/* Nobody waits any more: the verdict callback will not come. Harmless if nothing was asked. */
void cpupolicy_abandon(struct cpupolicy *c, uint32_t caller);
/* Right before power-on, also after an ALLOW verdict: reads the word again. True: queued as an event, power on now.
 * False: the page has taken it back meanwhile; answer DENIED (recorded). */
bool cpupolicy_power_on(struct cpupolicy *c, uint32_t target, enum cpupolicy_reason reason);
/* After the vCPU was stopped. */
void cpupolicy_power_off(struct cpupolicy *c, uint32_t vcpu);

/* The last verdict that the vCPU as a target met, and how many calls were denied; for the VMM's own queries. */
void cpupolicy_last_verdict(const struct cpupolicy *c, uint32_t vcpu, struct cpupolicy_verdict *ret,
			    uint64_t *ret_denied);

/* ---- what the guest does ---- */

void cpupolicy_ost(struct cpupolicy *c, uint32_t vcpu, uint32_t event, uint32_t status);
/* From here on the vCPU counts as not enabled until a newer grant. vCPU 0 cannot be ejected: ignored. */
void cpupolicy_ejected(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_eject_cause cause);
void cpupolicy_run_state(struct cpupolicy *c, enum cpupolicy_run_state state);
/* After a reset: vCPUs that are asked back are ejected by it (the library reports them), the rest is off. */
void cpupolicy_reset(struct cpupolicy *c, enum cpupolicy_reset_kind kind);
/* Report everything again (after a snapshot was loaded): get_state is called. */
void cpupolicy_resync(struct cpupolicy *c);
/* An orderly end; then cpupolicy_free(). Tries to send for at most `timeout_ms`. */
void cpupolicy_unregister(struct cpupolicy *c, enum cpupolicy_unregister_cause cause, int timeout_ms);

/* ---- migration and snapshots ---- */

struct cpupolicy_saved {
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	uint32_t epoch;
};

/* What the VM's state carries, beside which vCPUs are ejected (cpupolicy_view). All zero without a session. */
void cpupolicy_save(const struct cpupolicy *c, struct cpupolicy_saved *ret);
/* On the other side, before cpupolicy_start_path(): registration then joins the live VM as its migration target, or
 * is a fresh one where the daemon does not know the token. -EALREADY once registered: a snapshot loaded into a VM that
 * has a session keeps that session. */
int cpupolicy_restore(struct cpupolicy *c, const struct cpupolicy_saved *saved);
/* Sets or clears the ejected mark from a restored state; no event is sent. Cleared only while registered or on a local
 * link: a daemon that is out of reach may have acted on it already. */
void cpupolicy_restore_ejected(struct cpupolicy *c, uint32_t vcpu, bool ejected);

/* ---- without a daemon ---- */

/* Switch to local policy while not connected (break-glass): the present words are kept. When the daemon is back, its
 * policy holds again. -EBUSY while registered. */
int cpupolicy_local_begin(struct cpupolicy *c);
/* On a local link: enable the vCPU, or ask it back. policy_changed is called from the next dispatch. -EPERM on any other
 * link, -EINVAL for vCPU 0 or one out of range. */
int cpupolicy_local_set(struct cpupolicy *c, uint32_t vcpu, bool wanted);

/* ---- names ---- */

/* "granted", "not-enabled", ...; "unknown" if out of range. */
const char *cpupolicy_reason_name(uint32_t reason);
const char *cpupolicy_link_name(enum cpupolicy_link link);

#ifdef __cplusplus
}
#endif

#endif
