/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_FAKEDAEMON_H
#define TESTS_FAKEDAEMON_H

/*
 * Both ends of a session in one thread: a VMM made of libcpupolicy with callbacks that record, and a daemon that does what
 * the test tells it. Whatever waits for one side runs the other, and fails the test after a deadline.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/libcpupolicy.h"
#include "proto/message.h"
#include "proto/page.h"

#define FAKE_VCPUS          6u
#define FAKE_BOOT           4u
#define FAKE_EPOCH          7u
#define FAKE_ASK_TIMEOUT_MS 150u

struct fake_verdict {
	uint32_t caller, target;
	struct cpupolicy_verdict verdict;
};

struct fake {
	/* the VMM */
	struct cpupolicy *c;
	uint32_t flags[CPUPOLICY_MAX_VCPUS]; /* what get_state tells */
	enum cpupolicy_run_state run_state;
	unsigned policy_changes, link_changes, states;
	struct fake_verdict verdicts[16];
	unsigned n_verdicts;
	bool confirms; /* from the callback */

	/* the daemon */
	char dir[64];
	char path[96];
	int listener;
	int fd; /* -1: no session */
	int doorbell;
	int memfd;
	struct cpupolicy_page *page;
	size_t page_size;
	uint32_t vcpus, epoch;
	enum cpupolicy_msg_state state;
	struct cpupolicy_header header; /* of the last message read */
	union cpupolicy_msg_payload m;
};

/* A VMM of that many vCPUs with MPIDRs 0, 1, ..., not started; a listening daemon with a page of which vCPUs
 * 0 .. FAKE_BOOT-1 are granted. */
void fake_open(struct fake *f, uint32_t vcpus);
void fake_close(struct fake *f);
void fake_listen(struct fake *f);
/* Callbacks that record in the struct fake that is their opaque pointer. */
const struct cpupolicy_ops *fake_ops(void);

/* Runs the VMM until there is something to read on `fd` (-1: once). Fails after 10 seconds since `since`. */
void fake_run(struct fake *f, int fd, uint64_t since);
#define fake_until(f, condition)                                                                                       \
	do {                                                                                                           \
		uint64_t since_ = fake_now();                                                                          \
		while (!(condition))                                                                                   \
			fake_run(f, -1, since_);                                                                       \
	} while (0)
uint64_t fake_now(void);

/* ---- the daemon's side ---- */

void fake_accept(struct fake *f);
/* The next message into f->header and f->m, after the codec's checks. `request` is what it must be. */
void fake_expect(struct fake *f, uint32_t request);
/* Likewise, whichever it is. */
uint32_t fake_next(struct fake *f);
/* That the VMM hung up. */
void fake_expect_end(struct fake *f);
/* All that is left once the VMM is gone; its first message is in f->m. Returns the bytes. */
size_t fake_drain(struct fake *f);
void fake_reply(struct fake *f, const void *payload);
void fake_error(struct fake *f, enum cpupolicy_error_code code, const char *sentence);
void fake_send(struct fake *f, const void *bytes, size_t n, const int *fds, size_t n_fds);
/* Accepts and greets; the REGISTER is in f->m. */
void fake_greet(struct fake *f);
void fake_admit(struct fake *f);
/* All of it, and the VMM knows. */
void fake_register(struct fake *f);
void fake_hangup(struct fake *f);

/* A new page, as by a daemon that was started anew. */
void fake_new_page(struct fake *f, uint32_t epoch);
void fake_store(struct fake *f, uint32_t vcpu, struct cpupolicy_page_word word);
/* A new generation, and the doorbell. */
void fake_publish(struct fake *f);
struct cpupolicy_page_word fake_granted(uint32_t grant);

#endif
