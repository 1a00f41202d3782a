/* SPDX-License-Identifier: GPL-2.0-or-later */

/* cpuctl top: what is shown, in what order, and what of it goes over the line. */

#include <check.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/screen.h"
#include "client/terminal.h"
#include "client/top.h"
#include "client/top_view.h"

/* ---- the screen ---- */

static struct screen screen;

static void setup(void)
{
	ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
	ck_assert_int_eq(screen_resize(&screen, 3, 10), 0);
}

static void teardown(void)
{
	screen_free(&screen);
}

/* What is sent. */
static const char *draw(void)
{
	static char *text;
	size_t size;
	FILE *out;

	free(text);
	text = NULL;
	out = open_memstream(&text, &size);
	screen_draw(&screen, out);
	fclose(out);
	return text;
}

START_TEST(nothing_is_sent_where_nothing_differs)
{
	screen_put(&screen, 0, 0, 10, SCREEN_BOLD, "abc");
	ck_assert_str_eq(draw(), "\033[m\033[2J\033[1;1H\033[;1mabc\033[m");
	ck_assert_str_eq(draw(), "");
	screen_clear(&screen);
	screen_put(&screen, 0, 0, 10, SCREEN_BOLD, "abc");
	ck_assert_str_eq(draw(), "");
}
END_TEST

START_TEST(only_what_differs_is_sent)
{
	screen_put(&screen, 1, 0, 10, 0, "0123456789");
	draw();
	screen_put(&screen, 1, 8, 1, 0, "x");
	ck_assert_str_eq(draw(), "\033[2;9Hx");
	/* a short way is written, a long one jumped */
	screen_put(&screen, 1, 0, 10, 0, "A12B4567C9");
	ck_assert_str_eq(draw(), "\033[2;1HA12B4567C");
	screen_put(&screen, 1, 0, 10, 0, "a12B4567c9");
	ck_assert_str_eq(draw(), "\033[2;1Ha\033[2;9Hc");
	/* another attribute is a difference */
	screen_put(&screen, 1, 0, 1, SCREEN_RED, "a");
	ck_assert_str_eq(draw(), "\033[2;1H\033[;31ma\033[m");
}
END_TEST

START_TEST(the_rest_of_a_row_is_erased_at_once)
{
	screen_put(&screen, 0, 0, 10, 0, "0123456789");
	draw();
	screen_clear(&screen);
	screen_put(&screen, 0, 0, 10, 0, "01");
	ck_assert_str_eq(draw(), "\033[1;3H\033[K");
	screen_clear(&screen);
	ck_assert_str_eq(draw(), "\033[1;1H\033[K");
}
END_TEST

START_TEST(all_is_sent_when_the_terminal_is_unknown)
{
	screen_put(&screen, 2, 9, 1, 0, "x");
	draw();
	screen_forget(&screen);
	ck_assert_str_eq(draw(), "\033[m\033[2J\033[3;10Hx");
}
END_TEST

START_TEST(characters_are_cut_whole)
{
	ck_assert_uint_eq(screen_put(&screen, 0, 0, 3, 0, "\xe4\xb8\xad\xe4\xb8\xad"), 2);
	ck_assert_uint_eq(screen_put(&screen, 1, 8, 10, 0, "abc"), 2);
	ck_assert_uint_eq(screen_put(&screen, 3, 0, 10, 0, "abc"), 0);
	ck_assert_uint_eq(screen_put(&screen, 0, 10, 10, 0, "abc"), 0);
	ck_assert_str_eq(draw(), "\033[m\033[2J\033[1;1H\xe4\xb8\xad\033[2;9Hab");
}
END_TEST

/* What a name can hold must not reach the terminal as a command. */
START_TEST(control_characters_are_not_sent)
{
	screen_put(&screen, 0, 0, 10, 0, "a\033[2J\n\xff\xc3");
	ck_assert_str_eq(draw(), "\033[m\033[2J\033[1;1Ha?[2J???");
}
END_TEST

START_TEST(texts_at_the_right)
{
	screen_put_right(&screen, 0, 2, 4, 0, "12");
	screen_put_right(&screen, 1, 2, 4, 0, "123456");
	ck_assert_str_eq(draw(), "\033[m\033[2J\033[1;5H12\033[2;3H1234");
}
END_TEST

/* ---- which VMs ---- */

static struct top top;

static struct vm_info vm_info(const char *name)
{
	struct vm_info info;
	char path[64];

	snprintf(path, sizeof(path), "/vm/%s", name);
	ck_assert_int_eq(vm_info_init(&info, path), 0);
	free(info.name);
	info.name = strdup(name);
	free(info.target_reason);
	info.target_reason = strdup("none");
	free(info.credit_state);
	info.credit_state = strdup("unmetered");
	free(info.state);
	info.state = strdup("running");
	info.desired = info.target = info.enabled = 2;
	return info;
}

static struct top_vm *put(const char *name)
{
	struct vm_info info = vm_info(name);
	char path[64];

	ck_assert_int_eq(top_put(&top, &info, 0), 0);
	snprintf(path, sizeof(path), "/vm/%s", name);
	return top_find(&top, path);
}

static void setup_top(void)
{
	setup();
	top = (struct top){.there = true};
	put("c");
	put("a");
	put("b");
}

static void teardown_top(void)
{
	top_clear(&top);
	teardown();
}

/* Their names, one after the other. */
static const char *order(void)
{
	static char text[64];

	top_arrange(&top, 0, 10);
	*text = '\0';
	for (size_t i = 0; i < top.n_order; i++)
		strcat(text, top.order[i]->info.name);
	return text;
}

static void keys(const char *text)
{
	for (; *text; text++)
		ck_assert(top_key(&top, (unsigned char)*text, 10));
}

static void meter(struct vm_info *info)
{
	free(info->credit_state);
	info->credit_state = strdup("available");
	info->credit_cap = 100;
}

START_TEST(vms_are_sorted)
{
	ck_assert_str_eq(order(), "abc");
	keys("r");
	ck_assert_str_eq(order(), "cba");
	keys("r");
	put("b")->info.enabled = 4;
	put("c")->info.enabled = 3;
	keys("e");
	ck_assert_str_eq(order(), "bca");
	put("a")->info.credit = 5;
	put("b")->info.credit = 7;
	put("c")->info.credit = -7;
	for (size_t i = 0; i < top.n; i++)
		meter(&top.vms[i]->info);
	keys("x");
	ck_assert_str_eq(order(), "cab");
	put("0"); /* without credit, and without need of it */
	ck_assert_str_eq(order(), "cab0");
	keys("n");
	ck_assert_str_eq(order(), "0abc");
}
END_TEST

START_TEST(keys_go_round_the_columns)
{
	ck_assert_int_eq(top.sort, TOP_NAME);
	ck_assert(top_key(&top, TERMINAL_LEFT, 10));
	ck_assert_int_eq(top.sort, TOP_COLUMNS - 1);
	ck_assert(top_key(&top, TERMINAL_RIGHT, 10));
	ck_assert_int_eq(top.sort, TOP_NAME);
	for (unsigned i = 0; i < TOP_COLUMNS; i++)
		ck_assert(top_key(&top, TERMINAL_RIGHT, 10));
	ck_assert_int_eq(top.sort, TOP_NAME);
	ck_assert(!top_key(&top, 'q', 10));
}
END_TEST

START_TEST(vms_are_filtered)
{
	put("web1");
	put("web2");
	keys("/weqb");
	ck_assert_str_eq(order(), "");
	for (int i = 0; i < 2; i++)
		ck_assert(top_key(&top, TERMINAL_BACKSPACE, 10));
	ck_assert_str_eq(order(), "web1web2");
	keys("b2");
	ck_assert_str_eq(order(), "web2");
	ck_assert(top_key(&top, TERMINAL_ENTER, 10));
	ck_assert(!top.typing);
	ck_assert_str_eq(order(), "web2");
	ck_assert(top_key(&top, TERMINAL_ESCAPE, 10));
	ck_assert_uint_eq(strlen(order()), 3 + 8);
}
END_TEST

START_TEST(a_filter_is_taken_back_by_characters)
{
	keys("/a\xc3\xa9\xe4\xb8\xad");
	ck_assert(top_key(&top, TERMINAL_BACKSPACE, 10));
	ck_assert_str_eq(top.filter, "a\xc3\xa9");
	ck_assert(top_key(&top, TERMINAL_BACKSPACE, 10));
	ck_assert_str_eq(top.filter, "a");
	ck_assert(top_key(&top, TERMINAL_BACKSPACE, 10));
	ck_assert(top_key(&top, TERMINAL_BACKSPACE, 10));
	ck_assert_str_eq(top.filter, "");
	for (int i = 0; i < 1000; i++)
		keys("x");
	ck_assert_uint_eq(strlen(top.filter), TOP_FILTER_SIZE - 1);
}
END_TEST

START_TEST(those_that_lack_or_owe)
{
	put("a")->info.overdue = 1;
	put("b");
	free(put("c")->info.target_reason);
	put("d")->info.enabled = 1;
	top_find(&top, "/vm/c")->info.target_reason = strdup("host-capacity");
	keys("l");
	ck_assert_str_eq(order(), "acd");
}
END_TEST

START_TEST(pages_end_with_the_last_vm)
{
	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "vm%02d", i);
		put(name);
	}
	top_arrange(&top, 0, 10);
	ck_assert(top_key(&top, TERMINAL_UP, 10));
	ck_assert_uint_eq(top.first, 0);
	ck_assert(top_key(&top, TERMINAL_PAGE_DOWN, 10));
	ck_assert_uint_eq(top.first, 10);
	ck_assert(top_key(&top, TERMINAL_PAGE_DOWN, 10));
	ck_assert_uint_eq(top.first, 13);
	ck_assert(top_key(&top, TERMINAL_DOWN, 10));
	ck_assert_uint_eq(top.first, 13);
	for (int i = 0; i < 15; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/vm/vm%02d", i);
		top_remove(&top, path);
	}
	top_arrange(&top, 0, 10);
	ck_assert_uint_eq(top.first, 0);
	ck_assert_uint_eq(top.n_order, 8);
}
END_TEST

START_TEST(vms_that_are_gone_go)
{
	struct vm_info list[] = {vm_info("b"), vm_info("d")};

	ck_assert_int_eq(top_replace(&top, list, 2, 0), 0);
	ck_assert_str_eq(order(), "bd");
}
END_TEST

START_TEST(credit_goes_on)
{
	struct top_vm *vm = put("a");

	vm->info.credit = 10000000000;
	vm->info.credit_cap = 12000000000;
	vm->info.credit_rate = -4;
	vm->credit_at = 1000000;
	ck_assert_int_eq(top_credit(vm, 1000000), 10000000000);
	ck_assert_int_eq(top_credit(vm, 4500000), -4000000000);
	vm->info.credit_rate = 1;
	ck_assert_int_eq(top_credit(vm, 2000000), 11000000000);
	ck_assert_int_eq(top_credit(vm, 9000000), 12000000000);
}
END_TEST

START_TEST(denials_by_the_second)
{
	struct top_vm *vm = put("a");

	vm->info.denied = 30;
	top_count_denied(vm, 2000000);
	ck_assert_double_eq(vm->denied_rate, 15);
	top_count_denied(vm, 3000000);
	ck_assert_double_eq(vm->denied_rate, 0);
	/* a daemon that began anew counts from nothing */
	put("a");
	vm->info.denied = 5;
	top_count_denied(vm, 4000000);
	ck_assert_double_eq(vm->denied_rate, 5);
}
END_TEST

/* ---- how it looks ---- */

/* Row `row` without the blanks at its end. */
static const char *row(unsigned n)
{
	static char text[256];
	size_t at = 0;

	for (unsigned i = 0; i < screen.columns; i++)
		text[at++] = (char)screen.want[n * screen.columns + i].c;
	while (at > 0 && text[at - 1] == ' ')
		at--;
	text[at] = '\0';
	return text;
}

static void view(unsigned rows, unsigned columns)
{
	ck_assert_int_eq(screen_resize(&screen, rows, columns), 0);
	top_arrange(&top, 0, top_view_lines(rows));
	top_view(&top, &screen, true, 0);
}

START_TEST(eighty_columns_show_everything)
{
	struct top_vm *vm = put("a");

	free(vm->info.class);
	vm->info.class = strdup("platinum");
	free(vm->info.target_reason);
	vm->info.target_reason = strdup("not-notifiable");
	free(vm->info.credit_state);
	vm->info.credit_state = strdup("owed");
	vm->info.credit = -INT64_C(99999000000000);
	vm->info.desired = 512;
	vm->denied_rate = 12345.6;
	vm->info.online = 1;
	view(24, 80);
	ck_assert_str_eq(row(3), "NAME             CLASS    STATE    DES TGT ENA ONL  CREDIT DENY/S WHY");
	ck_assert_str_eq(row(4), "a                platinum running  512   2   2   1 -99999s  12346 not-notifiable");
	ck_assert_str_eq(row(5), "b                         running    2   2   2   0       -      -");
}
END_TEST

START_TEST(narrow_screens_show_less)
{
	view(24, 40);
	ck_assert_str_eq(row(3), "NAME             DES TGT ENA ONL  CREDIT");
	for (unsigned columns = 1; columns < 200; columns++)
		for (unsigned rows = 1; rows < 30; rows += 7)
			view(rows, columns);
}
END_TEST

START_TEST(the_bar_is_the_capacity)
{
	top.host.capacity = 20;
	top.host.sums = (struct host_sums){.guaranteed = 8, .allowed = 12, .occupied = 14, .overdue = 2, .held = 14};
	view(24, 80);
	ck_assert_str_eq(row(1), "[###########+++++!!!........] 20 vCPUs: 8 guaranteed, 4 burst, 2 overdue, 6 free");
	top.host.capacity = HOST_INFO_UNLIMITED;
	view(24, 80);
	ck_assert_str_eq(row(1), "[####################++++++++++!!!!!] no limit: 8 guaranteed, 4 burst, 2 overdue");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("top");
	TCase *t = tcase_create("screen");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nothing_is_sent_where_nothing_differs);
	tcase_add_test(t, only_what_differs_is_sent);
	tcase_add_test(t, the_rest_of_a_row_is_erased_at_once);
	tcase_add_test(t, all_is_sent_when_the_terminal_is_unknown);
	tcase_add_test(t, characters_are_cut_whole);
	tcase_add_test(t, control_characters_are_not_sent);
	tcase_add_test(t, texts_at_the_right);
	suite_add_tcase(s, t);
	t = tcase_create("top");
	tcase_add_checked_fixture(t, setup_top, teardown_top);
	tcase_add_test(t, vms_are_sorted);
	tcase_add_test(t, keys_go_round_the_columns);
	tcase_add_test(t, vms_are_filtered);
	tcase_add_test(t, a_filter_is_taken_back_by_characters);
	tcase_add_test(t, those_that_lack_or_owe);
	tcase_add_test(t, pages_end_with_the_last_vm);
	tcase_add_test(t, vms_that_are_gone_go);
	tcase_add_test(t, credit_goes_on);
	tcase_add_test(t, denials_by_the_second);
	tcase_add_test(t, eighty_columns_show_everything);
	tcase_add_test(t, narrow_screens_show_less);
	tcase_add_test(t, the_bar_is_the_capacity);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
