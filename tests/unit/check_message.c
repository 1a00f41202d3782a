/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * The codec's requests against docs/protocol.md: golden vectors both ways, then every request in every state, every bound
 * and the value beyond it, every reserved byte. The expectations here are written out, not taken from the table under
 * test. check_message_reply.c has the replies.
 */

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "vector.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define UUID                                                                                                           \
	{                                                                                                              \
		0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x41, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8         \
	}
#define TOKEN                                                                                                          \
	{                                                                                                              \
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf         \
	}
#define VCPU(m, f)                                                                                                     \
	{                                                                                                              \
		.mpidr = (m), .flags = (f)                                                                             \
	}

static const struct cpupolicy_msg_context context = {
	.features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING,
	.max_vcpus = CPUPOLICY_MAX_VCPUS,
	.possible = 3,
};

/* ---- golden vectors ---- */

static const struct {
	const char *file;
	uint32_t request, flags, seq, size;
	union cpupolicy_msg_payload payload;
} requests[] = {
	{"hello", CPUPOLICY_HELLO, 0, 0x11223344, 8, {.hello = {CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING}}},
	{"register",
	 CPUPOLICY_REGISTER,
	 0,
	 0x200,
	 304 + 3 * 16,
	 {.reg = {.head = {.uuid = UUID,
			   .name = "web-\xce\xb1",
			   .flags = CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE,
			   .possible = 3,
			   .boot = 2,
			   .run_state = CPUPOLICY_RUN_RUNNING},
		  .vcpus = {VCPU(0, CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED),
			    VCPU(1, CPUPOLICY_VCPU_ENABLED), VCPU(0x0100000100, 0)}}}},
	{"register-incoming",
	 CPUPOLICY_REGISTER,
	 0,
	 0x201,
	 304 + 16,
	 {.reg = {.head = {.uuid = UUID,
			   .token = TOKEN,
			   .name = "web-\xce\xb1",
			   .flags = CPUPOLICY_REG_INCOMING,
			   .possible = 1,
			   .boot = 1,
			   .run_state = CPUPOLICY_RUN_INACTIVE},
		  .vcpus = {VCPU(0xff, 0)}}}},
	{"ask", CPUPOLICY_ASK, 0, 0x80000001, 16, {.ask = {2, 0, CPUPOLICY_PSCI_CPU_ON_64, 0}}},
	{"power-on", CPUPOLICY_POWER, 0, 5, 16, {.power = {2, CPUPOLICY_POWER_ON, CPUPOLICY_REASON_GRANTED, 1}}},
	{"power-off",
	 CPUPOLICY_POWER,
	 CPUPOLICY_HDR_NEED_REPLY,
	 6,
	 16,
	 {.power = {2, CPUPOLICY_POWER_OFF, CPUPOLICY_REASON_NONE, 1}}},
	{"power-denied",
	 CPUPOLICY_POWER,
	 0,
	 7,
	 16,
	 {.power = {1, CPUPOLICY_POWER_DENIED, CPUPOLICY_REASON_NOT_ENABLED, 1000}}},
	{"ost", CPUPOLICY_OST, 0, 8, 16, {.ost = {2, 3, 0x82, 0}}},
	{"ost-guest", CPUPOLICY_OST, 0, 9, 16, {.ost = {2, 0x103, 0, 0}}},
	{"eject", CPUPOLICY_EJECT, 0, 10, 8, {.eject = {2, CPUPOLICY_EJECT_REQUESTED}}},
	{"run-state", CPUPOLICY_RUN_STATE, 0, 11, 8, {.run = {CPUPOLICY_RUN_PAUSED, 0}}},
	{"reset", CPUPOLICY_RESET, 0, 12, 8, {.reset = {CPUPOLICY_RESET_GUEST, 0}}},
	{"state",
	 CPUPOLICY_STATE,
	 0,
	 13,
	 8 + 3 * 16,
	 {.state = {.head = {3, CPUPOLICY_RUN_RUNNING},
		    .vcpus = {VCPU(0, CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED),
			      VCPU(1, CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED),
			      VCPU(0x0100000100, CPUPOLICY_VCPU_EJECTED | CPUPOLICY_VCPU_EJECT_OWN)}}}},
	{"confirm", CPUPOLICY_CONFIRM, 0, 14, 8, {.confirm = {42, 7}}},
	{"unregister", CPUPOLICY_UNREGISTER, 0, 15, 8, {.unregister = {CPUPOLICY_UNREGISTER_SHUTDOWN, 0}}},
};

static enum cpupolicy_msg_state state_of(uint32_t request)
{
	if (request == CPUPOLICY_HELLO)
		return CPUPOLICY_MSG_GREETING;
	return request == CPUPOLICY_REGISTER ? CPUPOLICY_MSG_GREETED : CPUPOLICY_MSG_REGISTERED;
}

START_TEST(request_is_its_vector)
{
	const union cpupolicy_msg_payload *payload = &requests[_i].payload;
	struct cpupolicy_header header = {
		.request = requests[_i].request,
		.flags = requests[_i].flags,
		.size = requests[_i].size,
		.seq = requests[_i].seq,
	};
	uint8_t golden[VECTOR_MAX], wire[CPUPOLICY_MSG_MAX_REQUEST];
	union cpupolicy_msg_payload decoded;
	struct cpupolicy_header got;
	const char *why = "";
	size_t n = vector_load(requests[_i].file, golden);
	uint8_t *exact;

	ck_assert_uint_eq(cpupolicy_msg_encode(&header, payload, wire), n);
	ck_assert_mem_eq(wire, golden, n);

	/* A buffer of the message's own size, so that a sanitizer sees a read beyond it. */
	exact = malloc(n - 16);
	memcpy(exact, golden + 16, n - 16);
	ck_assert_int_eq(cpupolicy_msg_check_header(golden, state_of(header.request), &got, &why), 0);
	ck_assert_uint_eq(got.request, header.request);
	ck_assert_uint_eq(got.flags, header.flags | CPUPOLICY_PROTOCOL_VERSION);
	ck_assert_uint_eq(got.size, header.size);
	ck_assert_uint_eq(got.seq, header.seq);
	memset(&decoded, 0xee, sizeof(decoded));
	cpupolicy_msg_decode(&got, exact, &decoded);
	free(exact);
	ck_assert_mem_eq(&decoded, payload, header.size);
	ck_assert_uint_eq(((uint8_t *)&decoded)[header.size], 0xee);
	ck_assert_msg(cpupolicy_msg_check_payload(&got, &decoded, &context, &why) == 0, "%s", why);
}
END_TEST

/* ---- headers of requests ---- */

/* Every request, its fixed size, the stride of its array, and the one state in which it is legal. */
static const struct {
	uint32_t size, stride;
	enum cpupolicy_msg_state state;
} expected[] = {
	[CPUPOLICY_HELLO] = {8, 0, CPUPOLICY_MSG_GREETING},
	[CPUPOLICY_REGISTER] = {304, 16, CPUPOLICY_MSG_GREETED},
	[CPUPOLICY_ASK] = {16, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_POWER] = {16, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_OST] = {16, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_EJECT] = {8, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_RUN_STATE] = {8, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_RESET] = {8, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_STATE] = {8, 16, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_CONFIRM] = {8, 0, CPUPOLICY_MSG_REGISTERED},
	[CPUPOLICY_UNREGISTER] = {8, 0, CPUPOLICY_MSG_REGISTERED},
};

static void put32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

static void put_header(uint8_t wire[16], uint32_t request, uint32_t flags, uint32_t size)
{
	put32(wire, request);
	put32(wire + 4, flags);
	put32(wire + 8, size);
	put32(wire + 12, 99);
}

static int try_header(uint32_t request, uint32_t flags, uint32_t size, enum cpupolicy_msg_state state)
{
	struct cpupolicy_header got = {1000, 1000, 1000, 1000};
	const char *why = NULL;
	uint8_t wire[16];
	int r;

	put_header(wire, request, flags, size);
	r = cpupolicy_msg_check_header(wire, state, &got, &why);
	if (r == 0) {
		ck_assert_uint_eq(got.request, request);
		ck_assert_uint_eq(got.size, size);
		ck_assert_uint_eq(got.seq, 99);
	} else {
		ck_assert_uint_eq(got.request, 1000);
		ck_assert_uint_eq(got.size, 1000);
		ck_assert_ptr_nonnull(why);
	}
	return r;
}

START_TEST(each_request_is_legal_in_one_state)
{
	for (uint32_t request = 0; request < CPUPOLICY_REQUEST_MAX + 4; request++) {
		for (enum cpupolicy_msg_state state = 0; state < CPUPOLICY_MSG_STATES; state++) {
			bool known = request >= 1 && request <= CPUPOLICY_REQUEST_MAX;
			uint32_t size = known ? expected[request].size + expected[request].stride : 8;
			int r = try_header(request, 1, size, state);

			ck_assert_int_eq(r, known && state == expected[request].state ? 0 : -EPROTO);
			ck_assert_int_eq(cpupolicy_msg_row(request) != NULL, known);
		}
	}
	ck_assert_int_eq(try_header(UINT32_MAX, 1, 8, CPUPOLICY_MSG_REGISTERED), -EPROTO);
}
END_TEST

START_TEST(sizes_have_bounds)
{
	for (uint32_t request = 1; request <= CPUPOLICY_REQUEST_MAX; request++) {
		enum cpupolicy_msg_state state = expected[request].state;
		uint32_t size = expected[request].size, stride = expected[request].stride;

		if (stride == 0) {
			for (uint32_t s = 0; s < 64; s++)
				ck_assert_int_eq(try_header(request, 1, s, state), s == size ? 0 : -EPROTO);
		} else {
			for (uint32_t s = 0; s <= size + 515 * stride; s++) {
				bool whole = s > size && (s - size) % stride == 0 && (s - size) / stride <= 512;

				ck_assert_int_eq(try_header(request, 1, s, state), whole ? 0 : -EPROTO);
			}
		}
		ck_assert_int_eq(try_header(request, 1, CPUPOLICY_MAX_PAYLOAD + 1, state), -EPROTO);
		ck_assert_int_eq(try_header(request, 1, INT32_MAX, state), -EPROTO);
		ck_assert_int_eq(try_header(request, 1, UINT32_MAX, state), -EPROTO);
		ck_assert_int_eq(try_header(request, 1, UINT32_MAX - 15 + size % 16, state), -EPROTO);
	}
}
END_TEST

START_TEST(flags_have_bounds)
{
	for (uint32_t flags = 0; flags < 64; flags++) {
		bool legal = flags == 1 || flags == (1 | CPUPOLICY_HDR_NEED_REPLY);

		ck_assert_int_eq(try_header(CPUPOLICY_HELLO, flags, 8, CPUPOLICY_MSG_GREETING), legal ? 0 : -EPROTO);
	}
	for (int bit = 5; bit < 32; bit++)
		ck_assert_int_eq(try_header(CPUPOLICY_HELLO, 1 | 1u << bit, 8, CPUPOLICY_MSG_GREETING), -EPROTO);
}
END_TEST

START_TEST(replies_are_due_by_type_or_by_flag)
{
	for (uint32_t request = 1; request <= CPUPOLICY_REQUEST_MAX; request++) {
		struct cpupolicy_header header = {.request = request, .flags = 1};

		ck_assert_int_eq(cpupolicy_msg_wants_reply(&header), request <= CPUPOLICY_ASK);
		header.flags |= CPUPOLICY_HDR_NEED_REPLY;
		ck_assert(cpupolicy_msg_wants_reply(&header));
		ck_assert_uint_eq(cpupolicy_msg_row(request)->reply_fds, request == CPUPOLICY_REGISTER ? 2 : 0);
	}
}
END_TEST

/* ---- payloads of requests ---- */

/* One member of a valid message gets one value; what the check then says. */
static const struct {
	const char *file;
	uint32_t offset; /* in the payload */
	uint32_t value;
	int r;
} members[] = {
	{"hello", 0, 0, 0},
	{"hello", 4, UINT32_MAX, 0}, /* features that this side does not know */

	{"ask", 0, 0, 0},
	{"ask", 0, 3, -EPROTO},
	{"ask", 0, UINT32_MAX, -EPROTO},
	{"ask", 4, 2, 0},
	{"ask", 4, 3, -EPROTO},
	{"ask", 8, CPUPOLICY_PSCI_CPU_ON_32, 0},
	{"ask", 8, CPUPOLICY_PSCI_CPU_OFF, -EOPNOTSUPP},
	{"ask", 8, 0, -EOPNOTSUPP},
	{"ask", 12, 1, -EPROTO},
	{"ask", 12, 0x80000000, -EPROTO},

	{"power-on", 0, 3, -EPROTO},
	{"power-on", 4, 0, -EPROTO},
	{"power-on", 4, 4, -EPROTO},
	{"power-on", 8, CPUPOLICY_REASON_MAX, 0},
	{"power-on", 8, CPUPOLICY_REASON_MAX + 1, -EPROTO},
	{"power-on", 12, 0, -EPROTO},
	{"power-on", 12, 2, -EPROTO},
	{"power-off", 8, CPUPOLICY_REASON_GRANTED, -EPROTO},
	{"power-off", 12, 2, -EPROTO},
	{"power-denied", 12, 0, -EPROTO},
	{"power-denied", 12, 1, 0},
	{"power-denied", 12, UINT32_MAX, 0},

	{"ost", 0, 3, -EPROTO},
	{"ost", 4, UINT32_MAX, 0},
	{"ost", 8, UINT32_MAX, 0},
	{"ost", 12, 1, -EPROTO},

	{"eject", 0, 0, -EPROTO},
	{"eject", 0, 3, -EPROTO},
	{"eject", 4, 0, -EPROTO},
	{"eject", 4, 3, 0},
	{"eject", 4, 4, -EPROTO},

	{"run-state", 0, 0, -EPROTO},
	{"run-state", 0, 3, 0},
	{"run-state", 0, 4, -EPROTO},
	{"run-state", 4, 1, -EPROTO},

	{"reset", 0, 0, -EPROTO},
	{"reset", 0, 2, 0},
	{"reset", 0, 3, -EPROTO},
	{"reset", 4, 1, -EPROTO},

	{"state", 0, 2, -EPROTO},
	{"state", 0, 4, -EPROTO},
	{"state", 4, 0, -EPROTO},
	{"state", 4, 4, -EPROTO},
	{"state", 8 + 8, CPUPOLICY_VCPU_EJECTED, -EPROTO}, /* of vCPU 0 */
	{"state", 8 + 12, 1, -EPROTO},
	{"state", 8 + 16 + 8, CPUPOLICY_VCPU_FLAGS, 0},
	{"state", 8 + 16 + 8, CPUPOLICY_VCPU_EJECT_OWN, -EPROTO},
	{"state", 8 + 16 + 8, CPUPOLICY_VCPU_FLAGS + 1, -EPROTO},
	{"state", 8 + 32 + 12, 0x01000000, -EPROTO},
	{"state", 8 + 16, 0, -EPROTO},          /* the MPIDR of vCPU 0 */
	{"state", 8 + 16, 0x80000001, -EPROTO}, /* RES1 of MPIDR_EL1 */
	{"state", 8 + 16 + 4, 0x100, -EPROTO},  /* beyond Aff3 */
	{"state", 8 + 16 + 4, 0xff, 0},

	{"confirm", 0, UINT32_MAX, 0},
	{"confirm", 4, 0, 0},

	{"unregister", 0, 0, -EPROTO},
	{"unregister", 0, 2, 0},
	{"unregister", 0, 3, -EPROTO},
	{"unregister", 4, 1, -EPROTO},

	{"register", 288, 0, 0},
	{"register", 288, CPUPOLICY_REG_FLAGS + 1, -EPROTO},
	{"register", 288, CPUPOLICY_REG_REALM, 0},
	{"register", 288, CPUPOLICY_MEANS_HOTPLUG << CPUPOLICY_REG_MEANS_SHIFT, 0},
	{"register", 288, CPUPOLICY_MEANS_NONE << CPUPOLICY_REG_MEANS_SHIFT, 0},
	{"register", 288, CPUPOLICY_REG_MEANS_MASK, -EPROTO}, /* the one that is not defined */
	{"register", 288, CPUPOLICY_REG_REALM | CPUPOLICY_MEANS_HOTPLUG << CPUPOLICY_REG_MEANS_SHIFT, -EPROTO},
	{"register", 288, CPUPOLICY_REG_INCOMING, -EPROTO}, /* without a token */
	{"register", 292, 2, -EPROTO},
	{"register", 292, 4, -EPROTO},
	{"register", 296, 0, -EPROTO},
	{"register", 296, 3, 0},
	{"register", 296, 4, -EPROTO},
	{"register", 300, 0, -EPROTO},
	{"register", 300, 4, -EPROTO},
	{"register", 32, 0, -EPROTO},           /* no name */
	{"register", 284, 0x01000000, -EPROTO}, /* its last byte is not zero */
	{"register", 40, 1, -EPROTO},           /* bytes after its end */
	{"register", 304 + 8, CPUPOLICY_VCPU_EJECTED, -EPROTO},
	{"register", 304 + 12, 1, -EPROTO},
	{"register", 304 + 32 + 12, 1, -EPROTO},
	{"register", 304 + 16, 0, -EPROTO},
	{"register-incoming", 16, 0, 0}, /* a part of the token */
};

static int check_wire(const uint8_t *wire, const struct cpupolicy_msg_context *with)
{
	union cpupolicy_msg_payload payload;
	struct cpupolicy_header header;
	const char *why = NULL;
	uint32_t request = wire[0];
	int r;

	r = cpupolicy_msg_check_header(wire, state_of(request), &header, &why);
	ck_assert_msg(r == 0, "%s", why);
	cpupolicy_msg_decode(&header, wire + 16, &payload);
	r = cpupolicy_msg_check_payload(&header, &payload, with, &why);
	ck_assert(r == 0 || why != NULL);
	return r;
}

START_TEST(members_have_bounds)
{
	uint8_t wire[VECTOR_MAX];
	size_t n = vector_load(members[_i].file, wire);

	ck_assert_uint_le(16 + members[_i].offset + 4, n);
	put32(wire + 16 + members[_i].offset, members[_i].value);
	ck_assert_msg(check_wire(wire, &context) == members[_i].r, "%s: %u at %u", members[_i].file, members[_i].value,
		      members[_i].offset);
}
END_TEST

START_TEST(indexes_follow_the_registration)
{
	struct cpupolicy_msg_context with = context;
	uint8_t wire[VECTOR_MAX];

	vector_load("ost", wire);
	for (uint32_t possible = 1; possible <= CPUPOLICY_MAX_VCPUS; possible++) {
		with.possible = possible;
		put32(wire + 16, possible - 1);
		ck_assert_int_eq(check_wire(wire, &with), 0);
		put32(wire + 16, possible);
		ck_assert_int_eq(check_wire(wire, &with), -EPROTO);
	}
}
END_TEST

START_TEST(features_must_be_agreed_on)
{
	struct cpupolicy_msg_context with = context;
	uint8_t wire[VECTOR_MAX];

	with.features = CPUPOLICY_F_INCOMING;
	vector_load("ask", wire);
	ck_assert_int_eq(check_wire(wire, &with), -EPROTO);
	vector_load("register-incoming", wire);
	ck_assert_int_eq(check_wire(wire, &with), 0);
	with.features = CPUPOLICY_F_ASK;
	ck_assert_int_eq(check_wire(wire, &with), -EPROTO);
	vector_load("ask", wire);
	ck_assert_int_eq(check_wire(wire, &with), 0);
}
END_TEST

START_TEST(registration_names_somebody)
{
	struct cpupolicy_msg_context with = context;
	uint8_t wire[VECTOR_MAX];

	vector_load("register", wire);
	memset(wire + 16, 0, 16);
	ck_assert_int_eq(check_wire(wire, &context), -EPERM);
	wire[16 + 15] = 1;
	ck_assert_int_eq(check_wire(wire, &context), 0);
	with.max_vcpus = 3;
	ck_assert_int_eq(check_wire(wire, &with), 0);
	with.max_vcpus = 2;
	ck_assert_int_eq(check_wire(wire, &with), -E2BIG);
}
END_TEST

static const struct {
	const char *name;
	int r;
} names[] = {
	{"a", 0},
	{"with blanks, and / and %s", 0},
	{"\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", 0},
	{"\xf4\x8f\xbf\xbf", 0},       /* U+10FFFF */
	{"\xf4\x90\x80\x80", -EPROTO}, /* beyond */
	{"\xed\xa0\x80", -EPROTO},     /* a surrogate */
	{"\xed\x9f\xbf", 0},           /* the last before them */
	{"\xc0\x80", -EPROTO},         /* overlong */
	{"\xc1\xbf", -EPROTO},
	{"\xe0\x9f\xbf", -EPROTO},
	{"\xe0\xa0\x80", 0},
	{"\xf0\x8f\xbf\xbf", -EPROTO},
	{"\xf0\x90\x80\x80", 0},
	{"\x80", -EPROTO},  /* a continuation of nothing */
	{"a\xc3", -EPROTO}, /* cut off */
	{"a\xe2\x82", -EPROTO},
	{"a\xf0\x9f\x90", -EPROTO},
	{"\xc3(", -EPROTO},
	{"\xff", -EPROTO},
	{"a\nb", -EPROTO},
	{"\x1b[2J", -EPROTO},
	{"\x7f", -EPROTO},
	{"\xc2\x9b", -EPROTO}, /* CSI */
	{"\xc2\xa0", 0},
	{"6ba7b810-9dad-41d1-80b4-00c04fd430c8", -EPERM},
	{"6BA7B810-9DAD-41D1-80B4-00C04FD430C8", -EPERM},
	{"6ba7b810-9dad-41d1-80b4-00c04fd430cg", 0},
	{"6ba7b810-9dad-41d1-80b4-00c04fd430c", 0},
	{"6ba7b810-9dad-41d1-80b4-00c04fd430c8 ", 0},
	{"6ba7b810x9dad-41d1-80b4-00c04fd430c8", 0},
};

START_TEST(names_are_plain_utf8)
{
	uint8_t wire[VECTOR_MAX];

	vector_load("register", wire);
	memset(wire + 16 + 32, 0, CPUPOLICY_NAME_SIZE);
	memcpy(wire + 16 + 32, names[_i].name, strlen(names[_i].name));
	ck_assert_int_eq(check_wire(wire, &context), names[_i].r);
}
END_TEST

START_TEST(names_have_bounds)
{
	uint8_t wire[VECTOR_MAX];

	vector_load("register", wire);
	memset(wire + 16 + 32, 'x', 255);
	wire[16 + 32 + 255] = 0;
	ck_assert_int_eq(check_wire(wire, &context), 0);
	wire[16 + 32 + 255] = 'x';
	ck_assert_int_eq(check_wire(wire, &context), -EPROTO);
}
END_TEST

START_TEST(mpidrs_are_unique)
{
	uint64_t mpidrs[CPUPOLICY_MAX_VCPUS + 1] = {0};
	const uint32_t n = CPUPOLICY_MAX_VCPUS;
	const char *why;

	for (uint32_t i = 0; i < n; i++)
		mpidrs[i] = (uint64_t)(i % 4) << 32 | (i / 4 % 16) << 8 | i / 64;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = (i * 7919u + 13) % (i + 1);
		uint64_t swap = mpidrs[i];

		mpidrs[i] = mpidrs[j];
		mpidrs[j] = swap;
	}
	ck_assert_int_eq(cpupolicy_msg_check_mpidrs(mpidrs, n, &why), 0);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = (i * 31 + 257) % n;
		uint64_t kept = mpidrs[i];

		mpidrs[i] = mpidrs[j];
		ck_assert_int_eq(cpupolicy_msg_check_mpidrs(mpidrs, n, &why), i == j ? 0 : -EPROTO);
		mpidrs[i] = kept;
	}
	ck_assert_int_eq(cpupolicy_msg_check_mpidrs(mpidrs, n + 1, &why), -EPROTO);
	for (int bit = 0; bit < 64; bit++) {
		bool affinity = bit < 24 || (bit >= 32 && bit < 40);
		uint64_t mpidr = UINT64_C(1) << bit;

		ck_assert_int_eq(cpupolicy_msg_check_mpidrs(&mpidr, 1, &why), affinity ? 0 : -EPROTO);
	}
}
END_TEST

START_TEST(largest_registration_is_taken)
{
	static union cpupolicy_msg_payload m;
	static uint8_t wire[CPUPOLICY_MSG_MAX_REQUEST];
	struct cpupolicy_header header = {.request = CPUPOLICY_REGISTER, .size = 304 + 512 * 16};

	m.reg.head.uuid[0] = 1;
	strcpy(m.reg.head.name, "n");
	m.reg.head.possible = m.reg.head.boot = 512;
	m.reg.head.run_state = CPUPOLICY_RUN_RUNNING;
	for (uint32_t i = 0; i < 512; i++)
		m.reg.vcpus[i].mpidr = 511 - i;
	ck_assert_uint_eq(cpupolicy_msg_encode(&header, &m, wire), sizeof(wire));
	ck_assert_int_eq(check_wire(wire, &context), 0);
	wire[sizeof(wire) - 1] = 1;
	ck_assert_int_eq(check_wire(wire, &context), -EPROTO);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("message");
	TCase *tcase = tcase_create("vectors");

	tcase_add_loop_test(tcase, request_is_its_vector, 0, ARRAY_SIZE(requests));
	suite_add_tcase(suite, tcase);

	tcase = tcase_create("requests");
	tcase_add_test(tcase, each_request_is_legal_in_one_state);
	tcase_add_test(tcase, sizes_have_bounds);
	tcase_add_test(tcase, flags_have_bounds);
	tcase_add_test(tcase, replies_are_due_by_type_or_by_flag);
	tcase_add_loop_test(tcase, members_have_bounds, 0, ARRAY_SIZE(members));
	tcase_add_test(tcase, indexes_follow_the_registration);
	tcase_add_test(tcase, features_must_be_agreed_on);
	tcase_add_test(tcase, registration_names_somebody);
	tcase_add_loop_test(tcase, names_are_plain_utf8, 0, ARRAY_SIZE(names));
	tcase_add_test(tcase, names_have_bounds);
	tcase_add_test(tcase, mpidrs_are_unique);
	tcase_add_test(tcase, largest_registration_is_taken);
	suite_add_tcase(suite, tcase);

	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(make_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
