/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_SCREEN_H
#define CPUCTL_SCREEN_H

/*
 * A terminal's screen as it is to be, and as it is: what differs is written, as the control sequences that every terminal
 * since the VT100 knows, so that a slow line carries changes only. Pure: it writes to a stream, and asks no terminal.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

enum screen_attr {
	SCREEN_BOLD = 1 << 0,
	SCREEN_DIM = 1 << 1,
	SCREEN_REVERSE = 1 << 2,
	/* one at most */
	SCREEN_RED = 1 << 3,
	SCREEN_GREEN = 1 << 4,
	SCREEN_YELLOW = 1 << 5,
	SCREEN_CYAN = 1 << 6,
	SCREEN_COLOURS = SCREEN_RED | SCREEN_GREEN | SCREEN_YELLOW | SCREEN_CYAN,
};

struct screen_cell {
	wchar_t c; /* 0: the right half of the one before */
	unsigned attr;
};

struct screen {
	unsigned rows, columns;
	struct screen_cell *want, *shown;
	bool unknown; /* what the terminal shows */
};

/* Blank, and unknown what the terminal shows. -ENOMEM: as it was. */
int screen_resize(struct screen *s, unsigned rows, unsigned columns);
void screen_free(struct screen *s);
/* Something else wrote to the terminal: the next drawing is of everything. */
void screen_forget(struct screen *s);

/* ---- what it is to be ---- */

void screen_clear(struct screen *s);
/* At most `width` columns of the text (what is not printable as '?'); what does not fit is cut off, never half a
 * character. Returns how many columns it took. Outside of the screen: nothing. */
unsigned screen_put(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr, const char *text);
/* The same, at the right end of `width`. */
unsigned screen_put_right(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr,
			  const char *text);
/* So many times the same character. */
void screen_fill(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr, char c);

/* ---- how it becomes so ---- */

/* Nothing is written where nothing differs. */
void screen_draw(struct screen *s, FILE *out);

#endif
