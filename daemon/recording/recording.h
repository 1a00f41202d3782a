/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_RECORDING_H
#define CPUPOLICYD_RECORDING_H

/*
 * The log of what happened to a fleet, as lines of JSON: pure, both ways. recorder.h writes such logs, `cpuctl
 * simulate` reads them. docs/man/cpupolicy.recording.5 has the format.
 *
 * The first line is the header. Each other one says when (`at`, ns of the fleet's clock), what (`do`) and, where it is
 * about one, which VM. Who applies the lines in their order to a fleet gets the same answers and states as the daemon.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/fleet.h"
#include "daemon/core/vm_handover.h"
#include "daemon/settings/policy.h"
#include "daemon/store/store_vm.h"

#define RECORDING_VERSION  2u          /* 2: announcements, CPU time; what was recorded as 1 is read all the same */
#define RECORDING_LINE_MAX (64u << 20) /* bytes: a header with a policy as large as can be */

enum recording_kind {
	RECORDING_HEADER,
	RECORDING_ADD,
	RECORDING_RESHAPE,
	RECORDING_SUBJECT,
	RECORDING_PUBLISHED,
	RECORDING_REMOVE,
	RECORDING_RELOAD,
	RECORDING_CPUS,
	RECORDING_EVENT,
};

/* What an event led to, as far as it is compared. */
struct recording_state {
	bool of_vm; /* else of the host: only `sums` and `digest` mean something */
	uint32_t desired;
	uint32_t allowance;
	uint32_t target;
	uint32_t held;
	uint32_t overdue;
	enum rule bound;
	int64_t balance;
	uint64_t guaranteed_ns; /* used in this life of the daemon */
	uint64_t burst_ns;
	uint64_t job;   /* in flight; 0: none */
	uint32_t quota; /* VM_QUOTA_NONE; in the digest if it is another */
	struct ledger_sums sums;
	uint64_t digest; /* of all this, and of each vCPU's page word */
};
/* `m` NULL: of the host. Takes time in proportion to the VM's possible vCPUs. */
void recording_state(const struct fleet *f, const struct fleet_vm *m, struct recording_state *ret);

struct recording_answer {
	enum rule rule;
	struct vm_verdict verdict; /* FLEET_ASK */
	uint64_t superseded;       /* FLEET_RESIZE: the job's id; 0: none */
	bool would_refuse;         /* FLEET_START */
};
bool recording_same_answer(const struct recording_answer *a, const struct recording_answer *b);
struct recording_answer recording_answer(const struct fleet_answer *answer);

/* Whether lines of that kind of event have a state: all but those of FLEET_ASK, which is to cost little. */
bool recording_has_state(enum fleet_event_kind kind);

/* ---- writing ---- */

/* Text that grows up to its room; what does not fit leaves it as it was. */
struct recording_text {
	char *data;
	size_t size;
	size_t room;
};

/* 0, or -ENOSPC. As the functions of recorder.h. */
int recording_write_header(struct recording_text *text, const struct fleet *fleet, const struct policy *policy,
			   uint32_t cpus);
int recording_write_add(struct recording_text *text, const struct fleet_vm *member,
			const struct policy_subject *subject, const struct store_vm *record,
			const struct vm_handover *handover, bool alive, uint64_t now);
int recording_write_reshape(struct recording_text *text, const struct fleet_vm *member, uint64_t now);
int recording_write_subject(struct recording_text *text, const struct fleet_vm *member,
			    const struct policy_subject *subject, uint64_t now);
int recording_write_published(struct recording_text *text, const struct fleet_vm *member, uint64_t now);
int recording_write_remove(struct recording_text *text, const struct fleet_vm *member, uint64_t now);
int recording_write_reload(struct recording_text *text, const struct fleet *fleet, const struct policy *policy,
			   uint64_t now);
int recording_write_cpus(struct recording_text *text, uint32_t cpus, uint64_t now);
int recording_write_event(struct recording_text *text, const struct fleet *fleet, const struct fleet_event *event,
			  const struct fleet_answer *answer);
/* Bytes that are enough for a header or a reload. */
size_t recording_policy_size(const struct policy *policy);

/* ---- reading ---- */

struct recording_line {
	enum recording_kind kind;
	uint64_t at;
	uint8_t uuid[CPUPOLICY_UUID_SIZE]; /* of the VM; nil: it is about none */

	/* HEADER, RELOAD: the policy, for policy_parse() */
	struct policy_source *sources;
	size_t n_sources;
	bool observe;
	/* HEADER; `at` is clock.boot */
	struct usage_clock clock;
	uint32_t cpus; /* CPUS too */
	uint32_t capacity;
	bool frozen;
	bool drained;

	/* ADD, RESHAPE, SUBJECT */
	char *name;
	uint32_t possible; /* not SUBJECT */
	/* ADD, SUBJECT: as in policy_subject. EVENT of FLEET_ASSIGN: what was decided. */
	char *class;
	char *tenant;          /* NULL: none */
	char *announced_class; /* not of an EVENT */
	char *announced_tenant;
	uint32_t uid;
	/* ADD */
	bool restored; /* there is a record: its uuid, name, possible, and all that concerns the fleet */
	bool alive;
	struct store_vm record;
	struct vm_handover handover; /* vcpus NULL: the session was not gone on with */

	uint32_t generation; /* PUBLISHED */

	/* EVENT: without its `vm`, and for FLEET_ASSIGN without the assignment. What it points to is the line's. */
	struct fleet_event event;
	struct recording_answer answer;
	struct recording_state state; /* if recording_has_state() */
	struct vm_registration registration;
	struct cpupolicy_vcpu *vcpus;
	uint32_t n_vcpus; /* the caller checks that they are as many as the VM has, before it applies the event */
	uint8_t *granted;
	size_t granted_size; /* the same: (possible + 7) / 8 */
};

/*
 * One line of `size` bytes, without its newline. -EINVAL: it is not one. On failure *ret_error names the file, the
 * line's number and what was expected, or is NULL if there is no memory for it. Whether what it says is possible for
 * that fleet (a vCPU's number, a VM that is there) is the caller's to check.
 */
int recording_read(struct recording_line *ret, const char *line, size_t size, const char *file, unsigned number,
		   char **ret_error);
void recording_line_clear(struct recording_line *line);

#endif
