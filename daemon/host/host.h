/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HOST_H
#define CPUPOLICYD_HOST_H

/*
 * All VMs of this host. This is where the pure core meets the world: it turns what a session or the bus asks for into
 * core events, and the core's effects into records, page writes, timers and notices, in the order that the design
 * demands (commit, then page, then reply). It knows neither sockets nor D-Bus: both stand behind small tables of functions.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/settings/capacity.h"
#include "daemon/settings/config.h"
#include "daemon/core/explain.h"
#include "daemon/core/fleet.h"
#include "daemon/core/uuid.h"
#include "daemon/core/vm.h"
#include "daemon/handover/handover.h"
#include "daemon/host/counters.h"
#include "daemon/base/loop.h"
#include "daemon/base/peer.h"
#include "daemon/settings/policy.h"
#include "daemon/recording/recorder.h"
#include "daemon/store/store.h"
#include "proto/cpupolicy-proto.h"

struct host;
struct host_vm; /* one VM on record; opaque here, the accessors below read it */

/* ---- the VMM's connection, as the host sees it ---- */

struct host_link_ops {
	/* Registered: send the reply with both descriptors (ownership passes). */
	void (*registered)(void *link, const struct cpupolicy_register_reply *reply, int page_fd, int doorbell_fd);
	/* The registration is refused, and its host_session gone: send the error; the peer may try again on this connection. */
	void (*refused)(void *link, uint32_t code, const char *why);
	/* The host is done with this connection (replaced, forgotten): hang up. Host has dropped it already. */
	void (*closed)(void *link, const char *why);
	/* Has the other end hung up, even if nobody has noticed yet? May be NULL. */
	bool (*ended)(void *link);
};

/* One registration attempt or registered session; made by host_attach(), ended by host_detach() or `closed`. */
struct host_session;

/* All of it outlives the host. */
struct host_setup {
	struct loop *loop;
	struct store *store;
	const struct config *config;
	struct policy *policy;     /* the host takes a reference of its own */
	struct capacity *capacity; /* NULL: how many CPUs the host has is not known */
	struct recorder *recorder; /* NULL: nothing is recorded */
	struct handover *handover; /* what the last daemon left; NULL: nothing. Needed by host_load() alone. */
};

int host_new(struct host **ret, const struct host_setup *setup);
struct host *host_free(struct host *host);
/* Reads the records; VMs whose VMM has ended meanwhile are stopped. */
int host_load(struct host *host, char **ret_error);

/* capacity_cpus() is another number. */
void host_capacity_changed(struct host *host);
/* The recorder takes nothing more, and is about to be freed. */
void host_recording_ended(struct host *host);

/* Who opened the connection for somebody else, and for which VM. */
struct host_voucher {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	char name[CPUPOLICY_NAME_SIZE]; /* "": any */
	uid_t uid;                      /* of its VMM */
	uid_t by_uid;
	pid_t by_pid; /* 0: not known */
};

/* ---- from one daemon to the next ---- */

/* What a successor needs of this session; what it owns is the caller's to clear. False: its VMM has to reconnect, since it
 * is not the live one, or something of its VM is not on disk. */
bool host_hand_over(const struct host_session *session, struct handover_session *ret);
/* Who is at the other end of a session that host_load() went on with. NULL: there is none of this VM, or it has its connection. */
const struct peer *host_adoptable(const struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
/* It gets its connection. NULL: as above. */
struct host_session *host_adopt(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE],
				const struct host_link_ops *ops, void *link);
/* Its connection cannot be had after all: it is lost. */
void host_abandon(struct host *host, const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
/* For a session that was registered, once: the page's file, writable (ownership passes; -1 if it was taken before), and
 * our end of the doorbell (borrowed), to be kept for a successor. */
void host_session_descriptors(struct host_session *session, int *ret_memfd, int *ret_bell_fd);

struct host_registration {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	const char *name;
	uint32_t possible;
	uint64_t features; /* negotiated */
	struct vm_registration vm;
	const struct host_voucher *voucher; /* NULL: the peer came by itself */
};

/* 0: `registered` or `refused` follows, possibly before this returns, and *ret is set before it; NULL if it is refused at
 * once. The peer is copied. */
int host_attach(struct host *host, const struct host_registration *reg, const struct peer *peer,
		const struct host_link_ops *ops, void *link, struct host_session **ret);
enum host_end {
	HOST_END_LOST,
	HOST_END_SHUTDOWN, /* the VMM said so, as it did of the next */
	HOST_END_MIGRATED,
	HOST_END_DAEMON, /* we end: it says nothing of the VM */
};
/* The connection ended. NULL is accepted. */
void host_detach(struct host_session *session, enum host_end end);

/* Events of a registered session; indexes are validated by the caller against host_session_possible(). */
uint32_t host_session_possible(const struct host_session *session);
struct vm_verdict host_ask(struct host_session *session, const struct cpupolicy_ask *ask);
/* The ask that a peer sent over its message rate: DENIED at once, recorded. */
struct vm_verdict host_ask_overload(struct host_session *session, const struct cpupolicy_ask *ask);
void host_power(struct host_session *session, const struct cpupolicy_power *power);
void host_ost(struct host_session *session, const struct cpupolicy_ost *ost);
void host_eject(struct host_session *session, const struct cpupolicy_eject *eject);
void host_run_state(struct host_session *session, enum cpupolicy_run_state state);
void host_reset(struct host_session *session, enum cpupolicy_reset_kind kind);
void host_state(struct host_session *session, enum cpupolicy_run_state state, const struct cpupolicy_vcpu *vcpus);
void host_confirm(struct host_session *session, const struct cpupolicy_confirm *confirm);

/* ---- clients ---- */

/* The names on the bus are in docs/dbus.md. */
enum host_error {
	HOST_OK = 0,
	HOST_NO_SUCH_VM,
	HOST_NO_SUCH_JOB,
	HOST_NO_SUCH_CLASS,
	HOST_NO_SUCH_TENANT,
	HOST_OUT_OF_RANGE,
	HOST_SLA_LIMIT,
	HOST_TENANT_QUOTA,
	HOST_CAPACITY,
	HOST_CREDIT,
	HOST_PLUG_RATE,
	HOST_FROZEN,
	HOST_DRAINED,
	HOST_BOOT_VCPU,
	HOST_NOT_NOTIFIABLE,
	HOST_MIGRATING,
	HOST_NO_PROVIDER,  /* nobody can hold the VM's CPU time */
	HOST_NOT_PROVIDER, /* the caller has not registered as one */
	HOST_PROVIDER_EXISTS,
	HOST_NOT_OWNER,      /* another provider announced it */
	HOST_LIMITS,         /* more than is kept */
	HOST_VM_RUNNING,     /* forget: it must not have a VMM */
	HOST_INVALID,        /* an argument that no VM, class or host could take */
	HOST_INVALID_POLICY, /* reload: the policy is not as it should be; the one in force stays */
	HOST_FILE_EXISTS,    /* backup */
	HOST_STORAGE,
	HOST_NO_MEMORY,
};

/* `message`: a sentence that says what the bound is and who set it; NULL with HOST_OK. `job`: its id, 0 but for a
 * resize. */
typedef void (*host_done_fn)(enum host_error error, const char *message, uint64_t job, void *userdata);

/* `vm` is a name or a UUID, wherever one is named. `fn` runs once: at once if refused, else when durable. */
void host_resize(struct host *host, const char *vm, uint32_t count, uid_t uid, host_done_fn fn, void *userdata);
/* Drops the record of a stopped VM. */
void host_forget(struct host *host, const char *vm, uid_t uid, host_done_fn fn, void *userdata);
/* By name. NULL: as it is; "": by the rules of the policy again. */
void host_assign(struct host *host, const char *vm, const char *class, const char *tenant, uid_t uid, host_done_fn fn,
		 void *userdata);
/* The state of the host, durable: it outlives the daemon. To say what is so already is no error. */
void host_freeze(struct host *host, bool on, uid_t uid, host_done_fn fn, void *userdata);
void host_drain(struct host *host, bool on, uid_t uid, host_done_fn fn, void *userdata);
/* Reads the policy and the number of CPUs again, and takes both at once, or neither. `fn` runs at once; may be NULL. */
void host_reload(struct host *host, uid_t uid, host_done_fn fn, void *userdata);
/* See store_backup(). */
void host_backup(struct host *host, const char *path, uid_t uid, host_done_fn fn, void *userdata);

/* As host_resize(), for CPU time in 1/1000 CPUs; see vm_resize_millis(). What is not whole needs a provider. */
void host_resize_millis(struct host *host, const char *vm, uint32_t millis, uid_t uid, host_done_fn fn, void *userdata);

/* What moves with a VM to another host, beside what its VMM carries. */
struct host_transfer {
	bool credit; /* there is a balance; the next two mean something */
	bool spent;
	int64_t balance;            /* vCPU-ns */
	const char *assigned_class; /* as of host_assign(); NULL: by the rules. Valid until the next change. */
	const char *assigned_tenant;
};
/* As it is now. */
enum host_error host_export(struct host *host, const char *vm, struct host_transfer *ret);
/* Replaces the balance if there is one, and the assignments that are not NULL; all of it, or nothing. */
void host_import(struct host *host, const char *vm, const struct host_transfer *transfer, uid_t uid, host_done_fn fn,
		 void *userdata);

/* What a request for `count` vCPUs would meet now; 0: for those that are desired already. explain_text() with the VM's name
 * makes sentences of the lines; the names in them are valid until the loop goes on. */
enum host_error host_explain(struct host *host, const char *vm, uint32_t count, struct explain *ret);
/* See store_usage_query(); what has been used up to now is brought into the store first, at most once a second. */
int host_usage_query(struct host *host, const struct store_usage_filter *filter, store_usage_fn fn, void *userdata);

/* What clients are told. Any may be NULL. Changes are gathered: `changed`, `host_changed` come once per turn of the loop. */
struct host_observer {
	void (*added)(struct host_vm *vm, void *userdata);
	void (*removed)(struct host_vm *vm, void *userdata); /* still readable */
	void (*changed)(struct host_vm *vm, void *userdata);
	void (*job_new)(struct host_vm *vm, const struct job *job, void *userdata);
	void (*job_removed)(struct host_vm *vm, const struct job *job, void *userdata);
	/* A CPU_ON was denied, or would have been (observe); `count` calls, at most one notice per turn, VM and vCPU. `rule`:
	 * what keeps the VM's target below its desired count, where that is why. */
	void (*denied)(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, enum rule rule,
		       uint32_t count, void *userdata);
	/* What host_view() and host_tenant_view() say. */
	void (*host_changed)(void *userdata);
	/* Another policy is in force: classes, tenants and what VMs have of them may be others. */
	void (*reloaded)(void *userdata);
};
void host_observe(struct host *host, const struct host_observer *observer, void *userdata);
/* Runs at the end of a turn in which anything of any VM or of the host may have changed. */
void host_on_change(struct host *host, void (*fn)(void *userdata), void *userdata);

/* ---- providers: agents that act where the VMM protocol cannot, and tell what they know of VMs ---- */

#define HOST_PROVIDERS_MAX     16u
#define HOST_PROVIDER_NAME_MAX 63u
#define HOST_ANNOUNCE_MAX      1024u /* VMs in one call */

struct host_provider;

struct host_provider_ops {
	/* Have the VM's CPU time held to `millis` (VM_QUOTA_NONE: to nothing). 0: host_provider_answer(call, ...) follows, once
	 * and not before this returns, unless the provider is removed. */
	int (*hold)(struct host_vm *call, const char *uuid, uint32_t millis, void *link);
};
/* `why`: a sentence; NULL: it is done. */
void host_provider_answer(struct host_vm *call, const char *why);

/* HOST_INVALID, _PROVIDER_EXISTS, _LIMITS, _NO_MEMORY with a sentence in `why`, or HOST_OK. What it announced when it was here
 * before is its own again. */
enum host_error host_provider_add(struct host_provider **ret, struct host *host, const char *name, uid_t uid,
				  const struct host_provider_ops *ops, void *link, char why[static 256]);
/* Its process, which is not that of the VMs that it may register. */
void host_provider_set_process(struct host_provider *provider, pid_t pid);
/* It has left. Calls that are not answered never will be; what it announced stays. NULL is accepted. */
void host_provider_remove(struct host_provider *provider);
const char *host_provider_name(const struct host_provider *provider);
/* In the order of their coming; NULL: first / no more. */
const struct host_provider *host_provider_next(const struct host *host, const struct host_provider *after);

/* What is known of a VM by a provider; also of one that is not on record (yet). */
struct host_announcement {
	struct store_announcement said; /* durable */
	pid_t pid;                      /* of the VM's process, as long as the daemon lives; 0: not said */
	uint64_t start_time;
};
/* NULL: nobody said anything. Valid until the loop goes on. */
const struct host_announcement *host_announcement_find(const struct host *host,
						       const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
/* Is that name announced, and of no VM with this UUID? Linear. */
bool host_announcement_name_is_taken(const struct host *host, const char *name,
				     const uint8_t uuid[CPUPOLICY_UUID_SIZE]);
/* In order of UUID, from 0; NULL: no more. */
const struct host_announcement *host_announcement_at(const struct host *host, size_t n);
/*
 * Each replaces what was said of that VM; or is withdrawn (then only the UUIDs mean something). All of them, or none:
 * HOST_NOT_OWNER if another provider that is here announced one, HOST_LIMITS. First on disk, then in force, then
 * answered. The list and what it points to is taken over, whatever comes of it.
 */
void host_announce(struct host_provider *provider, struct host_announcement *list, size_t n, bool withdraw, uid_t uid,
		   host_done_fn fn, void *userdata);
void host_announcements_free(struct host_announcement *list, size_t n);

/* ---- reading ---- */

struct host_vm *host_find(struct host *host, const char *name_or_uuid);    /* NULL: none */
struct host_vm *host_find_job(struct host *host, uint64_t id);             /* the VM whose job in flight it is */
struct host_vm *host_next(struct host *host, const struct host_vm *after); /* in order of UUID; NULL: first / no more */
/* The same, after a UUID (canonical text) of which there may be no VM any more. */
struct host_vm *host_after(struct host *host, const char *uuid);
size_t host_count(const struct host *host);

const struct vm *host_vm_core(const struct host_vm *vm);
const char *host_vm_uuid(const struct host_vm *vm); /* canonical text */
const char *host_vm_name(const struct host_vm *vm);
const struct peer *host_vm_peer(const struct host_vm *vm); /* of the present or last VMM */
uid_t host_vm_desired_uid(const struct host_vm *vm);       /* who asked for `desired`; (uid_t)-1: nobody */
bool host_vm_has_incoming(const struct host_vm *vm);

/* What the policy says of a VM. Names are valid until the next change. */
struct host_vm_view {
	struct fleet_view fleet;
	const char *class;
	const char *tenant; /* NULL: none */
	enum policy_by class_by;
	enum policy_by tenant_by;
	uint32_t class_rule; /* POLICY_BY_RULE: which, from 1 */
	uint32_t tenant_rule;
	const char *assigned_class; /* by an operator; NULL: not */
	const char *assigned_tenant;
	uid_t assigned_uid;          /* who did; (uid_t)-1: nobody */
	const char *announced_class; /* by a provider; NULL: not */
	const char *announced_tenant;
	const char *provider; /* who announced the VM; NULL: nobody */
	bool class_unknown;   /* the policy has no class of the assigned name */
	bool tenant_unknown;  /* the same */
	/* used in this life of the daemon: vCPU-ns */
	uint64_t guaranteed_ns;
	uint64_t burst_ns;
};
void host_vm_view(const struct host_vm *vm, struct host_vm_view *ret);

/* What a VM is, or would be if it registered; names are valid until the next change. */
struct host_identity {
	char name[CPUPOLICY_NAME_SIZE];
	char uuid[UUID_TEXT_SIZE]; /* "": it is not on record, and `vm` was a name */
	const char *class;         /* "": the rules may look at a name that is not known */
	const char *tenant;        /* "": none, or the same */
};
/* `vm` is a name or a UUID. `name` (NULL: as on record) and `uid` are those that it would register with; what is not about a
 * registration gives no name, and the uid does not count. */
void host_identify(const struct host *host, const char *vm, const char *name, uid_t uid, struct host_identity *ret);

/* How it is with the quota that vm_quota() says. */
enum host_quota_state {
	HOST_QUOTA_IDLE,  /* there is to be none, and none is held */
	HOST_QUOTA_ASKED, /* a provider is to hold it, or to lift it, and has not said that it does */
	HOST_QUOTA_HELD,
	HOST_QUOTA_UNAVAILABLE, /* nobody can hold it now */
	HOST_QUOTA_STATES,
};
enum host_quota_state host_vm_quota_state(const struct host_vm *vm);
const char *host_quota_state_name(enum host_quota_state state); /* "none", "asked", "held", "unavailable" */
/* CPU time that its process used since it registered, or the daemon started, and what was granted in the same time: ns, and
 * vCPU-ns. False: its process is not known, both are 0. Looks at the process: not for many VMs at once. */
bool host_vm_cpu(const struct host_vm *vm, uint64_t *ret_used, uint64_t *ret_granted);
const char *host_vm_enforcement(const struct host_vm *vm); /* "psci", "hotplug", "quota", "none" */

struct host_view {
	uint32_t capacity; /* vCPUs; FLEET_UNLIMITED */
	uint32_t cpus;     /* of the host, for VMs; 0: not known */
	struct ledger_sums sums;
	bool observe;
	bool frozen;
	bool drained;
	uid_t frozen_uid; /* who said so last; (uid_t)-1: nobody */
	uid_t drained_uid;
	uint32_t tenants;
	uint32_t providers; /* counts changes of the list */
};
void host_view(const struct host *host, struct host_view *ret);

struct host_tenant_view {
	const char *name;
	uint32_t quota; /* vCPUs; FLEET_UNLIMITED */
	struct ledger_sums sums;
};
/* `tenant` < host_view.tenants, in order of their names */
void host_tenant_view(const struct host *host, uint32_t tenant, struct host_tenant_view *ret);

/* In force; valid until the next reload. */
const struct policy *host_policy(const struct host *host);
const struct counters *host_counters(const struct host *host);
/* `n` verdicts were sent so many ns after their asks were there to be read. */
void host_count_latency(struct host *host, uint64_t ns, uint32_t n);

/* For a client's own use, cleared when the VM is removed. */
void host_vm_set_data(struct host_vm *vm, void *data);
void *host_vm_data(const struct host_vm *vm);

#endif
