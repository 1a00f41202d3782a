/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <systemd/sd-journal.h>

#include "daemon/base/util.h"

#define MESSAGE_SIZE 2048
#define MAX_FIELDS   16
#define GATE_WINDOW  (10 * NSEC_PER_SEC)

/* The process has one stderr, so this is the one piece of state that is not handed around. Written at start only. */
static int log_max_level = LOG_INFO;
static bool log_to_journal;

/* journald names the stream that it gave us by device and inode; stderr may be redirected since. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;
	char end;

	if (!stream || sscanf(stream, "%ju:%ju%c", &device, &inode, &end) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_open(int max_level, bool force_stderr)
{
	log_max_level = max_level;
	log_to_journal = !force_stderr && stderr_is_journal();
}

/* One line is one line, and a terminal is not spoken to, whatever a peer called itself. */
static void neutralise(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
}

static void write_text(int level, const char *message, const struct log_field *fields)
{
	static const char *const names[] = {
		[LOG_EMERG] = "EMERG",     [LOG_ALERT] = "ALERT",   [LOG_CRIT] = "CRIT", [LOG_ERR] = "ERROR",
		[LOG_WARNING] = "WARNING", [LOG_NOTICE] = "NOTICE", [LOG_INFO] = "INFO", [LOG_DEBUG] = "DEBUG",
	};
	char line[MESSAGE_SIZE + 1024];
	size_t length = (size_t)snprintf(line, sizeof(line) - 1, "%s %s", names[level & LOG_PRIMASK], message);

	for (; fields && fields->name; fields++) {
		size_t room = sizeof(line) - 1 - length;
		int n;

		if (!fields->value)
			continue;
		n = snprintf(line + length, room, " %s=%s", fields->name, fields->value);
		if (n < 0 || (size_t)n >= room) {
			line[length] = '\0'; /* a field is there in full or not at all */
			break;
		}
		length += (size_t)n;
	}
	neutralise(line);
	line[length++] = '\n';
	/* One write, so that lines of two threads or processes do not mix. Nobody is left to tell of its failure. */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}

static void write_journal(int level, const char *message, const struct log_field *fields)
{
	char message_field[MESSAGE_SIZE + sizeof("MESSAGE=")], priority[sizeof("PRIORITY=0")];
	char text[MAX_FIELDS][512];
	struct iovec iov[MAX_FIELDS + 2];
	int n = 0, i = 0;

	snprintf(message_field, sizeof(message_field), "MESSAGE=%s", message);
	iov[n++] = (struct iovec){message_field, strlen(message_field)};
	snprintf(priority, sizeof(priority), "PRIORITY=%d", level & LOG_PRIMASK);
	iov[n++] = (struct iovec){priority, strlen(priority)};
	for (; fields && fields->name && i < MAX_FIELDS; fields++) {
		if (!fields->value)
			continue;
		snprintf(text[i], sizeof(text[i]), "%s=%s", fields->name, fields->value);
		iov[n++] = (struct iovec){text[i], strlen(text[i])};
		i++;
	}
	if (sd_journal_sendv(iov, n) < 0)
		write_text(level, message, fields);
}

void log_fields(int level, const struct log_field *fields, const char *format, ...)
{
	char message[MESSAGE_SIZE];
	int saved = errno;
	va_list ap;

	if ((level & LOG_PRIMASK) > log_max_level)
		return;
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	neutralise(message);
	if (log_to_journal)
		write_journal(level, message, fields);
	else
		write_text(level, message, fields);
	errno = saved;
}

bool log_gate_open(struct log_gate *gate, uint32_t burst, uint64_t now, uint32_t *ret_dropped)
{
	if (gate->window == 0 || now - gate->window >= GATE_WINDOW) {
		gate->window = now > 0 ? now : 1; /* 0 means never used */
		gate->count = 0;
	}
	if (gate->count >= burst) {
		if (gate->dropped < UINT32_MAX)
			gate->dropped++;
		return false;
	}
	gate->count++;
	*ret_dropped = gate->dropped;
	gate->dropped = 0;
	return true;
}
