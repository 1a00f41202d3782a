/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The parts of cpuctl that need no bus: tables, the command line, times and sums, what an exit status says. */

#include <check.h>
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/bill.h"
#include "client/money.h"
#include "client/options.h"
#include "client/outcome.h"
#include "client/table.h"
#include "client/vm_info.h"
#include "client/when.h"
#include "daemon/core/job.h"

/* ---- tables ---- */

static char *print(const char *align, const char *const *cells)
{
	struct table *table;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	ck_assert_int_eq(table_new(&table, align), 0);
	for (; *cells; cells++)
		ck_assert_int_eq(table_add(table, *cells), 0);
	table_print(table, out);
	table_free(table);
	fclose(out);
	return text;
}

START_TEST(columns_are_as_wide_as_needed)
{
	char *text =
		print("lrl", (const char *const[]){"NAME", "N", "STATE", "a", "1", "on", "longer", "1000", "", NULL});

	ck_assert_str_eq(text, "NAME       N  STATE\n"
			       "a          1  on\n"
			       "longer  1000\n");
	free(text);
}
END_TEST

START_TEST(no_trailing_blanks)
{
	char *text = print("ll", (const char *const[]){"", "", "x", "", "", "y", NULL});

	ck_assert_str_eq(text, "\nx\n   y\n");
	free(text);
}
END_TEST

START_TEST(a_row_that_is_not_full_is_not_printed)
{
	char *text = print("ll", (const char *const[]){"a", "b", "c", NULL});

	ck_assert_str_eq(text, "a  b\n");
	free(text);
}
END_TEST

START_TEST(width_is_columns_not_bytes)
{
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		ck_abort_msg("there is no locale C.UTF-8");
	ck_assert_uint_eq(table_text_width("web1"), 4);
	ck_assert_uint_eq(table_text_width("caf\xc3\xa9"), 4);
	ck_assert_uint_eq(table_text_width("\xe4\xb8\xad"), 2);
	/* not UTF-8: something, and no endless loop */
	ck_assert_uint_eq(table_text_width("a\xff"
					   "b\xc3"),
			  4);
}
END_TEST

/* ---- the command line ---- */

START_TEST(counts)
{
	uint32_t n = 7;

	ck_assert_int_eq(options_parse_count("0", &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(options_parse_count("4294967295", &n), 0);
	ck_assert_uint_eq(n, UINT32_MAX);
	ck_assert_int_eq(options_parse_count("4294967296", &n), -ERANGE);
	ck_assert_int_eq(options_parse_count("99999999999999999999", &n), -ERANGE);
	ck_assert_int_eq(options_parse_count("", &n), -EINVAL);
	ck_assert_int_eq(options_parse_count("-1", &n), -EINVAL);
	ck_assert_int_eq(options_parse_count("+1", &n), -EINVAL);
	ck_assert_int_eq(options_parse_count(" 1", &n), -EINVAL);
	ck_assert_int_eq(options_parse_count("5x", &n), -EINVAL);
	ck_assert_uint_eq(n, UINT32_MAX);
}
END_TEST

START_TEST(cpus)
{
	static const char *const wrong[] = {"",     "1",    "1.",   ".5",   "1.2345", "-1.5",
					    "1.5x", "1..5", "1.-5", " 1.5", "x.5"};
	uint32_t millis = 7;

	ck_assert_int_eq(options_parse_cpus("1.5", &millis), 0);
	ck_assert_uint_eq(millis, 1500);
	ck_assert_int_eq(options_parse_cpus("0.001", &millis), 0);
	ck_assert_uint_eq(millis, 1);
	ck_assert_int_eq(options_parse_cpus("999999.999", &millis), 0);
	ck_assert_uint_eq(millis, 999999999);
	ck_assert_int_eq(options_parse_cpus("1000000.0", &millis), -ERANGE);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(options_parse_cpus(wrong[i], &millis) == -EINVAL, "%s", wrong[i]);
	ck_assert_uint_eq(millis, 999999999);
}
END_TEST

START_TEST(quotas_in_words)
{
	char provider[] = "libvirt", held[] = "held", asked[] = "asked", unavailable[] = "unavailable", none[] = "none";
	struct vm_info info = {.provider = provider, .quota = 1500, .quota_state = held};
	char text[VM_INFO_QUOTA_SIZE], number[VM_INFO_CPUS_SIZE];

	ck_assert_str_eq(vm_info_quota(&info, text), "1.5 CPUs, held by libvirt");
	info.quota_state = asked;
	ck_assert_str_eq(vm_info_quota(&info, text), "1.5 CPUs, asked of libvirt");
	info.quota_state = unavailable;
	ck_assert_str_eq(vm_info_quota(&info, text), "1.5 CPUs, and no provider that can hold it is here");
	info.quota = VM_INFO_NO_QUOTA;
	info.quota_state = none;
	ck_assert_str_eq(vm_info_quota(&info, text), "no quota");
	ck_assert_str_eq(vm_info_cpus(2000, number), "2");
	ck_assert_str_eq(vm_info_cpus(20, number), "0.02");
	ck_assert_str_eq(vm_info_cpus(4294967294, number), "4294967.294");
}
END_TEST

START_TEST(seconds)
{
	uint64_t usec = 7;

	ck_assert_int_eq(options_parse_seconds("0", &usec), 0);
	ck_assert_uint_eq(usec, 0);
	ck_assert_int_eq(options_parse_seconds("1.5", &usec), 0);
	ck_assert_uint_eq(usec, 1500000);
	ck_assert_int_eq(options_parse_seconds("0.0000019", &usec), 0);
	ck_assert_uint_eq(usec, 1);
	ck_assert_int_eq(options_parse_seconds("3155760000", &usec), 0);
	ck_assert_int_eq(options_parse_seconds("3155760001", &usec), -ERANGE);
	ck_assert_int_eq(options_parse_seconds("99999999999999999999999999", &usec), -ERANGE);
	ck_assert_int_eq(options_parse_seconds("", &usec), -EINVAL);
	ck_assert_int_eq(options_parse_seconds(".5", &usec), -EINVAL);
	ck_assert_int_eq(options_parse_seconds("1.", &usec), -EINVAL);
	ck_assert_int_eq(options_parse_seconds("1.2.3", &usec), -EINVAL);
	ck_assert_int_eq(options_parse_seconds("-1", &usec), -EINVAL);
	ck_assert_int_eq(options_parse_seconds("1s", &usec), -EINVAL);
	ck_assert_uint_eq(usec, UINT64_C(3155760000) * 1000000);
}
END_TEST

static const struct command commands[] = {
	{.name = "two",
	 .usage = "A N",
	 .help = "",
	 .args = {ARGUMENT_VM, ARGUMENT_COUNT},
	 .min_args = 2,
	 .options = OPTION_ONLINE | OPTION_NO_WAIT | OPTION_TIMEOUT},
	{.name = "any", .usage = "", .help = "", .args = {ARGUMENT_VM}, .options = OPTION_JSON},
	{.name = "text", .usage = "", .help = "", .args = {ARGUMENT_VM, ARGUMENT_TEXT}, .options = OPTION_TENANT},
	{.name = "sum",
	 .usage = "",
	 .help = "",
	 .options = OPTION_SINCE | OPTION_UNTIL | OPTION_CSV | OPTION_JSON | OPTION_INTERVAL},
	{0},
};

/* Arguments in one string; whether they are to be run, else *ret_outcome. */
static bool parse(const char *line, struct options *ret, int *ret_outcome)
{
	static char copy[256];
	char *argv[16] = {(char[]){"cpuctl"}}, *at = copy;
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	while ((argv[argc] = strsep(&at, " ")))
		argc++;
	optind = 0; /* getopt starts afresh */
	return options_parse(ret, commands, argc, argv, ret_outcome);
}

START_TEST(lines_that_are_right)
{
	struct options o;
	int outcome;

	unsetenv("CPUPOLICY_BUS");
	ck_assert(parse("two web1 5", &o, &outcome));
	ck_assert_ptr_eq(o.command, &commands[0]);
	ck_assert_str_eq(o.vm, "web1");
	ck_assert_uint_eq(o.count, 5);
	ck_assert_str_eq(o.bus, "system");
	ck_assert_uint_eq(o.given, 0);
	ck_assert_uint_eq(o.timeout, UINT64_MAX);
	ck_assert(parse("--session two --online web1 --timeout 2 5", &o, &outcome));
	ck_assert_str_eq(o.bus, "session");
	ck_assert_uint_eq(o.given, OPTION_ONLINE | OPTION_TIMEOUT);
	ck_assert_uint_eq(o.timeout, 2000000);
	ck_assert(parse("any --json --address unix:path=/x", &o, &outcome));
	ck_assert_ptr_null(o.vm);
	ck_assert_str_eq(o.bus, "unix:path=/x");
	ck_assert(parse("text web1 5x --tenant acme", &o, &outcome));
	ck_assert_str_eq(o.text, "5x");
	ck_assert_str_eq(o.tenant, "acme");
	ck_assert(parse("text web1", &o, &outcome));
	ck_assert_ptr_null(o.text);
	ck_assert_ptr_null(o.tenant);
	ck_assert(parse("sum --since @5 --until 2026-11Z --csv --interval 0.5", &o, &outcome));
	ck_assert_uint_eq(o.since, 5000000);
	ck_assert_uint_eq(o.until, UINT64_C(1793491200) * 1000000);
	ck_assert_uint_eq(o.interval, 500000);
	ck_assert(parse("any -- --name", &o, &outcome));
	ck_assert_str_eq(o.vm, "--name");
	setenv("CPUPOLICY_BUS", "session", 1);
	ck_assert(parse("any", &o, &outcome));
	ck_assert_str_eq(o.bus, "session");
	ck_assert(parse("--system any", &o, &outcome));
	ck_assert_str_eq(o.bus, "system");
	unsetenv("CPUPOLICY_BUS");
}
END_TEST

static const char *const wrong_lines[] = {
	"nix",
	"two",
	"two web1",
	"two web1 x",
	"two web1 5 6",
	"two web1 -5",
	"any a b",
	"two web1 5 --json",
	"any --online",
	"any --unknown",
	"two a 1 --timeout",
	"two a 1 --timeout x",
	"two a 1 --no-wait --online",
	"two a 1 --no-wait --timeout 1",
	"sum x",
	"sum --csv --json",
	"sum --since soon",
	"sum --interval x",
	"text a b c",
	"any --tenant acme",
	"--json",
};

START_TEST(lines_that_are_wrong)
{
	struct options o;
	int outcome = -1;

	ck_assert(!parse(wrong_lines[_i], &o, &outcome));
	ck_assert_int_eq(outcome, OUTCOME_FAILED);
}
END_TEST

START_TEST(help_is_no_error)
{
	struct options o;
	int outcome = -1;

	ck_assert(!parse("two --help", &o, &outcome));
	ck_assert_int_eq(outcome, OUTCOME_DONE);
	ck_assert(!parse("--version", &o, &outcome));
	ck_assert_int_eq(outcome, OUTCOME_DONE);
}
END_TEST

/* ---- times ---- */

static const struct {
	const char *text;
	uint64_t seconds;
} times[] = {
	{"@0", 0},
	{"@1700000000", 1700000000},
	{"1970-01-01Z", 0},
	{"2026-11-20 18:00Z", 1795197600},
	{"2026-11-20T18:00:30Z", 1795197630},
	{"2026-11-20", 1795132800 - 3600},
	{"2026-11-20 18:00", 1795197600 - 3600},
	{"2026-11", 1793491200 - 3600},
	{"2024-02-29Z", 1709164800},
};

START_TEST(times_that_are_right)
{
	uint64_t usec = 7;

	setenv("TZ", "XXX-1", 1); /* an hour east of UTC, all year */
	tzset();
	ck_assert_int_eq(when_parse(times[_i].text, &usec), 0);
	ck_assert_uint_eq(usec, times[_i].seconds * 1000000);
}
END_TEST

static const char *const wrong_times[] = {
	"",
	"tomorrow",
	"2026",
	"2026-13",
	"2026-02-29",
	"2026-11-31",
	"2026-11-20 24",
	"2026-11-20 24:00",
	"2026-11-20 18:60",
	"2026-11-20x",
	"1-1-1",
	"@",
	"@-1",
	"@1x",
	"@99999999999999999999",
	"-",
	"-5",
	"-5w",
	"-5dd",
	"--5d",
	"1969-12-31Z",
};

START_TEST(times_that_are_wrong)
{
	uint64_t usec = 7;

	ck_assert_int_eq(when_parse(wrong_times[_i], &usec), -EINVAL);
	ck_assert_uint_eq(usec, 7);
}
END_TEST

START_TEST(times_ago)
{
	uint64_t now, before, today, yesterday;

	ck_assert_int_eq(when_parse("now", &now), 0);
	ck_assert_int_eq(when_parse("-90m", &before), 0);
	ck_assert_uint_ge(before + UINT64_C(5400) * 1000000, now);
	ck_assert_uint_le(before + UINT64_C(5400) * 1000000, now + 60000000);
	ck_assert_int_eq(when_parse("today", &today), 0);
	ck_assert_int_eq(when_parse("yesterday", &yesterday), 0);
	ck_assert_uint_lt(yesterday, today);
	ck_assert_uint_le(today, now + 60000000);
}
END_TEST

START_TEST(times_are_written_as_they_are_read)
{
	char text[WHEN_TEXT_SIZE];
	uint64_t usec;

	ck_assert_str_eq(when_format_utc(UINT64_C(1795197630) * 1000000, text), "2026-11-20T18:00:30Z");
	ck_assert_int_eq(when_parse(text, &usec), 0);
	ck_assert_uint_eq(usec, UINT64_C(1795197630) * 1000000);
	ck_assert_str_eq(when_format_utc(UINT64_C(1795197630) * 1000000 + 42, text), "2026-11-20T18:00:30.000042Z");
	ck_assert_str_eq(when_format_utc(0, text), "1970-01-01T00:00:00Z");
}
END_TEST

/* ---- sums ---- */

START_TEST(sums_are_exact)
{
	char text[MONEY_TEXT_SIZE];

	ck_assert_str_eq(money_format(0, text), "0.00");
	ck_assert_str_eq(money_format(1, text), "0.000001");
	ck_assert_str_eq(money_format(21000, text), "0.021");
	ck_assert_str_eq(money_format(3000000, text), "3.00");
	ck_assert_str_eq(money_format(3100000, text), "3.10");
	ck_assert_str_eq(money_format(UINT64_MAX, text), "18446744073709.551615");
	ck_assert_str_eq(money_format_full(21000, text), "0.021000");
	ck_assert_str_eq(money_format_seconds(1999999999, 3, text), "1.999");
	ck_assert_str_eq(money_format_seconds(1999999999, 0, text), "1");
	ck_assert_str_eq(money_format_seconds(1, 9, text), "0.000000001");
	ck_assert_str_eq(money_format_seconds(-1500000000, 1, text), "-1.5");
	ck_assert_str_eq(money_format_seconds(INT64_MIN, 9, text), "-9223372036.854775808");
}
END_TEST

#define HOUR UINT64_C(3600000000000)

static struct bill_row bill_row(const char *class, uint64_t guaranteed_ns, uint64_t burst_ns)
{
	return (struct bill_row){
		.class = (char *)(uintptr_t) class, .guaranteed_ns = guaranteed_ns, .burst_ns = burst_ns};
}

START_TEST(bills_apply_the_price_of_the_class)
{
	struct host_class classes[] = {
		{.name = (char[]){"gold"}, .priced = true, .price_guaranteed = 21000, .price_burst = 34000},
		{.name = (char[]){"free"}, .price_guaranteed = 5, .price_burst = 5},
	};
	struct bill_row rows[] = {bill_row("gold", 2 * HOUR, HOUR / 2), bill_row("free", HOUR, 0),
				  bill_row("gone", HOUR, HOUR)};
	const struct host_info host = {.classes = classes, .n_classes = 2};
	struct bill bill = {.rows = rows, .n = 3};

	bill_apply(&bill, &host);
	ck_assert(rows[0].priced && !rows[1].priced && !rows[2].priced);
	ck_assert_uint_eq(rows[0].cost, 42000 + 17000);
	ck_assert(bill.priced);
	ck_assert_uint_eq(bill.cost, 42000 + 17000);
	ck_assert_uint_eq(bill.guaranteed_ns, 4 * HOUR);
	ck_assert_uint_eq(bill.burst_ns, HOUR + HOUR / 2);
}
END_TEST

/* However a class's usage is parted into rows, it costs the same. */
START_TEST(totals_are_rounded_once)
{
	struct host_class class = {.name = (char[]){"gold"}, .priced = true, .price_guaranteed = 1};
	const struct host_info host = {.classes = &class, .n_classes = 1};
	struct bill_row parts[] = {bill_row("gold", HOUR / 3, 0), bill_row("gold", HOUR / 3, 0),
				   bill_row("gold", HOUR / 3, 0)};
	struct bill bill = {.rows = parts, .n = 3};

	bill_apply(&bill, &host);
	ck_assert_uint_eq(parts[0].cost, 0);
	ck_assert_uint_eq(bill.cost, 1);
}
END_TEST

/* ---- outcomes ---- */

/* Every way in which a job of the daemon's can end has a number of its own. */
START_TEST(every_result_has_its_number)
{
	for (int a = JOB_DONE; a <= JOB_RESULT_MAX; a++) {
		enum outcome outcome = outcome_of_result(job_result_name((enum job_result)a));

		ck_assert_int_ne(outcome, OUTCOME_FAILED);
		ck_assert_int_eq(outcome == OUTCOME_DONE, a == JOB_DONE);
		for (int b = JOB_DONE; b < a; b++)
			ck_assert_int_ne(outcome, outcome_of_result(job_result_name((enum job_result)b)));
	}
	ck_assert_int_eq(outcome_of_result("new-in-a-later-version"), OUTCOME_FAILED);
	ck_assert_ptr_nonnull(outcome_explain_result("new-in-a-later-version"));
}
END_TEST

START_TEST(errors_have_numbers)
{
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.NoSuchVm"), OUTCOME_NO_SUCH_VM);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.SlaLimit"), OUTCOME_REFUSED);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.BootVcpu"), OUTCOME_REFUSED);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.TenantQuota"), OUTCOME_REFUSED);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.HostCapacity"), OUTCOME_REFUSED);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.Frozen"), OUTCOME_REFUSED);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.NoSuchClass"), OUTCOME_NO_SUCH_NAME);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.NoSuchTenant"), OUTCOME_NO_SUCH_NAME);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.InvalidPolicy"), OUTCOME_INVALID_POLICY);
	ck_assert_int_eq(outcome_of_error("org.cpupolicy1.Error.Storage"), OUTCOME_STORAGE);
	ck_assert_int_eq(outcome_of_error("org.freedesktop.DBus.Error.AccessDenied"), OUTCOME_ACCESS_DENIED);
	ck_assert_int_eq(outcome_of_error("org.freedesktop.DBus.Error.ServiceUnknown"), OUTCOME_NO_DAEMON);
	ck_assert_int_eq(outcome_of_error("org.freedesktop.DBus.Error.InvalidArgs"), OUTCOME_FAILED);
	ck_assert_int_eq(outcome_of_error(NULL), OUTCOME_FAILED);
}
END_TEST

START_TEST(job_numbers)
{
	ck_assert_uint_eq(vm_info_job_id("/org/cpupolicy1/job/18446744073709551615"), UINT64_MAX);
	ck_assert_uint_eq(vm_info_job_id("/org/cpupolicy1/job/7"), 7);
	ck_assert_uint_eq(vm_info_job_id("/"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpuctl");
	TCase *t = tcase_create("cpuctl");
	SRunner *r;
	int failed;

	tcase_add_test(t, columns_are_as_wide_as_needed);
	tcase_add_test(t, no_trailing_blanks);
	tcase_add_test(t, a_row_that_is_not_full_is_not_printed);
	tcase_add_test(t, width_is_columns_not_bytes);
	tcase_add_test(t, counts);
	tcase_add_test(t, cpus);
	tcase_add_test(t, quotas_in_words);
	tcase_add_test(t, seconds);
	tcase_add_test(t, lines_that_are_right);
	tcase_add_loop_test(t, lines_that_are_wrong, 0, (int)(sizeof(wrong_lines) / sizeof(wrong_lines[0])));
	tcase_add_test(t, help_is_no_error);
	tcase_add_loop_test(t, times_that_are_right, 0, (int)(sizeof(times) / sizeof(times[0])));
	tcase_add_loop_test(t, times_that_are_wrong, 0, (int)(sizeof(wrong_times) / sizeof(wrong_times[0])));
	tcase_add_test(t, times_ago);
	tcase_add_test(t, times_are_written_as_they_are_read);
	tcase_add_test(t, sums_are_exact);
	tcase_add_test(t, bills_apply_the_price_of_the_class);
	tcase_add_test(t, totals_are_rounded_once);
	tcase_add_test(t, every_result_has_its_number);
	tcase_add_test(t, errors_have_numbers);
	tcase_add_test(t, job_numbers);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
