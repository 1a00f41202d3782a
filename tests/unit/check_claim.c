/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/core/claim.h"
#include "proto/cpupolicy-proto.h"

#define FACTS 21

static struct claim nth(unsigned n)
{
	struct claim c;
	bool *const facts[FACTS] = {
		&c.uuid_known,     &c.live,         &c.stopped,      &c.token_given,       &c.token_matches,
		&c.name_taken,     &c.name_is_uuid, &c.name_differs, &c.possible_differs,  &c.incoming,
		&c.incoming_taken, &c.same_owner,   &c.full,         &c.same_process,      &c.opened,
		&c.not_the_opened, &c.announced,    &c.announced_as, &c.not_announced_uid, &c.not_announced_label,
		&c.denied};

	memset(&c, 0, sizeof(c));
	for (unsigned i = 0; i < FACTS; i++)
		*facts[i] = n >> i & 1;
	return c;
}

/* Whatever the facts, contradictory ones included. */
START_TEST(what_no_claim_may_do)
{
	unsigned granted = 0;

	_Static_assert(sizeof(struct claim) == FACTS * sizeof(bool), "every fact is tried");
	for (unsigned n = 0; n < 1u << FACTS; n++) {
		struct claim c = nth(n);
		enum claim_outcome o = claim_decide(&c);
		bool holder = c.token_given && c.token_matches, on_record = c.uuid_known || c.live || c.stopped;

		if (o != CLAIM_START && o != CLAIM_RESUME && o != CLAIM_INCOMING)
			continue;
		granted++;
		ck_assert(!c.name_taken);
		ck_assert(!c.name_is_uuid);
		if (on_record)
			ck_assert(c.same_owner || c.opened || (c.announced && c.announced_as));
		ck_assert(!c.not_the_opened);
		if (c.denied || (c.announced && (c.not_announced_uid || c.not_announced_label)))
			ck_assert(c.opened || (c.live && holder && c.same_owner && c.same_process));
		if (c.live) {
			ck_assert(holder);
			ck_assert(!c.possible_differs);
			ck_assert(!c.name_differs);
			ck_assert_int_ne(o, CLAIM_START);
		} else {
			ck_assert_int_eq(o, CLAIM_START);
		}
		ck_assert_int_eq(o == CLAIM_INCOMING, c.live && c.incoming);
		if (o == CLAIM_INCOMING)
			ck_assert(!c.incoming_taken);
		if (!on_record)
			ck_assert(!c.full);
	}
	ck_assert_uint_gt(granted, 0);
}
END_TEST

/* What must be granted, so that refusing everything does not pass. */
START_TEST(what_every_claim_may_do)
{
	for (unsigned n = 0; n < 1u << FACTS; n++) {
		struct claim c = nth(n);
		bool holder = c.token_given && c.token_matches, on_record = c.uuid_known || c.live || c.stopped;

		if (c.name_taken || c.name_is_uuid || c.not_the_opened)
			continue;
		if (!c.opened && (c.denied || (c.announced && (c.not_announced_uid || c.not_announced_label))) &&
		    !(c.live && holder && c.same_owner && c.same_process))
			continue;
		if (!on_record && !c.full)
			ck_assert_int_eq(claim_decide(&c), CLAIM_START);
		if (!c.live && on_record && c.same_owner)
			ck_assert_int_eq(claim_decide(&c), CLAIM_START);
		if (c.live && holder && c.same_owner && !c.name_differs && !c.possible_differs) {
			if (!c.incoming)
				ck_assert_int_eq(claim_decide(&c), CLAIM_RESUME);
			else if (!c.incoming_taken)
				ck_assert_int_eq(claim_decide(&c), CLAIM_INCOMING);
		}
	}
}
END_TEST

static const struct claim running = {
	.uuid_known = true, .live = true, .token_given = true, .token_matches = true, .same_owner = true};

#define CASE(expected, base, ...)                                                                                      \
	do {                                                                                                           \
		struct claim c = base;                                                                                 \
		__VA_ARGS__;                                                                                           \
		ck_assert_int_eq(claim_decide(&c), expected);                                                          \
	} while (0)

START_TEST(refusals_say_why)
{
	const struct claim new = {0};

	CASE(CLAIM_RESUME, running, );
	CASE(CLAIM_REFUSED_NAME_TAKEN, new, c.name_taken = true);
	CASE(CLAIM_REFUSED_NAME_TAKEN, running, c.name_taken = true);
	CASE(CLAIM_REFUSED_NAME_IS_UUID, new, c.name_is_uuid = true);
	CASE(CLAIM_REFUSED_LIVE, running, c.token_given = false);
	CASE(CLAIM_REFUSED_LIVE, running, c.token_matches = false);
	CASE(CLAIM_REFUSED_LIVE, running, c.token_matches = false, c.incoming = true);
	CASE(CLAIM_REFUSED_OWNER, running, c.same_owner = false);
	CASE(CLAIM_REFUSED_POSSIBLE, running, c.possible_differs = true);
	CASE(CLAIM_REFUSED_NAME_DIFFERS, running, c.name_differs = true);
	CASE(CLAIM_REFUSED_INCOMING, running, c.incoming = true, c.incoming_taken = true);
	CASE(CLAIM_REFUSED_FULL, new, c.full = true);
	CASE(CLAIM_REFUSED_RULE, new, c.denied = true);
	CASE(CLAIM_REFUSED_RULE, running, c.denied = true);
	CASE(CLAIM_REFUSED_RULE, running, c.denied = true, c.incoming = true);
	CASE(CLAIM_REFUSED_ANNOUNCED_UID, new, c.announced = c.not_announced_uid = true);
	CASE(CLAIM_REFUSED_ANNOUNCED_UID, running, c.announced = c.not_announced_uid = true);
	CASE(CLAIM_REFUSED_ANNOUNCED_LABEL, new, c.announced = c.not_announced_label = true);
	CASE(CLAIM_REFUSED_OPENED, new, c.opened = c.not_the_opened = true);
	/* An impostor learns by whom a VM is meant to be run, and not whether it runs. */
	CASE(CLAIM_REFUSED_RULE, running, c.denied = true, c.token_given = false);
	/* The very process that runs it comes back, whatever the rules have become. */
	CASE(CLAIM_RESUME, running, c.same_process = c.denied = true);
	CASE(CLAIM_RESUME, running, c.same_process = c.announced = c.not_announced_uid = true);
	CASE(CLAIM_REFUSED_RULE, running, c.same_process = c.denied = true, c.token_matches = false);
	CASE(CLAIM_REFUSED_RULE, running, c.same_process = c.denied = true, c.same_owner = false);
	CASE(CLAIM_REFUSED_RULE, running, c.same_process = c.denied = true, c.live = false, c.stopped = true);
	/* A launcher that was permitted vouches for it, and a provider for the next owner. Neither is a token. */
	CASE(CLAIM_START, new, c.opened = c.denied = c.announced = c.not_announced_uid = true);
	CASE(CLAIM_START, running, c.live = false, c.stopped = true, c.same_owner = false, c.opened = true);
	CASE(CLAIM_START, running, c.live = false, c.stopped = true, c.same_owner = false,
	     c.announced = c.announced_as = true);
	CASE(CLAIM_REFUSED_LIVE, running, c.opened = true, c.token_given = false);
	CASE(CLAIM_REFUSED_LIVE, running, c.announced = c.announced_as = true, c.token_matches = false);
	CASE(CLAIM_REFUSED_OWNER, running, c.live = false, c.stopped = true, c.same_owner = false, c.announced = true);
	/* There is room for whoever has it already. */
	CASE(CLAIM_RESUME, running, c.full = true);
	CASE(CLAIM_START, running, c.full = true, c.live = false, c.stopped = true);
	/* A token of another host's daemon, or of another life. */
	CASE(CLAIM_START, new, c.token_given = true, c.incoming = true);
	CASE(CLAIM_START, running, c.live = false, c.stopped = true, c.token_matches = false);
}
END_TEST

START_TEST(sentences)
{
	for (int o = CLAIM_START; o <= CLAIM_REFUSED_RULE; o++) {
		uint32_t code = 99;
		const char *why = claim_refusal((enum claim_outcome)o, &code);

		if (o == CLAIM_START || o == CLAIM_RESUME || o == CLAIM_INCOMING) {
			ck_assert_ptr_null(why);
			ck_assert_uint_eq(code, 0);
			continue;
		}
		ck_assert_ptr_nonnull(why);
		ck_assert_uint_gt(strlen(why), 10);
		ck_assert_uint_lt(strlen(why), CPUPOLICY_ERROR_SIZE);
		ck_assert_int_eq(why[strlen(why) - 1], '.');
		ck_assert_uint_eq(code, o == CLAIM_REFUSED_FULL       ? CPUPOLICY_ERROR_LIMIT
					: o == CLAIM_REFUSED_INCOMING ? CPUPOLICY_ERROR_BUSY
								      : CPUPOLICY_ERROR_IDENTITY);
		for (int other = CLAIM_START; other < o; other++) {
			uint32_t ignored;
			const char *said = claim_refusal((enum claim_outcome)other, &ignored);

			ck_assert(!said || strcmp(said, why) != 0);
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("claim");
	TCase *t = tcase_create("claim");
	SRunner *r;
	int failed;

	tcase_add_test(t, what_no_claim_may_do);
	tcase_add_test(t, what_every_claim_may_do);
	tcase_add_test(t, refusals_say_why);
	tcase_add_test(t, sentences);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
