/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The codec's replies, as check_message.c checks its requests; and the names of things. */

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "vector.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define TOKEN                                                                                                          \
	{                                                                                                              \
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf         \
	}

static const struct cpupolicy_msg_context context = {
	.features = CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING,
	.possible = 3,
};

static void put32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(v >> (8 * i));
}

static const struct {
	const char *file;
	uint32_t request, seq, size;
	bool error;
	union cpupolicy_msg_reply payload;
} replies[] = {
	{"hello-reply", CPUPOLICY_HELLO, 0x11223344, 16, false, {.hello = {CPUPOLICY_F_ASK, 512, 0}}},
	{"register-reply", CPUPOLICY_REGISTER, 0x200, 32, false, {.reg = {TOKEN, 7, 3, 2, 4096}}},
	{"ask-reply-granted",
	 CPUPOLICY_ASK,
	 0x80000001,
	 8,
	 false,
	 {.verdict = {CPUPOLICY_PSCI_SUCCESS, CPUPOLICY_REASON_GRANTED}}},
	{"ask-reply-rate",
	 CPUPOLICY_ASK,
	 0x80000001,
	 8,
	 false,
	 {.verdict = {CPUPOLICY_PSCI_DENIED, CPUPOLICY_REASON_RATE}}},
	{"power-reply", CPUPOLICY_POWER, 6, 0, false, {.verdict = {0, 0}}},
	{"register-error",
	 CPUPOLICY_REGISTER,
	 0x200,
	 248,
	 true,
	 {.error = {CPUPOLICY_ERROR_IDENTITY, 0, "The name is taken by another VM."}}},
	{"unregister-reply-error",
	 CPUPOLICY_UNREGISTER,
	 15,
	 248,
	 true,
	 {.error = {CPUPOLICY_ERROR_PROTOCOL, 0, "The request is illegal in this state of the session."}}},
};

START_TEST(reply_is_its_vector)
{
	const union cpupolicy_msg_reply *payload = &replies[_i].payload;
	struct cpupolicy_header request = {.request = replies[_i].request, .seq = replies[_i].seq}, got;
	uint8_t golden[VECTOR_MAX], wire[CPUPOLICY_MSG_MAX_REPLY];
	union cpupolicy_msg_reply decoded;
	const char *why = "";
	size_t n = vector_load(replies[_i].file, golden);

	if (replies[_i].error)
		ck_assert_uint_eq(
			cpupolicy_msg_encode_error(&request, payload->error.code, payload->error.message, wire), n);
	else
		ck_assert_uint_eq(cpupolicy_msg_encode_reply(&request, payload, wire), n);
	ck_assert_uint_eq(n, 16 + replies[_i].size);
	ck_assert_mem_eq(wire, golden, n);

	ck_assert_int_eq(cpupolicy_msg_check_reply_header(golden, &got, &why), 0);
	ck_assert_uint_eq(got.seq, replies[_i].seq);
	ck_assert_uint_eq(got.size, replies[_i].size);
	cpupolicy_msg_decode_reply(&got, golden + 16, &decoded);
	ck_assert_mem_eq(&decoded, payload, got.size);
	ck_assert_msg(cpupolicy_msg_check_reply(&got, &decoded, &context, &why) == 0, "%s", why);
}
END_TEST

static int check_reply_wire(const uint8_t *wire, const struct cpupolicy_msg_context *with)
{
	union cpupolicy_msg_reply payload;
	struct cpupolicy_header header;
	const char *why = NULL;
	int r;

	r = cpupolicy_msg_check_reply_header(wire, &header, &why);
	if (r == 0) {
		cpupolicy_msg_decode_reply(&header, wire + 16, &payload);
		r = cpupolicy_msg_check_reply(&header, &payload, with, &why);
	}
	ck_assert(r == 0 || why != NULL);
	return r;
}

static const struct {
	const char *file;
	uint32_t offset; /* in the message */
	uint32_t value;
	int r;
} reply_members[] = {
	{"hello-reply", 0, 0, -EPROTO},
	{"hello-reply", 0, CPUPOLICY_REQUEST_MAX + 1, -EPROTO},
	{"hello-reply", 0, CPUPOLICY_REGISTER, -EPROTO}, /* of another size */
	{"hello-reply", 4, CPUPOLICY_HDR_REPLY, -EPROTO},
	{"hello-reply", 4, 2 | CPUPOLICY_HDR_REPLY, -EPROTO},
	{"hello-reply", 4, 1, -EPROTO},
	{"hello-reply", 4, 1 | CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_NEED_REPLY, -EPROTO},
	{"hello-reply", 4, 1 | CPUPOLICY_HDR_REPLY | CPUPOLICY_HDR_ERROR, -EPROTO}, /* of another size */
	{"hello-reply", 4, 1 | CPUPOLICY_HDR_REPLY | 0x20, -EPROTO},
	{"hello-reply", 8, 15, -EPROTO},
	{"hello-reply", 8, 17, -EPROTO},
	{"hello-reply", 16, CPUPOLICY_F_ASK | CPUPOLICY_F_INCOMING, 0},
	{"hello-reply", 16, 0, 0},
	{"hello-reply", 16, 4, -EPROTO}, /* never offered */
	{"hello-reply", 24, 0, -EPROTO},
	{"hello-reply", 24, 1, 0},
	{"hello-reply", 24, 513, -EPROTO},
	{"hello-reply", 28, 1, -EPROTO},

	{"register-reply", 32, 0, -EPROTO}, /* epoch */
	{"register-reply", 36, 2, -EPROTO}, /* possible */
	{"register-reply", 36, 4, -EPROTO},
	{"register-reply", 40, 0, 0}, /* enabled */
	{"register-reply", 40, 3, 0},
	{"register-reply", 40, 4, -EPROTO},
	{"register-reply", 44, 64 + 3 * 8 - 1, -EPROTO}, /* page_size */
	{"register-reply", 44, 64 + 3 * 8, 0},

	{"ask-reply-granted", 16, (uint32_t)-1, -EPROTO},
	{"ask-reply-granted", 16, (uint32_t)CPUPOLICY_PSCI_DENIED, -EPROTO}, /* denied because granted */
	{"ask-reply-granted", 20, CPUPOLICY_REASON_NONE, -EPROTO},
	{"ask-reply-granted", 20, CPUPOLICY_REASON_OBSERVED, 0},
	{"ask-reply-granted", 20, CPUPOLICY_REASON_RATE, -EPROTO},
	{"ask-reply-rate", 16, 0, -EPROTO},
	{"ask-reply-rate", 20, CPUPOLICY_REASON_OVERLOAD, 0},
	{"ask-reply-rate", 20, CPUPOLICY_REASON_MAX + 1, -EPROTO},

	{"power-reply", 8, 1, -EPROTO},

	{"register-error", 16, 0, -EPROTO},
	{"register-error", 16, CPUPOLICY_ERROR_BUSY, 0},
	{"register-error", 16, CPUPOLICY_ERROR_BUSY + 1, -EPROTO},
	{"register-error", 20, 1, -EPROTO},
	{"register-error", 24, 0, -EPROTO},
	{"register-error", 24, 0x0a0a0a0a, -EPROTO},
	{"register-error", 260, 0x01000000, -EPROTO},
};

START_TEST(reply_members_have_bounds)
{
	uint8_t wire[VECTOR_MAX];

	vector_load(reply_members[_i].file, wire);
	put32(wire + reply_members[_i].offset, reply_members[_i].value);
	ck_assert_msg(check_reply_wire(wire, &context) == reply_members[_i].r, "%s: %u at %u", reply_members[_i].file,
		      reply_members[_i].value, reply_members[_i].offset);
}
END_TEST

START_TEST(registration_reply_has_a_token)
{
	uint8_t wire[VECTOR_MAX];

	vector_load("register-reply", wire);
	memset(wire + 16, 0, 16);
	ck_assert_int_eq(check_reply_wire(wire, &context), -EPROTO);
	wire[16] = 1;
	ck_assert_int_eq(check_reply_wire(wire, &context), 0);
}
END_TEST

START_TEST(long_errors_are_cut_at_a_character)
{
	struct cpupolicy_header request = {.request = CPUPOLICY_ASK};
	uint8_t wire[CPUPOLICY_MSG_MAX_REPLY];
	char text[300];

	for (size_t length = 1; length < sizeof(text); length++) {
		const char *got = (const char *)wire + 24;

		/* Three bytes each, with one or two before them. */
		memset(text, 'a', sizeof(text));
		for (size_t i = 1 + length % 3; i + 3 <= length; i += 3)
			memcpy(text + i, "\xe2\x82\xac", 3);
		text[length] = '\0';
		ck_assert_uint_eq(cpupolicy_msg_encode_error(&request, CPUPOLICY_ERROR_BUSY, text, wire), sizeof(wire));
		ck_assert_int_eq(check_reply_wire(wire, &context), 0);
		ck_assert_mem_eq(got, text, strlen(got));
		if (length < CPUPOLICY_ERROR_SIZE)
			ck_assert_uint_eq(strlen(got), length);
		else
			ck_assert_uint_ge(strlen(got), CPUPOLICY_ERROR_SIZE - 3);
	}
}
END_TEST

/* ---- names and values ---- */

START_TEST(errors_have_codes)
{
	ck_assert_uint_eq(cpupolicy_msg_error_code(-EPROTO), CPUPOLICY_ERROR_PROTOCOL);
	ck_assert_uint_eq(cpupolicy_msg_error_code(-EOPNOTSUPP), CPUPOLICY_ERROR_UNSUPPORTED);
	ck_assert_uint_eq(cpupolicy_msg_error_code(-EPERM), CPUPOLICY_ERROR_IDENTITY);
	ck_assert_uint_eq(cpupolicy_msg_error_code(-E2BIG), CPUPOLICY_ERROR_LIMIT);
	ck_assert_uint_eq(cpupolicy_msg_error_code(-ENOSPC), CPUPOLICY_ERROR_STORAGE);
	ck_assert_uint_eq(cpupolicy_msg_error_code(-ENOMEM), CPUPOLICY_ERROR_BUSY);
}
END_TEST

START_TEST(reasons_have_names)
{
	for (uint32_t i = 0; i <= CPUPOLICY_REASON_MAX; i++) {
		ck_assert_str_ne(cpupolicy_msg_reason_name(i), "unknown");
		for (uint32_t j = 0; j < i; j++)
			ck_assert_str_ne(cpupolicy_msg_reason_name(i), cpupolicy_msg_reason_name(j));
	}
	ck_assert_str_eq(cpupolicy_msg_reason_name(CPUPOLICY_REASON_NOT_ENABLED), "not-enabled");
	ck_assert_str_eq(cpupolicy_msg_reason_name(CPUPOLICY_REASON_MAX + 1), "unknown");
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("message, replies");
	TCase *tcase = tcase_create("replies");

	tcase_add_loop_test(tcase, reply_is_its_vector, 0, ARRAY_SIZE(replies));
	tcase_add_loop_test(tcase, reply_members_have_bounds, 0, ARRAY_SIZE(reply_members));
	tcase_add_test(tcase, registration_reply_has_a_token);
	tcase_add_test(tcase, long_errors_are_cut_at_a_character);
	tcase_add_test(tcase, errors_have_codes);
	tcase_add_test(tcase, reasons_have_names);
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
