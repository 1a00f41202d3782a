/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_TERMINAL_H
#define CPUCTL_TERMINAL_H

/* The terminal of a program that takes all of it: keys as they are pressed, its size, and the way back to what it was. */

#include <stdbool.h>
#include <stddef.h>

struct terminal;

enum terminal_key {
	/* bytes as they came are themselves */
	TERMINAL_NONE = -1,
	TERMINAL_ENDED = -2,   /* nobody is at the other end any more */
	TERMINAL_REDRAW = 256, /* another size, or something else wrote to it: everything is to be drawn */
	TERMINAL_UP,
	TERMINAL_DOWN,
	TERMINAL_LEFT,
	TERMINAL_RIGHT,
	TERMINAL_PAGE_UP,
	TERMINAL_PAGE_DOWN,
	TERMINAL_HOME,
	TERMINAL_END,
	TERMINAL_ESCAPE,
	TERMINAL_BACKSPACE,
	TERMINAL_ENTER,
};

/* Whether there is one that can do this. */
bool terminal_is_there(void);
/* -ENOTTY: standard input and output are not a terminal that can do this. */
int terminal_open(struct terminal **ret);
/* Leaves it as it was found. NULL is accepted, NULL is returned. */
struct terminal *terminal_close(struct terminal *t);

/* Readable: there may be a key. */
int terminal_fd(const struct terminal *t);
/* The next one, without waiting. Ctrl-Z has been done by then. */
int terminal_key(struct terminal *t);
void terminal_size(const struct terminal *t, unsigned *ret_rows, unsigned *ret_columns);
/* -EIO etc. */
int terminal_write(struct terminal *t, const char *data, size_t size);

#endif
