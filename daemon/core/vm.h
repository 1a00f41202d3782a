/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_VM_H
#define CPUPOLICYD_VM_H

/*
 * The plug state of one VM: a pure state machine. It is given events and the time, changes itself, and says by a set
 * of effects what the caller has to do about it. It does no I/O, reads no clock, logs nothing, and allocates in
 * vm_new() only. docs/states.md shows the machine; design invariants 1 and 2 are properties of it.
 *
 * What is granted here (VCPU_ENABLED) reaches the guest only once it is durable: vm_word() masks it until
 * vm_stored() confirmed the revision that grants it. What is taken away holds at once.
 *
 * Times are nanoseconds of one clock that does not step (CLOCK_BOOTTIME in the daemon).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/class.h"
#include "daemon/core/job.h"
#include "daemon/core/rate.h"
#include "proto/cpupolicy-proto.h"

enum vcpu_flag {
	VCPU_ENABLED = 1 << 0, /* granted: the guest may have it */
	VCPU_WANTED = 1 << 1,  /* off while ENABLED: asked back */
	VCPU_DURABLE = 1 << 2, /* this grant is on disk: the page may say so */
	VCPU_ONLINE = 1 << 3,  /* powered on, as the VMM reports; ONLINE without ENABLED is overdue */
	VCPU_ACKED = 1 << 4,   /* the guest answered the insertion, or was reset since */
	VCPU_IN_JOB = 1 << 5,  /* the job in flight waits for it */
	VCPU_OVERDUE = 1 << 6, /* asked back, and refused or ignored for as long as the class gives it */
};

/* What the guest answered to the request that is current. */
enum vcpu_answer {
	VCPU_ANSWER_NONE,
	VCPU_ANSWER_PROGRESS,  /* eject begun */
	VCPU_ANSWER_REFUSED,   /* _OST: device busy, or the insertion failed */
	VCPU_ANSWER_FORBIDDEN, /* _OST: not supported; the guest's administrator forbade it */
};

struct vcpu {
	uint64_t mpidr;
	uint32_t grant;      /* counts grants; the page's GRANT field */
	uint32_t denied;     /* CPU_ON calls answered DENIED, saturating */
	uint8_t flags;       /* enum vcpu_flag */
	uint8_t answer;      /* enum vcpu_answer */
	uint8_t serial;      /* the page's SERIAL field */
	uint8_t reason;      /* enum cpupolicy_reason of the last verdict */
	uint32_t since;      /* the page's generation that first says so of this grant */
	uint64_t granted_at; /* the revision that grants it */
};

enum vm_link {
	VM_STOPPED,      /* no VMM; nothing is enabled, `desired` waits for the next start */
	VM_DISCONNECTED, /* a VMM lives on that lost us, or we restarted: what is granted stays granted */
	VM_CONNECTED,
};

/* What the caller has to do after an event; a set. */
enum vm_effect {
	VM_EFFECT_PAGE = 1 << 0,      /* words changed: publish the page, ring the doorbell */
	VM_EFFECT_STORE = 1 << 1,     /* the durable part changed: store it, then vm_stored() */
	VM_EFFECT_CHANGED = 1 << 2,   /* something that clients see changed */
	VM_EFFECT_JOB_ENDED = 1 << 3, /* `last_job` is new (also set when a job superseded one: see vm_resize) */
	VM_EFFECT_DEADLINE = 1 << 4,  /* vm_deadline() changed */
	VM_EFFECT_QUOTA = 1 << 5,     /* vm_quota() changed */
};

/* A resize that is not durable yet, and what `desired` goes back to if it cannot be. */
struct vm_undo {
	uint64_t revision;
	uint32_t desired;
	uint32_t millis;
	bool desired_set;
};

/* How many vCPUs have which flags; right between two events. */
struct vm_numbers {
	uint32_t enabled;
	uint32_t wanted;
	uint32_t granted; /* enabled and durable */
	uint32_t overdue; /* VCPU_OVERDUE */
	uint32_t stray;   /* online and not enabled */
};

#define VM_QUOTA_NONE UINT32_MAX

#define VM_UNDO_MAX 8 /* resizes of one VM that may wait for the disk */

struct vm {
	const struct service_class *class;
	uint32_t possible;
	uint32_t boot; /* the boot set is 0 .. boot-1, enabled when the VM started; below it only if boot_removable */
	uint32_t desired; /* what was last asked for; not changed by the class, nor by what there is room for */
	uint32_t
		millis; /* CPU time that was last asked for, in 1/1000 CPUs: `desired` is that rounded up. 0: vCPUs were */
	uint32_t quota;     /* see vm_quota() */
	uint32_t allowance; /* how many there is room for; UINT32_MAX: all */
	enum vm_link link;
	enum cpupolicy_run_state run_state;
	bool notify; /* the guest can be notified */
	bool boot_removable;
	bool realm;                 /* an Arm CCA realm */
	enum cpupolicy_means means; /* by which the VMM holds the guest to the page */
	bool observe;               /* nothing is denied; by the class, or the whole host */
	bool frozen;                /* nothing is granted or asked back */
	bool rate_waits;            /* growth stopped at the plug rate */
	bool desired_set;           /* an operator asked for `desired`: it outlives the VM's end */
	uint32_t epoch;             /* of the session, durable */
	uint32_t generation;        /* of the page; counts publications */
	uint32_t confirmed;         /* the generation that the VMM applied */
	uint64_t revision;          /* counts changes of the durable part */
	uint64_t stored;            /* the last revision known to be durable */
	struct vm_numbers numbers;
	struct rate cpu_on;
	struct rate plugs; /* of a clock that is 60 times slower: per minute, not per second */
	uint64_t
		reclaim_at; /* when what was asked back and not given is overdue, or asked for again; UINT64_MAX: never */
	uint64_t denied;    /* sum over vCPUs, saturating */
	uint64_t job_revision; /* that started the job in flight: it ends no sooner than this is stored */
	bool job_restored;     /* from the store: which vCPUs it had settled is known by their number only */
	uint32_t undo_count;
	struct vm_undo undo[VM_UNDO_MAX]; /* oldest first */
	struct job job;                   /* in flight if job.id != 0 */
	struct job last_job;              /* the one that ended last; id 0: none */
	struct vcpu vcpus[];
};

/* ---- life ---- */

/* -EINVAL: possible out of range; -ENOMEM. A stopped VM with no vCPU enabled and desired = 0 (not set). */
int vm_new(struct vm **ret, uint32_t possible, const struct service_class *class);
struct vm *vm_free(struct vm *vm); /* NULL is accepted, NULL is returned */

/* desired within the class's limit and the possible vCPUs: what the VM is to have when there is room for it; at least 1 */
uint32_t vm_demand(const struct vm *vm);
/* the demand within the allowance: what it is to have now; at least 1. Of a stopped VM: the demand. */
uint32_t vm_target(const struct vm *vm);

struct vm_registration {
	uint32_t flags; /* CPUPOLICY_REG_* */
	uint32_t boot;
	enum cpupolicy_run_state run_state;
	const struct cpupolicy_vcpu *vcpus; /* vm->possible of them, validated */
};

/*
 * A VMM started this VM (it was STOPPED): the boot set becomes vCPU 0 .. target-1, where the target is the proposed
 * count unless an operator asked for another. vCPUs that the VMM reports online beyond it (it came from another host)
 * are overdue.
 */
unsigned vm_start(struct vm *vm, const struct vm_registration *reg, uint64_t now);
/*
 * A VMM came back (it was DISCONNECTED or its session is replaced): grants are what they were; what it reports as ejected
 * is given back if it was asked for, counts as the guest's own eject if it says so, and is given anew otherwise; what
 * it reports as online is. The caller answers the VMM once the new epoch is stored.
 */
unsigned vm_resume(struct vm *vm, const struct vm_registration *reg, uint64_t now);
/* The session ended. `gone`: the VMM ended too; the VM is STOPPED and holds nothing; a job ends as disconnected. */
unsigned vm_lost(struct vm *vm, bool gone, uint64_t now);

/* ---- what the guest and the VMM do; indexes are validated by the caller ---- */

struct vm_verdict {
	int32_t psci;
	enum cpupolicy_reason reason;
	enum cpupolicy_reason would; /* OBSERVED: what enforcement would have said; else as reason */
};

/* The decision function: may this vCPU be powered on now? Takes from the rate; records the verdict; allocates nothing.
 * Constant time. */
struct vm_verdict vm_ask(struct vm *vm, uint32_t vcpu, uint64_t now);

unsigned vm_power_on(struct vm *vm, uint32_t vcpu, enum cpupolicy_reason reason, uint64_t now);
unsigned vm_power_off(struct vm *vm, uint32_t vcpu, uint64_t now);
/* `count` CPU_ON calls were denied by the page */
unsigned vm_denied(struct vm *vm, uint32_t vcpu, enum cpupolicy_reason reason, uint32_t count);
unsigned vm_ost(struct vm *vm, uint32_t vcpu, uint32_t event, uint32_t status, uint64_t now);
unsigned vm_eject(struct vm *vm, uint32_t vcpu, enum cpupolicy_eject_cause cause, uint64_t now);
unsigned vm_run_state(struct vm *vm, enum cpupolicy_run_state state, uint64_t now);
unsigned vm_reset(struct vm *vm, uint64_t now);
unsigned vm_state(struct vm *vm, enum cpupolicy_run_state state, const struct cpupolicy_vcpu *vcpus, uint64_t now);
unsigned vm_confirm(struct vm *vm, uint32_t epoch, uint32_t generation);

/* ---- resize ---- */

enum vm_refusal {
	VM_ACCEPTED,
	VM_REFUSED_RANGE,     /* not within 1 .. possible */
	VM_REFUSED_LIMIT,     /* above the class's limit */
	VM_REFUSED_BOOT,      /* below the boot count, and its vCPUs may not be taken back */
	VM_REFUSED_NOTIFY,    /* the guest has no ACPI: it cannot be told */
	VM_REFUSED_MIGRATING, /* the guest is on its way to another VMM */
	VM_REFUSED_STORAGE,   /* as many requests as may be wait for the disk already */
};

/*
 * Asks for `count` vCPUs. Accepted: `desired` is changed, the lowest disabled vCPUs are granted or the highest enabled
 * ones asked back, and vm->job is job `id`; it superseded one that was in flight (then *ret_superseded is that
 * one, ended, else its id is 0). Nothing is durable before vm_stored(); the caller answers its client after that. A VM that is
 * not running takes the count for its next start. Refused: nothing changed.
 */
enum vm_refusal vm_resize(struct vm *vm, uint32_t count, uint64_t id, uint64_t now, struct job *ret_superseded,
			  unsigned *ret_effects);

/*
 * The same for CPU time: as many vCPUs as that takes, and a quota as long as the guest has more than that. 0, or more
 * than the possible vCPUs can use: VM_REFUSED_RANGE. vm_resize() lifts what this asked for.
 */
enum vm_refusal vm_resize_millis(struct vm *vm, uint32_t millis, uint64_t id, uint64_t now, struct job *ret_superseded,
				 unsigned *ret_effects);
static inline uint32_t vm_millis_count(uint32_t millis)
{
	return millis / 1000 + (millis % 1000 > 0);
}

/* ---- policy ---- */

/* Of another class, or observed or not: limits, verdicts and rates are those from here on. Nothing is granted by it. */
unsigned vm_set_class(struct vm *vm, const struct service_class *class, bool observe, uint64_t now);
/* How many vCPUs there is room for: grants or asks back as many as that changes the target by. */
unsigned vm_set_allowance(struct vm *vm, uint32_t allowance, uint64_t now);
/* While frozen nothing is granted, asked back or revoked; what the guest gives back is taken. */
unsigned vm_set_frozen(struct vm *vm, bool frozen, uint64_t now);

/* What the VM waits for, if it is to have more than it has. While it waits, the clock of its job stands. */
enum vm_wait {
	VM_WAITS_FOR_NOTHING,
	VM_WAITS_FOR_ROOM, /* the allowance is below the demand */
	VM_WAITS_FOR_RATE, /* as many vCPUs were granted as the class permits for now */
	VM_WAITS_FOR_THAW,
};
enum vm_wait vm_waits(const struct vm *vm);

/*
 * The CPU time that the VM is to be held to, in 1/1000 CPUs, by whoever can (a provider); VM_QUOTA_NONE: none. The least of
 *   - what vm_resize_millis() asked for, while the guest has vCPUs that could use more: from the request on, so that a VM
 *     that shrinks is capped first, and one that grows has its cap before the vCPU;
 *   - the target, while something is overdue in a class that refuses by quota;
 *   - the enabled vCPUs, in a class with a standing quota.
 * The latter two not while the VM is observed; none of a VM that is stopped.
 */
static inline uint32_t vm_quota(const struct vm *vm)
{
	return vm->quota;
}

/* ---- durability ---- */

/*
 * Revision `revision` is on disk (ok), with the grants that vm_record_grants() gave as enabled for it: `granted`, a bit per
 * vCPU, LSB first. Or it could not be written (`granted` is not read): what it would have granted, and the count it
 * asked for, are taken back, and a job that it began ends as JOB_STORAGE. That rollback is a revision to be stored as well
 * (VM_EFFECT_STORE), after a while: the caller must not try again at once. Revisions may be skipped, not reordered.
 */
unsigned vm_stored(struct vm *vm, uint64_t revision, bool ok, const uint8_t *granted, uint64_t now);
/* Bit per vCPU: ENABLED, WANTED; (possible + 7) / 8 bytes each. */
void vm_record_grants(const struct vm *vm, uint8_t *enabled, uint8_t *wanted);
/*
 * From the store: DISCONNECTED with these grants, durable. Before it, after vm_new(): desired, desired_set, millis, boot,
 * boot_removable, notify, means, realm, epoch, last_job, and by job_start() the job that was in flight.
 */
void vm_restore_grants(struct vm *vm, const uint8_t *enabled, const uint8_t *wanted);

/* ---- time ---- */

/* The next time at which vm_tick() has something to do; UINT64_MAX: none. */
uint64_t vm_deadline(const struct vm *vm);
unsigned vm_tick(struct vm *vm, uint64_t now);

/* ---- views ---- */

/* The page word (host byte order, CPUPOLICY_WORD_*), with grants only as far as they are durable. */
uint64_t vm_word(const struct vm *vm, uint32_t vcpu);

struct vm_counts {
	uint32_t enabled; /* durable grants, asked back or not */
	uint32_t wanted;  /* of those, not asked back */
	uint32_t online;
	uint32_t acked;   /* enabled and acknowledged or online */
	uint32_t overdue; /* online, not granted; or asked back after its job ended without it */
};
void vm_counts(const struct vm *vm, struct vm_counts *ret);

#endif
