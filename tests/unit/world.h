/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

/*
 * A small world around the core: VMs, each with its place on a disk, its page, its VMM and its guest; one daemon that writes
 * ahead, may be killed at any time, and whose disk may fail; clients that ask for counts. Everything random comes from
 * one seed. The VMM and the disk have a truth of their own, which the core never sees but through its events: against that
 * truth the design's invariants are checked after every step.
 *
 * world.c is the daemon's side, world_vmm.c the guest's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/vm.h"
#include "tests/unit/vm_event.h"

#define WORLD_VMS   4
#define WORLD_VCPUS 8 /* at most; a set of them is a byte */
#define WORLD_QUEUE 24
#define WORLD_LOG   2048

struct record {
	bool present;
	uint64_t incarnation; /* of the VM in the daemon: a dropped VM's late writes are not its successor's */
	uint64_t instance;    /* of the VMM */
	uint64_t revision;
	uint32_t boot;
	uint32_t desired;
	uint32_t epoch;
	bool desired_set;
	bool boot_removable;
	bool stopped;
	uint8_t enabled;
	uint8_t wanted;
	struct job job;
	struct job last_job;
};

/* A client that waits for its answer. */
struct request {
	uint64_t revision;
	uint32_t count;
	bool lowered; /* by the guest, since */
};

struct page {
	uint32_t epoch;
	uint32_t generation;
	uint64_t words[WORLD_VCPUS];
};

struct mark {
	bool ejected;
	bool own;
	bool late;
	uint32_t grant;
};

enum message_kind { MSG_POWER, MSG_OST, MSG_EJECT, MSG_RUN, MSG_RESET, MSG_STATE, MSG_CONFIRM };

struct message {
	enum message_kind kind;
	uint32_t a, b, c;
	struct cpupolicy_vcpu vcpus[WORLD_VCPUS];
};

enum vmm_session { VMM_OFF, VMM_REGISTERING, VMM_REGISTERED };

struct vmm {
	bool alive;
	bool has_page;
	enum vmm_session session;
	enum cpupolicy_run_state run_state;
	uint8_t online;
	uint8_t acked;
	uint8_t notified; /* the guest was told that it may have these */
	struct mark marks[WORLD_VCPUS];
	uint32_t gave[WORLD_VCPUS]; /* the grant that was given back last; unlike a mark, no snapshot undoes it */
	struct page frozen;         /* what it holds while it has no session */
	uint64_t applied[WORLD_VCPUS];
	struct message queue[WORLD_QUEUE];
	unsigned queued;
	bool resync;
	uint32_t eject_arrives; /* the vCPU whose EJECT the daemon has before it, 0: none */
	bool saved;
	uint8_t saved_online, saved_acked, saved_ejected;
};

struct world_vm {
	uint32_t possible;
	bool boot_removable;
	struct service_class level;

	struct record disk;
	struct record writes[WORLD_QUEUE];
	unsigned writing;
	bool retry; /* a write failed: the next one waits */

	struct vm *vm; /* NULL: the daemon does not know it, or is not there */
	uint64_t incarnation, instance;
	struct page page;
	uint8_t inherited;       /* granted under another configuration, shown or not */
	uint64_t reply_revision; /* 0: no registration waits */
	bool starting;           /* and it is a new life */
	uint64_t job_revision;

	struct request requests[WORLD_QUEUE];
	unsigned requested;
	bool accepted_any, loose;
	uint64_t doubt; /* until this is stored, what a client was refused may yet arrive on the disk */
	uint32_t accepted;

	struct vmm vmm;
};

struct world {
	uint64_t seed, random, events, now, last_id;
	bool up; /* the daemon */
	struct world_vm vms[WORLD_VMS];
	struct {
		unsigned vm;
		const char *what;
		uint64_t a, b;
	} log[WORLD_LOG];
	uint64_t logged;
	/* So that a test may see that it tested something. */
	uint64_t admitted, denied, crashes, failed_writes, job_results[JOB_RESULT_MAX + 1];
};

void world_init(struct world *w, uint64_t seed);
void world_done(struct world *w);
/* One random event, and all checks. */
void world_step(struct world *w);
/* Everybody does as they should, until nothing is left to do; then everything must fit together. */
void world_settle(struct world *w);

/* ---- between the files ---- */

uint64_t world_random(struct world *w, uint64_t below);
void world_log(struct world *w, const struct world_vm *x, const char *what, uint64_t a, uint64_t b);
_Noreturn void world_fail(struct world *w, const struct world_vm *x, const char *what);

/* daemon */
void world_effects(struct world *w, struct world_vm *x, const struct vm_event *e, unsigned effects);
#define WORLD_EVENT(w, x, call)                                                                                        \
	do {                                                                                                           \
		struct vm_event event_;                                                                                \
		vm_event_begin(&event_, (x)->vm);                                                                      \
		world_effects(w, x, &event_, call);                                                                    \
	} while (0)
void daemon_register(struct world *w, struct world_vm *x);
void daemon_lost(struct world *w, struct world_vm *x, bool gone);
void daemon_commit(struct world *w, struct world_vm *x, bool ok);
void daemon_retry(struct world *w, struct world_vm *x);
void daemon_resize(struct world *w, struct world_vm *x);
void daemon_kill(struct world *w);
void daemon_restart(struct world *w);
void daemon_ticks(struct world *w);

/* VMM and guest */
const struct page *vmm_page(const struct world_vm *x);
bool vmm_ejected(const struct world_vm *x, uint32_t vcpu);
void vmm_step(struct world *w, struct world_vm *x);
void vmm_report(const struct world_vm *x, struct cpupolicy_vcpu *vcpus);
void vmm_disconnected(struct world_vm *x);
void vmm_adopt(struct world_vm *x);
bool vmm_deliver(struct world *w, struct world_vm *x);
/* The guest does all that is asked of it. Whether there was anything. */
bool vmm_cooperate(struct world *w, struct world_vm *x);
void vmm_check(struct world *w, struct world_vm *x);

#endif
