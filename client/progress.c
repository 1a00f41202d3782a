/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/connection.h"
#include "daemon/base/util.h"

#define CLEAR_LINE "\r\033[K"
#define SECOND     UINT64_C(1000000)

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){.live = isatty(STDERR_FILENO) == 1, .since = connection_now()};
	p->quiet = quiet && !p->live;
}

static size_t terminal_columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return 80;
	return size.ws_col;
}

/* So many bytes take no more columns than that; never half a character. */
static int cut(const char *text, size_t columns)
{
	size_t n = strlen(text);

	if (n <= columns)
		return (int)n;
	n = columns;
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return (int)n;
}

static void say_live(const struct progress *p, const char *text)
{
	uint64_t seconds = (connection_now() - p->since) / SECOND;
	size_t columns = terminal_columns();
	char tail[32] = "";

	if (seconds > 0)
		snprintf(tail, sizeof(tail), " (%" PRIu64 " s)", seconds);
	columns = columns > sizeof(tail) ? columns - strlen(tail) - 1 : 0;
	fprintf(stderr, CLEAR_LINE "%.*s%s", cut(text, columns), text, tail);
	fflush(stderr);
}

void progress_say(struct progress *p, const char *format, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	if (p->quiet)
		return;
	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0)
		return;
	if (p->live)
		say_live(p, text);
	else if (!p->last || strcmp(p->last, text) != 0)
		fprintf(stderr, "%s\n", text);
	free(p->last);
	p->last = text;
}

uint64_t progress_next(const struct progress *p)
{
	uint64_t age = connection_now() - p->since;

	return p->live ? p->since + (age / SECOND + 1) * SECOND : UINT64_MAX;
}

void progress_end(struct progress *p)
{
	if (p->live && p->last)
		fputs(CLEAR_LINE, stderr);
	free(p->last);
	p->last = NULL;
}
