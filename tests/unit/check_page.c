/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The policy page: its golden bytes, the words' fields, and what readers see while a writer writes. */

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/page.h"
#include "vector.h"

#define VCPUS       16u
#define GENERATIONS 200000u

static const struct cpupolicy_page_word golden_words[] = {
	{.enabled = true, .wanted = true, .verdict = CPUPOLICY_VERDICT_ALLOW, .grant = 1},
	{.enabled = true, .verdict = CPUPOLICY_VERDICT_ALLOW, .serial = 0xab, .grant = 0xdeadbeef},
	{.enabled = true,
	 .wanted = true,
	 .verdict = CPUPOLICY_VERDICT_ASK,
	 .timeout_allow = true,
	 .serial = 1,
	 .grant = 2},
	{.verdict = CPUPOLICY_VERDICT_DENY, .observe = true, .serial = 2},
};

static struct cpupolicy_page *new_page(uint32_t vcpus)
{
	struct cpupolicy_page *page = calloc(1, cpupolicy_page_bytes(vcpus));

	ck_assert_ptr_nonnull(page);
	cpupolicy_page_init(page, vcpus, 250);
	return page;
}

static void assert_word(uint64_t word, const struct cpupolicy_page_word *want)
{
	struct cpupolicy_page_word got = cpupolicy_page_parse_word(word);

	ck_assert_int_eq(got.enabled, want->enabled);
	ck_assert_int_eq(got.wanted, want->wanted);
	ck_assert_int_eq(got.verdict, want->verdict);
	ck_assert_int_eq(got.timeout_allow, want->timeout_allow);
	ck_assert_int_eq(got.observe, want->observe);
	ck_assert_uint_eq(got.serial, want->serial);
	ck_assert_uint_eq(got.grant, want->grant);
}

START_TEST(page_is_its_vector)
{
	uint8_t golden[VECTOR_MAX];
	size_t n = vector_load("page", golden);
	struct cpupolicy_page *page = new_page(4);

	ck_assert_uint_eq(n, cpupolicy_page_bytes(4));
	for (uint32_t i = 0; i < 4; i++)
		cpupolicy_page_store_word(page, i, cpupolicy_page_make_word(&golden_words[i]));
	cpupolicy_page_store_head(page, cpupolicy_page_make_head(7, 42));
	ck_assert_mem_eq(page, golden, n);

	memcpy(page, golden, n);
	ck_assert_int_eq(cpupolicy_page_check(page, n, 4), 0);
	ck_assert_uint_eq(cpupolicy_page_epoch(cpupolicy_page_load_head(page)), 7);
	ck_assert_uint_eq(cpupolicy_page_generation(cpupolicy_page_load_head(page)), 42);
	ck_assert_uint_eq(cpupolicy_page_ask_timeout_ms(page), 250);
	for (uint32_t i = 0; i < 4; i++)
		assert_word(cpupolicy_page_load_word(page, i), &golden_words[i]);
	free(page);
}
END_TEST

START_TEST(words_keep_their_fields)
{
	for (uint32_t bits = 0; bits < 16; bits++) {
		for (uint32_t verdict = CPUPOLICY_VERDICT_DENY; verdict <= CPUPOLICY_VERDICT_ASK; verdict++) {
			for (uint32_t n = 0; n < 256; n++) {
				struct cpupolicy_page_word w = {
					.enabled = bits & 1,
					.wanted = bits & 2,
					.timeout_allow = bits & 4,
					.observe = bits & 8,
					.serial = (uint8_t)n,
					.grant = n * 0x01010101u,
					.verdict = (enum cpupolicy_page_verdict)verdict,
				};

				assert_word(cpupolicy_page_make_word(&w), &w);
			}
		}
	}
}
END_TEST

START_TEST(unknown_bits_are_ignored_and_unknown_verdicts_deny)
{
	struct cpupolicy_page_word deny = {.verdict = CPUPOLICY_VERDICT_DENY};

	assert_word(UINT64_C(3) << CPUPOLICY_WORD_VERDICT_SHIFT, &deny);
	assert_word(UINT64_C(0xffff00c0), &deny);
}
END_TEST

START_TEST(pages_are_checked)
{
	struct cpupolicy_page *page = new_page(4);
	size_t size = cpupolicy_page_bytes(4);

	ck_assert_uint_eq(size, 64 + 4 * 8);
	ck_assert_int_eq(cpupolicy_page_check(page, size, 4), 0);
	ck_assert_int_eq(cpupolicy_page_check(page, size + 4096, 4), 0);
	ck_assert_int_eq(cpupolicy_page_check(page, size - 1, 4), -EPROTO);
	ck_assert_int_eq(cpupolicy_page_check(page, size, 3), -EPROTO);
	ck_assert_int_eq(cpupolicy_page_check(page, size + 8, 5), -EPROTO);
	page->version++;
	ck_assert_int_eq(cpupolicy_page_check(page, size, 4), -EPROTO);
	page->version--;
	page->magic ^= 1;
	ck_assert_int_eq(cpupolicy_page_check(page, size, 4), -EPROTO);
	free(page);
}
END_TEST

static void *write_generations(void *arg)
{
	struct cpupolicy_page *page = arg;

	for (uint32_t g = 1; g <= GENERATIONS; g++) {
		struct cpupolicy_page_word w = {
			.enabled = g & 1,
			.wanted = g & 1,
			.serial = (uint8_t)g,
			.grant = g,
			.verdict = (enum cpupolicy_page_verdict)(g % 3),
		};

		for (uint32_t i = 0; i < VCPUS; i++)
			cpupolicy_page_store_word(page, i, cpupolicy_page_make_word(&w));
		cpupolicy_page_store_head(page, cpupolicy_page_make_head(1, g));
	}
	return NULL;
}

/* Returns what was broken, NULL: nothing. */
static void *read_generations(void *arg)
{
	const struct cpupolicy_page *page = arg;
	uint32_t last = 0;

	while (last < GENERATIONS) {
		uint64_t head = cpupolicy_page_load_head(page);
		uint32_t generation = cpupolicy_page_generation(head);

		if (generation < last)
			return (void *)"the generation went back";
		for (uint32_t i = VCPUS; i-- > 0;) {
			struct cpupolicy_page_word w = cpupolicy_page_parse_word(cpupolicy_page_load_word(page, i));

			if (w.grant < generation)
				return (void *)"a word is older than the generation seen before it";
			if (w.serial != (uint8_t)w.grant || w.enabled != (w.grant & 1) || w.enabled != w.wanted ||
			    w.verdict != w.grant % 3)
				return (void *)"a word is torn";
		}
		last = generation;
	}
	return NULL;
}

START_TEST(readers_see_no_word_older_than_its_generation)
{
	struct cpupolicy_page *page = new_page(VCPUS);
	pthread_t writer, readers[2];

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&readers[i], NULL, read_generations, page), 0);
	ck_assert_int_eq(pthread_create(&writer, NULL, write_generations, page), 0);
	for (int i = 0; i < 2; i++) {
		void *broken;

		ck_assert_int_eq(pthread_join(readers[i], &broken), 0);
		ck_assert_msg(broken == NULL, "%s", (const char *)broken);
	}
	ck_assert_int_eq(pthread_join(writer, NULL), 0);
	free(page);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("page");
	TCase *tcase = tcase_create("page");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, page_is_its_vector);
	tcase_add_test(tcase, words_keep_their_fields);
	tcase_add_test(tcase, unknown_bits_are_ignored_and_unknown_verdicts_deny);
	tcase_add_test(tcase, pages_are_checked);
	tcase_add_test(tcase, readers_see_no_word_older_than_its_generation);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
