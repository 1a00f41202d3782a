/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_MESSAGE_H
#define CPUPOLICY_MESSAGE_H

/*
 * The messages of the VMM protocol: one table that says of each what it looks like and when it is legal, and the
 * functions that read, check and write by it. Shared by the daemon and libcpupolicy, and compiled into VMMs.
 *
 * Everything here is pure: no I/O, no allocation, no state. "Wire" is little-endian bytes of any alignment, "host" the
 * structures of cpupolicy-proto.h with members in host order. Checks return 0 or a negative errno value and a constant
 * sentence; cpupolicy_msg_error_code() turns the former into what an error reply carries.
 *
 *   -EPROTO      malformed, or illegal in this state: the sender's session ends
 *   -EOPNOTSUPP  well-formed, but nothing that this side has
 *   -EPERM       an identity that nobody may claim
 *   -E2BIG       over a bound
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpupolicy-proto.h"

#define CPUPOLICY_MSG_HEADER_SIZE sizeof(struct cpupolicy_header)
/* The largest reply, header included: an error. */
#define CPUPOLICY_MSG_MAX_REPLY (sizeof(struct cpupolicy_header) + sizeof(struct cpupolicy_error))
/* The largest request, header included: REGISTER of CPUPOLICY_MAX_VCPUS. */
#define CPUPOLICY_MSG_MAX_REQUEST                                                                                      \
	(sizeof(struct cpupolicy_header) + sizeof(struct cpupolicy_register) +                                         \
	 CPUPOLICY_MAX_VCPUS * sizeof(struct cpupolicy_vcpu))
#define CPUPOLICY_MSG_REGISTER_FDS 2u
/* Affinity fields of MPIDR_EL1. */
#define CPUPOLICY_MSG_MPIDR_MASK UINT64_C(0xff00ffffff)

enum cpupolicy_msg_state {
	CPUPOLICY_MSG_GREETING,   /* connected: HELLO is due */
	CPUPOLICY_MSG_GREETED,    /* REGISTER is due */
	CPUPOLICY_MSG_REGISTERED, /* everything else */
	CPUPOLICY_MSG_STATES,
};

/* Host order. The arrays of REGISTER and STATE have as many elements as the size in the header says. */
union cpupolicy_msg_payload {
	struct cpupolicy_hello hello;
	struct {
		struct cpupolicy_register head;
		struct cpupolicy_vcpu vcpus[CPUPOLICY_MAX_VCPUS];
	} reg;
	struct cpupolicy_ask ask;
	struct cpupolicy_power power;
	struct cpupolicy_ost ost;
	struct cpupolicy_eject eject;
	struct cpupolicy_run run;
	struct cpupolicy_reset reset;
	struct {
		struct cpupolicy_state head;
		struct cpupolicy_vcpu vcpus[CPUPOLICY_MAX_VCPUS];
	} state;
	struct cpupolicy_confirm confirm;
	struct cpupolicy_unregister unregister;
};

union cpupolicy_msg_reply {
	struct cpupolicy_hello_reply hello;
	struct cpupolicy_register_reply reg;
	struct cpupolicy_verdict verdict;
	struct cpupolicy_error error;
};

/* What the session knows that bounds a message's content. */
struct cpupolicy_msg_context {
	uint64_t features;  /* agreed on; in a HELLO reply's check: offered */
	uint32_t max_vcpus; /* of the HELLO reply */
	uint32_t possible;  /* as registered */
};

struct cpupolicy_msg_row {
	const char *name;
	uint32_t size;   /* of the payload, without the array */
	uint32_t stride; /* of the array's elements, 0: no array */
	uint32_t states; /* bit mask by enum cpupolicy_msg_state */
	bool reply_always;
	uint32_t reply_size;
	uint32_t reply_fds;
	/* One character per member: 8, 4 (integers), r (reserved, 4 bytes), u (16 bytes), n (a name), e (an error's text) */
	const char *layout;
	const char *element_layout;
	const char *reply_layout;
	int (*check)(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_payload *payload,
		     uint32_t n, const char **ret_why);
	int (*check_reply)(const struct cpupolicy_msg_context *context, const union cpupolicy_msg_reply *reply,
			   const char **ret_why);
};

/* NULL if there is no such request. */
const struct cpupolicy_msg_row *cpupolicy_msg_row(uint32_t request);
/* Elements of the array of a message whose header was checked. */
uint32_t cpupolicy_msg_elements(const struct cpupolicy_header *header);
/* Whether the sender of this request is to be given a reply. */
bool cpupolicy_msg_wants_reply(const struct cpupolicy_header *header);

/* ---- requests, as the daemon reads them ---- */

/* 16 bytes of wire. `state` decides what is legal. With success, header.size is what is to be read next. */
int cpupolicy_msg_check_header(const void *wire, enum cpupolicy_msg_state state, struct cpupolicy_header *ret,
			       const char **ret_why);
/* header.size bytes of wire to host order; the header has been checked. Writes no more than header.size bytes. */
void cpupolicy_msg_decode(const struct cpupolicy_header *header, const void *wire, union cpupolicy_msg_payload *ret);
int cpupolicy_msg_check_payload(const struct cpupolicy_header *header, const union cpupolicy_msg_payload *payload,
				const struct cpupolicy_msg_context *context, const char **ret_why);

/* ---- replies, as the VMM reads them ---- */

int cpupolicy_msg_check_reply_header(const void *wire, struct cpupolicy_header *ret, const char **ret_why);
void cpupolicy_msg_decode_reply(const struct cpupolicy_header *header, const void *wire,
				union cpupolicy_msg_reply *ret);
int cpupolicy_msg_check_reply(const struct cpupolicy_header *header, const union cpupolicy_msg_reply *reply,
			      const struct cpupolicy_msg_context *context, const char **ret_why);

/* ---- writing ---- */

/* The request's bytes: header and payload. `payload` may be anything with header.size bytes in host order. Returns the
 * length. The flags of the header lack the version, which is added. */
size_t cpupolicy_msg_encode(const struct cpupolicy_header *header, const void *payload, void *ret_wire);
/* The reply to `request`: CPUPOLICY_MSG_MAX_REPLY bytes suffice. `payload` may be NULL where the reply is empty. */
size_t cpupolicy_msg_encode_reply(const struct cpupolicy_header *request, const void *payload, void *ret_wire);
/* An error reply; the sentence is cut at a character's boundary if it is too long. */
size_t cpupolicy_msg_encode_error(const struct cpupolicy_header *request, enum cpupolicy_error_code code,
				  const char *sentence, void *ret_wire);
/* Reads 16 bytes without any check: for the error reply to a header that was refused. */
void cpupolicy_msg_decode_header(const void *wire, struct cpupolicy_header *ret);

/* ---- names and values ---- */

enum cpupolicy_error_code cpupolicy_msg_error_code(int r);
/* "granted", ...; "unknown" if out of range. */
const char *cpupolicy_msg_reason_name(uint32_t reason);
/* Whether each is an affinity value and none occurs twice. `n` is at most CPUPOLICY_MAX_VCPUS. */
int cpupolicy_msg_check_mpidrs(const uint64_t *mpidrs, uint32_t n, const char **ret_why);

#endif
