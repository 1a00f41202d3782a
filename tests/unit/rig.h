/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_RIG_H
#define TESTS_RIG_H

/*
 * A daemon without its listener and bus, in this thread: loop, store in a directory of its own, host, sessions over
 * socket pairs; and VMMs at the other ends that send what the test says. Whatever waits runs the loop, and fails the
 * test after a deadline.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/settings/config.h"
#include "daemon/host/host.h"
#include "daemon/vmm/session.h"
#include "proto/message.h"
#include "proto/page.h"

struct rig_denial {
	uint32_t vcpu;
	uint32_t count;
	enum rule rule;
	struct vm_verdict verdict;
};

/* The daemon's end of a connection. */
struct rig_end {
	struct rig_end *next;
	struct session *session; /* NULL: it has ended */
	bool registered;
};

struct rig {
	char directory[32];
	struct config *config; /* the test may change it before rig_start() */
	struct policy *policy;
	struct loop *loop;
	struct store *store;
	struct host *host;
	struct session_hub *hub;
	struct rig_end *ends;
	/* what the observer was told */
	unsigned added, removed, changed, job_new, job_removed, denied, host_changed, reloaded;
	struct job last_new, last_removed;
	struct rig_denial denials[64];
};

/* Directory and configuration; nothing runs. Any message rate, any number of strangers, the built-in class alone. */
void rig_open(struct rig *rig);
/* What the policy directory has from the next start or reload on. */
void rig_policy(struct rig *rig, const char *text);
void rig_start(struct rig *rig);
/* As the daemon's end does, or as its death: what is on disk is there, and nothing else. */
void rig_stop(struct rig *rig);
void rig_restart(struct rig *rig);
void rig_close(struct rig *rig);
/* NULL: there is none. */
const struct vm *rig_vm(struct rig *rig, const char *name);
/* As a client does, to the answer, which must be good. */
void rig_resize(struct rig *rig, const char *vm, uint32_t count);
/* A process that does nothing, to be a VMM's; and its end. */
pid_t rig_process(void);
void rig_end_process(pid_t pid);
/* One turn of the loop that does not wait. */
void rig_turn(struct rig *rig);
void rig_expired(const char *condition, const char *file, int line);
uint64_t rig_clock(void);
/* Writes to disk fail from now on, as on a full one, or no more. */
void rig_fill_disk(bool full);

#define RIG_DEADLINE UINT64_C(10000000000)
#define rig_until(rig, condition)                                                                                      \
	do {                                                                                                           \
		uint64_t since_ = rig_clock();                                                                         \
		while (!(condition)) {                                                                                 \
			if (rig_clock() - since_ > RIG_DEADLINE)                                                       \
				rig_expired(#condition, __FILE__, __LINE__);                                           \
			rig_turn(rig);                                                                                 \
		}                                                                                                      \
	} while (0)

/* ---- the other end ---- */

struct vmm {
	struct rig *rig;
	int fd;
	struct rig_end *end;
	uint32_t seq;
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	char name[CPUPOLICY_NAME_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	uint32_t possible, boot, epoch, flags, run_state;
	uint32_t vcpus[CPUPOLICY_MAX_VCPUS]; /* flags to report */
	uint32_t enabled;                    /* of the registration's reply */
	struct cpupolicy_page *page;
	size_t page_size;
	int doorbell;
	int fds[2]; /* received */
	unsigned n_fds;
	/* the last message received */
	struct cpupolicy_header header;
	union cpupolicy_msg_reply reply;
};

/* A VMM of uid 1000 and of this process, connected. UUID of bytes `id`, name "vm<id>", 6 possible vCPUs, 4 at boot. */
void vmm_connect(struct vmm *vmm, struct rig *rig, uint8_t id);
void vmm_connect_as(struct vmm *vmm, struct rig *rig, uint8_t id, uid_t uid, pid_t pid);
/* The same through a listener's socket. */
void vmm_connect_path(struct vmm *vmm, struct rig *rig, uint8_t id, const char *path);
/* The same VM on a new connection, with what it was told. */
void vmm_reconnect(struct vmm *vmm, const struct vmm *old);
void vmm_close(struct vmm *vmm);

void vmm_send_bytes(struct vmm *vmm, const void *bytes, size_t n);
/* Returns the sequence number. */
uint32_t vmm_send(struct vmm *vmm, uint32_t request, uint32_t flags, const void *payload, size_t n);
uint32_t vmm_send_register(struct vmm *vmm);
/* The next message, into header and reply. */
void vmm_receive(struct vmm *vmm);
/* Whether one is there after the loop has nothing to do. */
bool vmm_has_input(struct vmm *vmm);
/* Waits until the daemon has hung up; what it sent before that is skipped. */
void vmm_expect_end(struct vmm *vmm);
/* The next message is an error. */
void vmm_expect_error(struct vmm *vmm, uint32_t code);
void vmm_hello(struct vmm *vmm);
void vmm_register(struct vmm *vmm);
/* Sends one and waits for its reply. */
void vmm_do(struct vmm *vmm, uint32_t request, const void *payload, size_t n);
#define vmm_event(vmm, request, type, ...) vmm_do(vmm, request, &(struct type){__VA_ARGS__}, sizeof(struct type))
struct cpupolicy_verdict vmm_ask(struct vmm *vmm, uint32_t vcpu);
void vmm_power(struct vmm *vmm, uint32_t vcpu, uint32_t event);
void vmm_confirm(struct vmm *vmm);
void vmm_run_state(struct vmm *vmm, uint32_t state);
/* A bit for each vCPU whose page word has this flag. */
uint64_t vmm_words(const struct vmm *vmm, uint64_t flag);
uint32_t vmm_generation(const struct vmm *vmm);
/* The guest acknowledges the vCPU as soon as the page grants it. */
void vmm_plug(struct vmm *vmm, uint32_t vcpu);
/* The whole life up to the first confirmation. */
void vmm_start(struct vmm *vmm, struct rig *rig, uint8_t id);

/* ---- a client ---- */

struct client {
	unsigned calls;
	enum host_error error;
	uint64_t job;
	char message[512];
};
/* For any request; `userdata` is the zeroed struct client. */
void client_answer(enum host_error error, const char *message, uint64_t job, void *userdata);
void client_resize(struct client *c, struct rig *rig, const char *vm, uint32_t count);
void client_forget(struct client *c, struct rig *rig, const char *vm);

#endif
