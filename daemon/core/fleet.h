/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_FLEET_H
#define CPUPOLICYD_FLEET_H

/*
 * All VMs of a host as one pure machine: each VM's plug state (vm.h), its class and tenant, its credit and its usage, and
 * the ledger that shares the host's capacity among them. Events go in by fleet_apply(); what the caller has to do comes
 * out as effects of members, by fleet_next(). The same events at the same times give the same result, whoever applies
 * them: the daemon, `cpuctl simulate`, a test.
 *
 * It does no I/O, reads no clock, and allocates in fleet_add(), fleet_reload() and fleet_init() alone. A verdict
 * (FLEET_ASK) takes the same time for any number of members. Every other event may move every member: linear in their
 * number at most.
 *
 * What always holds after an event, and can be checked at every step:
 *   - no member that is running has fewer than min(demand, guaranteed) allowed, and none more than its demand;
 *   - the allowances sum up to no more than the capacity, or the guaranteed parts alone exceed it; the same for each
 *     tenant and its quota;
 *   - what all hold exceeds that only by what is overdue: held beyond the holder's allowance;
 *   - within a priority, nobody is entitled to two vCPUs of burst more than another one whom only the host's capacity
 *     stops.
 * docs/service-levels.md has the rules and worked examples.
 *
 * Times are ns of one clock that counts suspend and never steps; an event with an earlier time counts as of the last.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/class.h"
#include "daemon/core/credit.h"
#include "daemon/core/explain.h"
#include "daemon/core/ledger.h"
#include "daemon/core/rule.h"
#include "daemon/core/usage.h"
#include "daemon/core/vm.h"

#define FLEET_NO_TENANT LEDGER_NO_TENANT
#define FLEET_UNLIMITED LEDGER_UNLIMITED

/* Beside those of VM_EFFECT_*; DEADLINE needs no action here (fleet_deadline() covers all members). */
enum fleet_effect {
	FLEET_EFFECT_POLICY = 1 << 16, /* class, tenant, share or credit status changed: clients see it */
	FLEET_EFFECT_ROW = 1 << 17,    /* usage rows ended (they went to ops.row): store them with this VM's record */
};

struct fleet_tenant {
	const char *name;
	uint32_t quota; /* vCPUs of all its VMs; FLEET_UNLIMITED */
};

/*
 * One VM, embedded in the caller's own structure (which finds it by container_of) or allocated by it. The caller sets
 * `core`, `uuid` and `name` before fleet_add(), and reads anything; all else is the fleet's.
 */
struct fleet_vm {
	struct vm *core;  /* the caller's; vm_new() with the class that it is added with */
	const char *name; /* for sentences */
	uint8_t uuid[CPUPOLICY_UUID_SIZE];

	const struct service_class *class;
	uint32_t tenant; /* index into the policy's tenants, or FLEET_NO_TENANT */
	struct credit credit;
	struct usage usage;
	struct ledger_entry entry;
	enum rule bound;  /* why the target is below `desired`; RULE_NONE if it is not */
	uint32_t metered; /* enabled vCPUs that count since usage.at; see fleet_metered() */
	bool billed;      /* and whether they do */

	uint64_t deadline; /* in the heap */
	uint32_t heap;     /* position there, from 1 */
	unsigned effects;
	bool queued;
	struct fleet_vm *next; /* in the queue of those with effects */
};

/* What a policy says of one VM. */
struct fleet_assignment {
	const struct service_class *class;
	uint32_t tenant;
};

struct fleet_policy {
	const struct fleet_tenant *tenants; /* kept by the caller until the next reload is done */
	uint32_t n_tenants;
	bool observe; /* the whole host: verdicts are computed and recorded, nothing is denied */
	/* Which class and tenant a member has under this policy; called for each. */
	void (*assign)(const struct fleet_vm *member, struct fleet_assignment *ret, void *userdata);
	void *userdata;
};

struct fleet_ops {
	/* A row of a member's usage ended; `member` still has the class and tenant that it is of. May be NULL. Must not call
	 * the fleet. */
	void (*row)(const struct fleet_vm *member, const struct usage_row *row, void *userdata);
	void *userdata;
};

struct fleet {
	struct ledger ledger;
	const struct fleet_tenant *tenants;
	uint32_t n_tenants;
	struct fleet_ops ops;
	struct usage_clock clock;
	uint64_t now; /* of the last event */
	uint64_t next_hour;
	uint32_t n;
	uint32_t room;
	struct fleet_vm **members; /* in order of UUID */
	struct fleet_vm **heap;    /* by (deadline, uuid) */
	struct fleet_vm *queue, **queue_end;
	uint32_t capacity; /* as last told; while frozen the ledger keeps what it had */
	bool observe;
	bool frozen;
	bool drained;
	bool restoring; /* members come from the store: shares wait, see fleet_restore() */
};

/* ---- life ---- */

/* Empty: unlimited, no tenants. `clock` is now on both clocks. */
void fleet_init(struct fleet *f, const struct fleet_ops *ops, const struct usage_clock *clock);
/* Members are the caller's; they are left alone. */
void fleet_clear(struct fleet *f);

/*
 * Takes a member in. New: all zero but for what the caller sets; its credit is opened at the class's initial balance.
 * From the store: as fleet_restore() says. -EEXIST: the UUID is there; -ENOMEM; nothing changed then. Shares
 * are computed with the next event, so that many can be added at little cost: FLEET_TICK will do.
 */
int fleet_add(struct fleet *f, struct fleet_vm *m, const struct fleet_assignment *assignment, uint64_t now);
/* Its open row ends. The pointer is the caller's alone from here on; effects not yet taken are dropped. */
void fleet_remove(struct fleet *f, struct fleet_vm *m, uint64_t now);
struct fleet_vm *fleet_find(const struct fleet *f, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);

/* What the store kept of a member. */
struct fleet_saved {
	bool credit_opened;
	bool credit_spent;
	int64_t balance;      /* vCPU-ns */
	uint64_t at;          /* boot clock, ns: up to when credit and usage are counted; of another boot: now */
	struct usage_row row; /* open when it was written; number 0: none */
	uint64_t last_row;    /* number of the last row that was given out */
};
/*
 * After fleet_add() of a member whose core was restored. `alive`: its VMM lives, or may: from saved.at to now it is billed
 * as the grants on record say. Else that time counts for nothing, and FLEET_LOST with `gone` follows.
 *
 * Neither FLEET_LOST nor fleet_remove() computes shares until another event came: what those who are gone set free is
 * not given to others who are gone as well, and a host on which thousands ended is shared out once.
 */
void fleet_restore(struct fleet *f, struct fleet_vm *m, const struct fleet_saved *saved, bool alive, uint64_t now);
/* Brings a member's meters up to `now` and says what to store; no effects. */
void fleet_save(struct fleet *f, struct fleet_vm *m, uint64_t now, struct fleet_saved *ret);

/*
 * Another policy takes the place of the one in force, for all members at once: no VM that is there is refused, whatever
 * its new class guarantees. 0; -ENOMEM: nothing changed; -EBUSY: the host is frozen, nothing changed. After 0 nothing of
 * the old policy is pointed to any more.
 */
int fleet_reload(struct fleet *f, const struct fleet_policy *policy, uint64_t now);

/* ---- events ---- */

enum fleet_event_kind {
	/* of a VM; see the function of vm.h that each is named after */
	FLEET_START = 1, /* registration; admission may refuse it */
	FLEET_RESUME,    /* registration */
	FLEET_LOST,      /* gone */
	FLEET_ASK,       /* vcpu */
	FLEET_POWER_ON,  /* vcpu, reason */
	FLEET_POWER_OFF, /* vcpu */
	FLEET_DENIED,    /* vcpu, reason, count */
	FLEET_OST,       /* vcpu, ost_event, ost_status */
	FLEET_EJECT,     /* vcpu, cause */
	FLEET_RUN_STATE, /* run_state */
	FLEET_RESET,
	FLEET_STATE,   /* run_state, vcpus */
	FLEET_CONFIRM, /* epoch, generation */
	FLEET_STORED,  /* revision, ok, granted */
	/* asked for by clients, of a VM */
	FLEET_RESIZE, /* count, job, millis */
	FLEET_ASSIGN, /* assignment */
	FLEET_IMPORT, /* balance, spent */
	/* of the host */
	FLEET_FREEZE,   /* on: no changes are accepted or made, except what guests give back */
	FLEET_DRAIN,    /* on: no new VMs, burst is asked back */
	FLEET_CAPACITY, /* count: vCPUs, FLEET_UNLIMITED */
	FLEET_CLOCK,    /* clock: the wall clock was set */
	FLEET_TICK,     /* the time, nothing else */
	FLEET_EVENT_MAX = FLEET_TICK,
};

/* Members that a kind does not name are not read. What is pointed to is read during the call only. */
struct fleet_event {
	enum fleet_event_kind kind;
	uint64_t now;
	struct fleet_vm *vm; /* NULL in events of the host */
	uint32_t vcpu;       /* validated by the caller, as all that is passed on to vm.h */
	uint32_t count;
	union {
		const struct vm_registration *registration;
		bool gone;
		bool on;
		enum cpupolicy_reason reason;
		struct {
			uint32_t ost_event, ost_status;
		};
		enum cpupolicy_eject_cause cause;
		struct {
			enum cpupolicy_run_state run_state;
			const struct cpupolicy_vcpu *vcpus;
		};
		struct {
			uint32_t epoch, generation;
		};
		struct {
			uint64_t revision;
			const uint8_t *granted;
			bool ok;
		};
		struct {
			uint64_t job;
			uint32_t millis; /* 0: `count` vCPUs; else of CPU time, and `count` is how many that takes */
		};
		struct fleet_assignment assignment;
		struct {
			int64_t balance;
			bool spent;
		};
		struct usage_clock clock;
	};
};

struct fleet_answer {
	/* START, RESIZE, ASSIGN, IMPORT: why it is refused; nothing changed then. ASK: if denied for want of a grant, what keeps
	 * the target below the desired count; else RULE_NONE. */
	enum rule rule;
	struct explain_line line;  /* the numbers, where `rule` is a refusal */
	struct vm_verdict verdict; /* ASK */
	struct job superseded;     /* RESIZE: the job that this one ended; id 0: none */
	bool would_refuse;         /* START: observed; enforcement would have refused by `line` */
};

struct fleet_answer fleet_apply(struct fleet *f, const struct fleet_event *event);
/* "start", "power-on", ...: as recordings write it. */
const char *fleet_event_name(enum fleet_event_kind kind);

/*
 * Takes the next member with something to do, and its effects (VM_EFFECT_*, FLEET_EFFECT_*); NULL: none is left. To be
 * called until then after each fleet_apply(), fleet_reload(), fleet_restore(): an end of a job that is not taken is
 * overwritten by the next. The order is that in which the event moved them, the event's own VM first.
 */
struct fleet_vm *fleet_next(struct fleet *f, unsigned *ret_effects);
/* The same for one member out of its turn. */
unsigned fleet_take(struct fleet *f, struct fleet_vm *m);

/* When FLEET_TICK has something to do: hours, credit, jobs, refusals, plug rates. UINT64_MAX: never. */
uint64_t fleet_deadline(const struct fleet *f);

/* ---- questions; nothing changes ---- */

/* Would a VM of this class and tenant be admitted now? RULE_NONE, _DRAINED, _FROZEN, _TENANT, _CAPACITY; *ret_line has the
 * numbers. Whether observe mode would let it in all the same is not considered. */
enum rule fleet_admit(const struct fleet *f, const struct fleet_assignment *assignment, uint32_t possible,
		      struct explain_line *ret_line);
/* What would happen if `count` were asked for now. Takes as long as an event does. */
void fleet_explain(struct fleet *f, struct fleet_vm *m, uint32_t count, uint64_t now, struct explain *ret);

struct fleet_view {
	uint32_t guaranteed; /* of its class, within its possible vCPUs */
	uint32_t limit;
	uint32_t allowance;
	uint32_t entitled;
	uint32_t target; /* vm_target() */
	uint32_t held;
	uint32_t overdue; /* held beyond the allowance */
	int64_t balance;  /* vCPU-ns at `now` */
	bool metered;
	bool spent;
	uint64_t credit_deadline; /* when it runs out, or may burst again, as things are; UINT64_MAX: never */
	enum rule bound;
	bool waiting;           /* for room, credit or rate: a job's clock stands */
	bool waits_for_overdue; /* the room is there as soon as others give back what was asked back */
};
void fleet_view(const struct fleet *f, const struct fleet_vm *m, uint64_t now, struct fleet_view *ret);

/* Usage up to `now` in this life of the daemon, without a cut: monotonic. */
void fleet_usage(const struct fleet *f, const struct fleet_vm *m, uint64_t now, uint64_t *ret_guaranteed_ns,
		 uint64_t *ret_burst_ns);

#endif
