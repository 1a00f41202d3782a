/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HOST_PRIVATE_H
#define CPUPOLICYD_HOST_PRIVATE_H

/*
 * What the host_*.c files share, and nobody else sees. Who owns what:
 *
 *   host.c               the host's life
 *   host_vm.c            a VM's life
 *   host_view.c          what clients read
 *   host_index.c         finding a VM by UUID, name, job
 *   host_fleet.c         events into the fleet, effects out of it; its one timer
 *   host_effect.c        what an effect asks for: page, record, job's end
 *   host_registration.c  who may register as which VM, and whether there is room for it
 *   host_session.c       which session holds the VM, from its registration to the end of its VMM
 *   host_event.c         what a registered session reports, turned into events
 *   host_record.c        the durable record: one write in flight per VM, and what waits for it
 *   host_restore.c       VMs of the records that the last daemon left
 *   host_takeover.c      sessions from the last daemon, and to the next
 *   host_request.c       clients' requests that wait for a record
 *   host_client.c        what clients ask for: resize, forget
 *   host_provider.c      providers: who is here, what they are to do
 *   host_quota.c         a VM's CPU time: what a provider is asked to hold, and what it holds
 *   host_announce.c      what providers say of VMs
 *   host_cpu.c           CPU time that VMs use
 *   host_assign.c        the same: class and tenant, credit, what moves to another host
 *   host_mode.c          the same: freeze, drain
 *   host_policy.c        the policy and the capacity in force, and what they say of each VM
 *   host_meter.c         usage: rows that ended, checkpoints, the wall clock
 *   host_notice.c        what observers and the log are told, gathered per turn
 */

#include <sys/queue.h>

#include "daemon/core/uuid.h"
#include "daemon/host/host.h"
#include "daemon/base/log.h"
#include "daemon/base/peerlog.h"
#include "daemon/base/util.h"
#include "daemon/host/vmpage.h"
#include "daemon/base/wallclock.h"

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
struct host_vm *host_index_after_uuid(const struct host_index *index, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
struct host_vm *host_index_job(const struct host_index *index, uint64_t id);
/* The VM's job in flight is now `id` (0: none). */
void host_index_set_job(struct host_index *index, struct host_vm *vm, uint64_t id);

/* ---- providers ---- */

struct host_provider {
	struct host_provider *next;
	struct host *host;
	char *name;
	const struct host_provider_ops *ops;
	void *link;
	pid_t pid;                          /* 0: not known */
	struct host_vm *queue, **queue_end; /* by quota.next: who waits for a call */
	unsigned in_flight;
};

/* A VM's quota, with its provider. */
struct host_quota {
	struct host_provider *provider; /* in whose queue it is, or who has its call */
	struct host_vm *next;           /* there */
	struct loop_timer *timer;       /* the next attempt; made by the first failure */
	uint64_t delay;                 /* before it; 0: the last call succeeded */
	uint32_t confirmed;             /* what the provider holds it to, VM_QUOTA_NONE ... */
	bool unknown;    /* ... or nobody knows: a call failed, it was another daemon's, or it may have forgotten */
	uint32_t asking; /* of the call in flight, or of the one that failed */
	bool queued;
	bool in_flight;
	bool waits; /* for the timer */
	bool stale; /* the call in flight is of another VMM */
	uint32_t told_quota;
	enum host_quota_state told;
};

/* When the VM's process was first known, and what it had used by then. */
struct host_cpu {
	pid_t pid; /* 0: not known */
	uint64_t start_time;
	uint64_t used;    /* ns */
	uint64_t granted; /* vCPU-ns, in this life of the daemon */
};

/* ---- the host ---- */

/* A request to freeze or drain; one is written at a time. */
struct host_mode_request {
	struct host_mode_request *next;
	bool drain; /* else freeze */
	bool on;
	uid_t uid;
	host_done_fn fn;
	void *userdata;
};

struct host_meter_query; /* host_meter.c */

struct host_meter {
	struct wallclock *wall;
	struct loop_timer *timer; /* armed while something is metered */
	uint64_t armed;
	uint64_t next;                       /* when the round after this one begins */
	uint8_t cursor[CPUPOLICY_UUID_SIZE]; /* the last VM that this round wrote */
	bool in_round;
	bool metered;     /* this round found something */
	uint64_t flushed; /* when a query last had everything written */
	size_t awaited;   /* writes that queries wait for */
	struct host_meter_query *queries;
};

struct host {
	struct loop *loop;
	struct store *store;
	const struct config *config;
	struct policy *policy;
	struct capacity *capacity_source; /* may be NULL */
	struct recorder *recorder;        /* NULL: nothing is recorded */
	struct handover *handover;        /* until all is loaded */
	struct fleet fleet;
	struct loop_timer *fleet_timer;
	uint64_t fleet_armed;
	struct store_host modes;      /* durable */
	struct store_host modes_next; /* being written for the first of ... */
	struct host_mode_request *mode_requests;
	struct host_meter meter;
	struct counters counters;
	struct host_index index;
	uint64_t next_job;
	const struct host_observer *observer;
	void *observer_data;
	void (*change_fn)(void *userdata); /* may be NULL */
	void *change_data;
	struct loop_deferred *notices;
	struct host_vm *noticed; /* VMs that have something to tell at the end of the turn */
	struct host_vm *removed; /* VMs that are gone but for a write in flight, or for somebody who holds them */
	struct host_view told;   /* what observers know of the host */
	struct host_provider *providers;
	uint32_t provider_changes;
	struct host_announcement **announcements; /* in order of UUID */
	size_t n_announcements, announcements_room;
	LIST_HEAD(, host_announce) announces; /* host_announce.c: being written ... */
	size_t announcing;                    /* ... and how many VMs they are about */
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
	uint64_t awaits;   /* the change of the record that must be durable before its page may speak; 0: it may */
	uint64_t features; /* negotiated */
	enum host_role role;
	bool reply_due; /* ... and before its registration is answered */
	bool starts;    /* that registration starts the VM */
};

/* ---- one VM ---- */

struct host_denial {
	uint32_t count; /* in this turn */
	enum rule rule;
	struct vm_verdict verdict;
};

struct host_request;

struct host_request_ops {
	/* It is durable; to be told. */
	void (*accepted)(struct host_vm *vm, struct host_request *request);
	/* It cannot be: as if never asked. Failed ones that came after it were taken back before it. `later`: a request of
	 * this kind that still waits, for which what was before this one is now what was before it; NULL: none. */
	void (*undo)(struct host_vm *vm, struct host_request *request, struct host_request *later);
};

/* What an operator assigned. */
struct host_assigned {
	char *class;  /* NULL: not */
	char *tenant; /* the same */
	uid_t uid;    /* who did; (uid_t)-1: nobody */
};

/* A client's request that waits for the disk, and what was before it. */
struct host_request {
	struct host_request *next;
	const struct host_request_ops *ops;
	uint64_t awaits;
	host_done_fn fn;
	void *userdata;
	uid_t uid;
	/* a resize */
	struct job job;   /* as it was accepted; id 0: it is not a resize */
	struct job ended; /* how it ended while it waited; id 0: it has not */
	uid_t desired_uid;
	/* an assignment, or what moved here from another host */
	struct host_assigned assigned;
	bool imported;
	int64_t balance;
	bool spent;
};

/* The state of the record on disk against the one in memory; host_record.c. */
struct host_record {
	uint64_t changes;  /* counts changes of what is recorded */
	uint64_t durable;  /* the last of them on disk */
	uint64_t writing;  /* being written; 0: nothing is */
	uint64_t revision; /* the core's, of what is being written */
	uint8_t *enabled;  /* and the grants in it */
	size_t rows;       /* and how many of the VM's usage rows */
	struct loop_timer *timer;
	uint64_t retry_at; /* UINT64_MAX: no write failed lately */
	uint64_t retry_delay;
	bool out_of_memory; /* `writing` failed before it began */
};

struct host_vm {
	struct host *host;
	struct fleet_vm member;
	struct vm *core; /* member.core */
	char *name;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	char uuid_text[UUID_TEXT_SIZE];
	struct peer peer;
	uint32_t desired_uid;
	struct host_assigned assigned;
	struct policy_decision decision;
	struct store_usage *rows; /* of usage, ended, not known to be durable; oldest first */
	size_t n_rows;
	void *data;
	struct host_session *live, *incoming, *retired;
	struct host_record record;
	struct host_request *requests; /* oldest first */
	host_done_fn forget_fn;        /* while it is `forgetting` */
	void *forget_data;
	struct host_quota quota;
	struct host_cpu cpu;
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
	uint64_t flush;  /* the change that a query waits for; 0: none */
	bool billed;     /* as the record says: else its meters stand still */
	bool entered;    /* in the index and the fleet */
	bool visible;    /* durable once: clients may see it */
	bool forgetting; /* its record is being deleted on a client's behalf */
	bool removed;    /* gone from the host, kept until its write has ended and nobody holds it */
	unsigned holds;
};

/* ---- host.c ---- */

/* By name or UUID, whether clients may see it or not. */
struct host_vm *host_lookup(const struct host *host, const char *name_or_uuid);

static inline uint64_t host_now(const struct host *host)
{
	return loop_now(host->loop);
}

/* ---- host_vm.c ---- */

/* Its class and tenant are decided for a VMM of `uid`. Nobody finds it before host_vm_enter(). */
int host_vm_new(struct host_vm **ret, struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE], const char *name,
		uint32_t possible, uid_t uid, const struct host_assigned *assigned);
struct host_vm *host_vm_free(struct host_vm *vm);
/* Into the index and the fleet. `record`: from the store, as its core; `handover`: from the last daemon, the same, or NULL;
 * `alive`: its VMM may live. */
int host_vm_enter(struct host_vm *vm, const struct store_vm *record, const struct vm_handover *handover, bool alive);
void host_vm_close_sessions(struct host_vm *vm, const char *why);
static inline struct host_vm *host_vm_of(const struct fleet_vm *member)
{
	return (struct host_vm *)((char *)(uintptr_t)member - offsetof(struct host_vm, member));
}
/* Forgets the VM and its record; hangs up its sessions with `why`. The pointer is dead after it. */
void host_vm_remove(struct host_vm *vm, const char *why);
/* A removed VM is freed when nothing holds it and no write is in flight: to be called when one of these ends. */
void host_vm_reap(struct host_vm *vm);
/* A stopped VM starts under another name, or with another number of possible vCPUs. */
int host_vm_reshape(struct host_vm *vm, const char *name, uint32_t possible);
/* Between these the pointer stays good, whatever a callback does to the VM. */
void host_vm_hold(struct host_vm *vm);
void host_vm_release(struct host_vm *vm);

/* ---- host_fleet.c ---- */

/*
 * Applies the event, now, and records it. What it left to do in its own VM is host_fleet_take()'s, for callers who have
 * their own order; all the rest is host_fleet_settle()'s. Every event is followed by that.
 */
struct fleet_answer host_fleet_apply(struct host *host, struct fleet_event *event);
unsigned host_fleet_take(struct host_vm *vm);
void host_fleet_settle(struct host *host);
/* All of that. Members of the event that are not given are 0. */
struct fleet_answer host_fleet_event(struct host *host, struct fleet_event *event);
#define HOST_EVENT(...) (&(struct fleet_event){__VA_ARGS__})
int host_fleet_open(struct host *host);
void host_fleet_close(struct host *host);

/* ---- host_session.c ---- */

int host_session_new(struct host_session **ret, struct host *host, const struct host_registration *reg,
		     const struct peer *peer, const struct host_link_ops *ops, void *link);
struct host_session *host_session_free(struct host_session *session);
DEFINE_CLEANUP(struct host_session *, host_session_free)
int host_session_make_page(struct host_session *session);
/* The page outlives the session in its VMM. What it says must not, where another session holds the VM. */
void host_session_silence(struct host_session *session);
/* Hangs up: the link is told, the session is freed. */
void host_session_close(struct host_session *session, const char *why);

void host_session_make_live(struct host_vm *vm, struct host_session *session);
void host_session_resume(struct host_vm *vm, const struct vm_registration *registration);
/* The event of its registration is applied. The page stays silent until the session's epoch is durable. */
void host_session_begin(struct host_vm *vm, struct host_session *session);
/* The migration target takes over, if there is one. */
void host_session_activate(struct host_vm *vm);
/* A registration is in place: answers it. The guest may be here already. */
void host_session_joined(struct host_vm *vm, struct host_session *session);
/* The write that session awaits has ended: answer, publish, or refuse. */
void host_session_durable(struct host_vm *vm);
void host_session_not_durable(struct host_vm *vm, uint64_t change, const char *why);

/* The live session is gone; `gone`: its VMM as well. */
void host_session_lost(struct host_vm *vm, bool gone);
/* The process of a disconnected VM's VMM: ended already (the VM is stopped, and perhaps removed: true), or watched. */
bool host_session_check_process(struct host_vm *vm);
void host_session_unwatch(struct host_vm *vm);

/* ---- host_effect.c ---- */

/* Beside VM_EFFECT_* and FLEET_EFFECT_*: the caller records the VM itself. */
#define HOST_EFFECT_RECORDED (1u << 31)

/* Does what an event's effects ask for. */
void host_effect_apply(struct host_vm *vm, unsigned effects);
/* The policy as it is now, to the live session's page, if that may speak. */
void host_effect_publish(struct host_vm *vm);
/* Whether the live session's page says what it should. */
bool host_effect_is_published(const struct host_vm *vm);
/* Observers are told that a job ended, or the request that still waits for the disk keeps it until they may be. */
void host_effect_job_ended(struct host_vm *vm, const struct job *job);

/* ---- host_record.c ---- */

/* In a record, in the place of the time up to which the meters are right: they stand still, however long. */
#define HOST_METERS_STAND 0u

/* What is recorded has changed. `urgent`: somebody waits for it, so a back-off after a failure is cut short. Returns
 * the number of the change, for what waits for it. */
uint64_t host_record_touch(struct host_vm *vm, bool urgent);
/* The record as it would be written now, with the usage that is not durable. */
int host_record_fill(struct host_vm *vm, struct store_vm *ret);
void host_record_timer(void *userdata);
/* Deletes the record of a VM that is going, its usage stays; failure is logged, the next start of the daemon sorts it
 * out. */
void host_record_delete(struct host_vm *vm);

/* ---- host_restore.c ---- */

/* Makes a VM of a record. */
int host_restore(struct host *host, struct store_vm *record);

/* ---- host_takeover.c ---- */

/* Goes on with the session that the last daemon handed over, if there is one and it fits; it has no connection yet. Before
 * the VM is entered, after its core is restored. NULL: there is none. */
const struct vm_handover *host_take_over(struct host_vm *vm);
/* All VMs are there: pages say what is so now. */
void host_taken_over(struct host *host);

/* ---- host_request.c ---- */

/* NULL: there is no memory for one, and `fn` was told. */
struct host_request *host_request_new(const struct host_request_ops *ops, uid_t uid, host_done_fn fn, void *userdata);
struct host_request *host_request_free(struct host_request *request);
/* It is carried out in memory, which had these effects on its VM: they are done, and it waits for the record, behind those
 * that wait already. */
void host_request_wait(struct host_vm *vm, struct host_request *request, unsigned effects);
void host_request_durable(struct host_vm *vm);
/* Those that await no later change than this. */
void host_request_failed(struct host_vm *vm, uint64_t change, enum host_error error, const char *why);
/* The VM goes: all are answered so, nothing is taken back. */
void host_request_drop(struct host_vm *vm, enum host_error error, const char *why);

/* ---- host_client.c ---- */

void host_client_refuse(host_done_fn fn, void *userdata, enum host_error error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* By the rule and its numbers. */
void host_client_refuse_rule(struct host *host, const char *vm_name, const struct fleet_answer *answer, host_done_fn fn,
			     void *userdata);
/* As clients may name it; NULL: there is none, and `fn` was told. */
struct host_vm *host_client_find(struct host *host, const char *name_or_uuid, host_done_fn fn, void *userdata);

/* ---- host_assign.c ---- */

int host_assigned_copy(struct host_assigned *ret, const char *class, const char *tenant, uid_t uid); /* -ENOMEM */
void host_assigned_clear(struct host_assigned *assigned);

/* ---- host_provider.c ---- */

/* Who can hold the VM's CPU time, if anybody. */
struct host_provider *host_provider_of(const struct host_vm *vm);
/* Is a provider of that name here? */
struct host_provider *host_provider_named(const struct host *host, const char *name);
void host_provider_enqueue(struct host_provider *provider, struct host_vm *vm);
void host_provider_dequeue(struct host_vm *vm);

/* ---- host_quota.c ---- */

/* The quota, its provider or the announcement may be others: sees to it that the one is asked for the other. */
void host_quota_follow(struct host_vm *vm);
/* What the provider holds it to is not known (any more). */
void host_quota_doubt(struct host_vm *vm);
/* A VMM took the VM: its first one (`starts`), or the one that is there, or another. */
void host_quota_session(struct host_vm *vm, bool starts, bool same_process);
/* NULL: it is done. */
void host_quota_answered(struct host_vm *vm, const char *why);
/* The VM goes, or the host does. */
void host_quota_drop(struct host_vm *vm);

/* ---- host_cpu.c ---- */

/* Its process may be another one. */
void host_cpu_begin(struct host_vm *vm);

/* ---- host_announce.c ---- */

int host_announce_load(struct host *host, char **ret_error);
void host_announce_close(struct host *host);

/* ---- host_mode.c ---- */

/* As the store says: before any VM is there. */
int host_mode_load(struct host *host, char **ret_error);
void host_mode_close(struct host *host);

/* ---- host_policy.c ---- */

/* The VM, whose VMM is of `uid`. */
struct policy_subject host_policy_subject(const struct host_vm *vm, uid_t uid);
uint32_t host_policy_cpus(const struct host *host); /* 0: not known */
/* Name, owner or assignment may be others: decides anew, and has the fleet follow, which is not settled by this. If a rule
 * refuses it, the class and tenant are what they were. */
struct fleet_answer host_policy_apply(struct host_vm *vm, uid_t uid);
bool host_policy_differs(const struct host_vm *vm, uid_t uid); /* would that change anything? */
/* What is announced of the one whose UUID it has. */
void host_policy_announced_subject(const struct host *host, struct policy_subject *subject);
/* What is announced of it is new. What a rule refuses, the next reload or thaw sees to. */
void host_policy_announced(struct host_vm *vm);
/* The policy given at start, and the capacity it gives. */
int host_policy_open(struct host *host);
/* Changes that could not be made while the host was frozen. */
void host_policy_thawed(struct host *host);
static inline bool host_policy_asks(const struct service_class *class)
{
	return class->ask || class->cpu_on.per_second > 0;
}

/* ---- host_meter.c ---- */

int host_meter_open(struct host *host);
void host_meter_close(struct host *host);
/* For the fleet: a row ended. */
void host_meter_row(const struct fleet_vm *member, const struct usage_row *row, void *userdata);
/* A VM's row of another class or tenant than it has now. */
int host_meter_add_row(struct host_vm *vm, const struct usage_row *row, const char *class, const char *tenant);
/* The oldest `n` rows are durable. */
void host_meter_drop_rows(struct host_vm *vm, size_t n);
/* Queries wait for a write, and for it no more. */
void host_meter_expect(struct host *host);
void host_meter_arrived(struct host *host);
/* A write of the VM's record has ended, or the VM has. */
void host_meter_written(struct host_vm *vm, bool ok);
/* What is metered of this VM may have begun. */
void host_meter_arm(struct host_vm *vm);

/* ---- host_notice.c ---- */

void host_notice_changed(struct host_vm *vm);
/* Counted as well. `rule`: as observers are told. */
void host_notice_denied(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, enum rule rule,
			uint32_t count);
/* What host_view() says may have changed. */
void host_notice_host(struct host *host);
/* Nothing of this VM is to be told any more. */
void host_notice_drop(struct host_vm *vm);
void host_notice_flush(void *userdata);
/* A line about a VM with its fields; those that are NULL or 0 are left out. */
struct host_line {
	int level;
	const uint32_t *vcpu;
	const uid_t *uid;
	const struct peer *peer; /* instead of uid: all that is known of it */
	uint64_t job;
	const char *verdict;
	const char *reason;
	const char *rule;
};
#define HOST_LINE(...) (&(struct host_line){__VA_ARGS__})
void host_notice_log(const struct host_vm *vm, const struct host_line *line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* May a line that this VM's VMM caused be written? */
bool host_notice_gate(struct host_vm *vm);

#endif
