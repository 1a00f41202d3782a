/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_HOST_H
#define CPUPOLICYD_HOST_H

/*
 * All VMs of this host. This is where the pure core meets the world: it turns what a session or the bus asks for into
 * core events, and the core's effects into records, page writes, timers and notices, in the order that the design
 * demands (commit, then page, then reply). It knows neither sockets nor D-Bus: both stand behind small tables of
 * functions.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/core/vm.h"
#include "daemon/loop.h"
#include "daemon/peer.h"
#include "daemon/store.h"
#include "proto/cpupolicy-proto.h"

struct host;
struct host_vm; /* one VM on record; opaque here, the accessors below read it */

/* ---- the VMM's connection, as the host sees it ---- */

struct host_link_ops {
	/* Registered: send the reply with both descriptors (ownership passes). */
	void (*registered)(void *link, const struct cpupolicy_register_reply *reply, int page_fd, int doorbell_fd);
	/* The registration is refused, and its host_session gone: send the error; the peer may try again on this
	 * connection. */
	void (*refused)(void *link, uint32_t code, const char *why);
	/* The host is done with this connection (replaced, forgotten): hang up. Host has dropped it already. */
	void (*closed)(void *link, const char *why);
	/* Has the other end hung up, even if nobody has noticed yet? May be NULL. */
	bool (*ended)(void *link);
};

/* One registration attempt or registered session; made by host_attach(), ended by host_detach() or `closed`. */
struct host_session;

int host_new(struct host **ret, struct loop *loop, struct store *store, const struct config *config);
struct host *host_free(struct host *host);
/* Reads the records; VMs whose VMM has ended meanwhile are stopped. */
int host_load(struct host *host, char **ret_error);

struct host_registration {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	const char *name;
	uint32_t possible;
	uint64_t features; /* negotiated */
	struct vm_registration vm;
};

/* 0: `registered` or `refused` follows, possibly before this returns, and *ret is set before it; NULL if it is
 * refused at once. The peer is copied. */
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

enum host_error {
	HOST_OK = 0,
	HOST_NO_SUCH_VM,
	HOST_NO_SUCH_JOB,
	HOST_OUT_OF_RANGE,
	HOST_SLA_LIMIT,
	HOST_BOOT_VCPU,
	HOST_NOT_NOTIFIABLE,
	HOST_MIGRATING,
	HOST_VM_RUNNING, /* forget: it must not have a VMM */
	HOST_STORAGE,
	HOST_NO_MEMORY,
};

/* `message`: a sentence that says what the bound is and who set it; NULL with HOST_OK. `job`: its id. */
typedef void (*host_resize_fn)(enum host_error error, const char *message, uint64_t job, void *userdata);
/* `vm` is a name or a UUID. `fn` runs once: at once if refused, else when durable. */
void host_resize(struct host *host, const char *vm, uint32_t count, uid_t uid, host_resize_fn fn, void *userdata);
/* Drops the record of a stopped VM. Same conventions (job is 0). */
void host_forget(struct host *host, const char *vm, uid_t uid, host_resize_fn fn, void *userdata);

/* What clients are told. Any may be NULL. Changes are gathered: `changed` comes once per turn of the loop and VM. */
struct host_observer {
	void (*added)(struct host_vm *vm, void *userdata);
	void (*removed)(struct host_vm *vm, void *userdata); /* still readable */
	void (*changed)(struct host_vm *vm, void *userdata);
	void (*job_new)(struct host_vm *vm, const struct job *job, void *userdata);
	void (*job_removed)(struct host_vm *vm, const struct job *job, void *userdata);
	/* A CPU_ON was denied, or would have been (observe); `count` calls, one notice at most per turn and vCPU. */
	void (*denied)(struct host_vm *vm, uint32_t vcpu, const struct vm_verdict *verdict, uint32_t count,
		       void *userdata);
};
void host_observe(struct host *host, const struct host_observer *observer, void *userdata);

/* ---- reading ---- */

struct host_vm *host_find(struct host *host, const char *name_or_uuid);    /* NULL: none */
struct host_vm *host_find_job(struct host *host, uint64_t id);             /* the VM whose job in flight it is */
struct host_vm *host_next(struct host *host, const struct host_vm *after); /* in order of UUID; NULL: first / no more */
size_t host_count(const struct host *host);

const struct vm *host_vm_core(const struct host_vm *vm);
const char *host_vm_uuid(const struct host_vm *vm); /* canonical text */
const char *host_vm_name(const struct host_vm *vm);
const struct peer *host_vm_peer(const struct host_vm *vm); /* of the present or last VMM */
uid_t host_vm_desired_uid(const struct host_vm *vm);       /* who asked for `desired`; (uid_t)-1: nobody */
bool host_vm_has_incoming(const struct host_vm *vm);
/* For a client's own use, cleared when the VM is removed. */
void host_vm_set_data(struct host_vm *vm, void *data);
void *host_vm_data(const struct host_vm *vm);

#endif
