/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/base/util.h"

#define SECOND UINT64_C(1000000)
/* The year 9999 ends before that. */
#define SECONDS_MAX INT64_C(253402300800)

static int from_seconds(int64_t seconds, uint64_t *ret_usec)
{
	if (seconds < 0 || seconds > SECONDS_MAX)
		return -EINVAL;
	*ret_usec = (uint64_t)seconds * SECOND;
	return 0;
}

/* ---- reading ---- */

/* Exactly so many digits. */
static bool take_number(const char **p, unsigned digits, int *ret)
{
	int n = 0;

	for (unsigned i = 0; i < digits; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		n = n * 10 + (**p - '0');
	}
	*ret = n;
	return true;
}

static bool take_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

/* Any number of digits, at least one; false also if it is not of this world. */
static bool take_integer(const char **p, int64_t *ret)
{
	const char *begin = *p;
	int64_t n = 0;

	for (; **p >= '0' && **p <= '9'; (*p)++) {
		n = n * 10 + (**p - '0');
		if (n > SECONDS_MAX)
			return false;
	}
	*ret = n;
	return *p != begin;
}

static bool take_clock(const char **p, struct tm *tm)
{
	if (!take_number(p, 2, &tm->tm_hour) || !take_char(p, ':') || !take_number(p, 2, &tm->tm_min))
		return false;
	return !take_char(p, ':') || take_number(p, 2, &tm->tm_sec);
}

/* A date that the calendar does not have becomes another one by mktime(). */
static int from_calendar(const struct tm *tm, bool utc, uint64_t *ret_usec)
{
	struct tm as = *tm;
	time_t seconds;

	as.tm_isdst = -1;
	seconds = utc ? timegm(&as) : mktime(&as);
	if (as.tm_mon != tm->tm_mon || as.tm_mday != tm->tm_mday || tm->tm_hour > 23 || tm->tm_min > 59 ||
	    tm->tm_sec > 59)
		return -EINVAL;
	return from_seconds(seconds, ret_usec);
}

static int parse_date(const char *p, uint64_t *ret_usec)
{
	struct tm tm = {.tm_mday = 1};
	bool utc = false;

	if (!take_number(&p, 4, &tm.tm_year) || !take_char(&p, '-') || !take_number(&p, 2, &tm.tm_mon))
		return -EINVAL;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	if (take_char(&p, '-')) {
		if (!take_number(&p, 2, &tm.tm_mday))
			return -EINVAL;
		if ((take_char(&p, ' ') || take_char(&p, 'T')) && !take_clock(&p, &tm))
			return -EINVAL;
	}
	utc = take_char(&p, 'Z');
	return *p ? -EINVAL : from_calendar(&tm, utc, ret_usec);
}

static int parse_ago(const char *p, uint64_t *ret_usec)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	int64_t n;

	if (!take_integer(&p, &n))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (p[0] == units[i].unit && !p[1] && n <= SECONDS_MAX / units[i].seconds)
			return from_seconds(time(NULL) - n * units[i].seconds, ret_usec);
	return -EINVAL;
}

static int parse_day(int back, uint64_t *ret_usec)
{
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	tm.tm_mday -= back;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	return from_seconds(mktime(&tm), ret_usec);
}

int when_parse(const char *text, uint64_t *ret_usec)
{
	int64_t seconds;

	if (strcmp(text, "now") == 0)
		return from_seconds(time(NULL), ret_usec);
	if (strcmp(text, "today") == 0)
		return parse_day(0, ret_usec);
	if (strcmp(text, "yesterday") == 0)
		return parse_day(1, ret_usec);
	if (take_char(&text, '-'))
		return parse_ago(text, ret_usec);
	if (!take_char(&text, '@'))
		return parse_date(text, ret_usec);
	return take_integer(&text, &seconds) && !*text ? from_seconds(seconds, ret_usec) : -EINVAL;
}

/* ---- writing ---- */

const char *when_format_utc(uint64_t usec, char text[WHEN_TEXT_SIZE])
{
	time_t seconds = (time_t)(usec / SECOND);
	char fraction[16] = "";
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	if (usec % SECOND != 0)
		snprintf(fraction, sizeof(fraction), ".%06" PRIu64, usec % SECOND);
	n = strftime(text, 24, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, WHEN_TEXT_SIZE - n, "%sZ", fraction);
	return text;
}

const char *when_format_local(uint64_t usec, char text[WHEN_TEXT_SIZE])
{
	time_t seconds = (time_t)(usec / SECOND);
	struct tm tm;

	localtime_r(&seconds, &tm);
	strftime(text, WHEN_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
	return text;
}
