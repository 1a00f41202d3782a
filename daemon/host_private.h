/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HOST_PRIVATE_H
#define CPUPOLICYD_HOST_PRIVATE_H

/*
 * What the host_*.c files share, and nobody else sees. Who owns what:
 *
 *   host.c               the host and its VMs' lives; what clients read
 *   host_index.c         finding a VM by UUID, name, job
 *   host_registration.c  sessions: who may, who replaces whom, which of them holds the VM, when a VMM is gone
 *   host_event.c         what a registered session reports, turned into core events
 *   host_effect.c        what the core wants done: page, time, job's end
 *   host_record.c        the durable record: one write in flight per VM, and what waits for it
 *   host_client.c        what clients ask for: resize, forget
 *   host_notice.c        what observers and the log are told, gathered per turn
 */

#include "daemon/core/uuid.h"
#include "daemon/host.h"
#include "daemon/log.h"
#include "daemon/peerlog.h"
#include "daemon/vmpage.h"

struct host_vm;

/* ---- host_index.c ---- */

struct host_job_entry {
	uint64_t id;
	struct host_vm *vm;
};

/* Sorted arrays; a VM's slots are reserved when it is added, so that indexing its job cannot fail. */
struct host_index {
	struct host_vm **by_uuid;
	struct host_vm **by_name;
	struct host_job_entry *jobs;
	size_t n;
	size_t n_jobs;
	size_t capacity;
};

int host_index_add(struct host_index *index, struct host_vm *vm);
void host_index_remove(struct host_index *index, struct host_vm *vm);
void host_index_clear(struct host_index *index);
struct host_vm *host_index_uuid(const struct host_index *index, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
struct host_vm *host_index_name(const struct host_index *index, const char *name);
struct host_vm *host_index_after(const struct host_index *index, const struct host_vm *vm);
struct host_vm *host_index_job(const struct host_index *index, uint64_t id);
/* The VM's job in flight is now `id` (0: none). */
void host_index_set_job(struct host_index *index, struct host_vm *vm, uint64_t id);

/* ---- the host ---- */

struct host {
	struct loop *loop;
	struct store *store;
	const struct config *config;
	struct host_index index;
	uint64_t next_job;
	const struct host_observer *observer;
	void *observer_data;
	struct loop_deferred *notices;
	struct host_vm *noticed; /* VMs that have something to tell at the end of the turn */
	struct host_vm *removed; /* VMs that are gone but for a write in flight, or for somebody who holds them */
	struct peerlog peerlog;
	struct log_gate storage_gate;
};

/* ---- sessions ---- */

enum host_role {
	HOST_ROLE_LIVE,     /* holds the VM: its page is the policy, its reports are the truth about the guest */
	HOST_ROLE_INCOMING, /* migration target: page denies all, reports are kept for when it becomes live */
	HOST_ROLE_RETIRED,  /* migration source after that: page denies all, reports mean nothing */
};

/* What an incoming session has said of its guest so far. */
struct host_facts {
	uint32_t flags;
	uint32_t boot;
	enum cpupolicy_run_state run_state;
	struct cpupolicy_vcpu vcpus[];
};

struct host_session {
	struct host *host;
	struct host_vm *vm;
	const struct host_link_ops *ops;
	void *link;
	struct vmpage *page;
	struct host_facts *facts; /* of an incoming one */
	struct peer peer;         /* of one that is not live; the live one's is the VM's */
	uint64_t awaits; /* the change of the record that must be durable before its page may speak; 0: it may */
	enum host_role role;
	bool reply_due; /* ... and before its registration is answered */
	bool starts;    /* that registration starts the VM */
};

/* ---- one VM ---- */

struct host_denial {
	uint32_t count; /* in this turn */
	struct vm_verdict verdict;
};

/* A client's request that waits for the disk. */
struct host_request {
	struct host_request *next;
	uint64_t awaits;
	struct job job;   /* as it was accepted */
	struct job ended; /* how it ended while it waited; id 0: it has not */
	host_resize_fn fn;
	void *userdata;
};

/* The state of the record on disk against the one in memory; host_record.c. */
struct host_record {
	uint64_t changes;  /* counts changes of what is recorded */
	uint64_t durable;  /* the last of them on disk */
	uint64_t writing;  /* being written; 0: nothing is */
	uint64_t revision; /* the core's, of what is being written */
	uint8_t *enabled;  /* and the grants in it */
	uint32_t desired_uid;
	uint32_t durable_desired_uid;
	uint64_t retry_at; /* UINT64_MAX: no write failed lately */
	uint64_t retry_delay;
	bool out_of_memory; /* `writing` failed before it began */
};

struct host_vm {
	struct host *host;
	struct vm *core;
	char *name;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	char uuid_text[UUID_TEXT_SIZE];
	struct peer peer;
	uint32_t desired_uid;
	void *data;
	struct host_session *live, *incoming, *retired;
	struct host_record record;
	struct host_request *requests; /* oldest first */
	host_resize_fn forget_fn;      /* while it is `forgetting` */
	void *forget_data;
	struct loop_timer *timer;
	struct loop_io *watch; /* of the VMM's process while it is disconnected */
	int pidfd;
	uint64_t job;                /* as indexed */
	struct host_denial *denials; /* by vCPU; made when the first is denied */
	struct log_gate denial_gate;
	struct host_vm *noticed_next;
	struct host_vm *removed_next;
	bool noticed;
	bool changed;
	bool denied;
	bool visible;    /* durable once: clients may see it */
	bool forgetting; /* its record is being deleted on a client's behalf */
	bool removed;    /* gone from the host, kept until its write has ended and nobody holds it */
	unsigned holds;
};

/* ---- host.c ---- */

int host_vm_new(struct host_vm **ret, struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE], const char *name,
		uint32_t possible);
/* Forgets the VM and its record; hangs up its sessions with `why`. The pointer is dead after it. */
void host_vm_remove(struct host_vm *vm, const char *why);
/* A removed VM is freed when nothing holds it and no write is in flight: to be called when one of these ends. */
void host_vm_reap(struct host_vm *vm);
/* A stopped VM starts under another name, or with another number of possible vCPUs. */
int host_vm_reshape(struct host_vm *vm, const char *name, uint32_t possible);
/* Between these the pointer stays good, whatever a callback does to the VM. */
void host_vm_hold(struct host_vm *vm);
void host_vm_release(struct host_vm *vm);
/* By name or UUID, whether clients may see it or not. */
struct host_vm *host_lookup(struct host *host, const char *name_or_uuid);

/* ---- host_registration.c ---- */

/* The write that session awaits has ended: answer, publish, or refuse. */
void host_registration_durable(struct host_vm *vm);
void host_registration_not_durable(struct host_vm *vm, uint64_t change, const char *why);
/* Hangs up: the link is told, the session is freed. */
void host_session_close(struct host_session *session, const char *why);
/* The migration target takes over, if there is one. */
void host_registration_activate(struct host_vm *vm);
/* The process of a disconnected VM's VMM: ended already (the VM is stopped, and perhaps removed: true), or watched. */
bool host_registration_check_process(struct host_vm *vm);
void host_registration_unwatch(struct host_vm *vm);

/* ---- host_effect.c ---- */

/* Does what an event's effects (VM_EFFECT_*) ask for. */
void host_effect_apply(struct host_vm *vm, unsigned effects);
/* The policy as it is now, to the live session's page, if that may speak. */
void host_effect_publish(struct host_vm *vm);
/* Arms the VM's timer for whatever comes first. */
void host_effect_arm(struct host_vm *vm);
void host_effect_timer(void *userdata);
/* Observers are told that a job ended, or the request that still waits for the disk keeps it until they may be. */
void host_effect_job_ended(struct host_vm *vm, const struct job *job);

/* ---- host_record.c ---- */

/* What is recorded has changed. `urgent`: somebody waits for it, so a back-off after a failure is cut short. Returns
 * the number of the change, for what waits for it. */
uint64_t host_record_touch(struct host_vm *vm, bool urgent);
/* Makes a VM of a record. */
int host_record_restore(struct host *host, struct store_vm *record);
/* The timer: a write that is to be tried again. */
void host_record_tick(struct host_vm *vm, uint64_t now);
/* Deletes the record of a VM that is going; failure is logged, the next start of the daemon sorts it out. */
void host_record_delete(struct host_vm *vm);

/* ---- host_client.c ---- */

void host_client_durable(struct host_vm *vm);
/* Those that await nothing beyond `change`. */
void host_client_failed(struct host_vm *vm, uint64_t change, enum host_error error, const char *why);

/* ---- host_notice.c ---- */

void host_notice_changed(struct host_vm *vm);
void host_notice_denied(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, uint32_t count);
/* Nothing of this VM is to be told any more. */
void host_notice_drop(struct host_vm *vm);
void host_notice_flush(void *userdata);
/* A line about a VM with its fields; those that are NULL or 0 are left out. */
struct host_line {
	int level;
	const uint32_t *vcpu;
	const uid_t *uid;
	uint64_t job;
	const char *verdict;
	const char *reason;
};
#define HOST_LINE(...) (&(struct host_line){__VA_ARGS__})
void host_notice_log(const struct host_vm *vm, const struct host_line *line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* May a line that this VM's VMM caused be written? */
bool host_notice_gate(struct host_vm *vm);

#endif
