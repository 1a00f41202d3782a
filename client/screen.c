/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/screen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "client/table.h"

/* As many cells that are right already are written once more rather than jumped over: a jump takes 6 bytes or more. */
#define GAP_MAX 5

static const struct screen_cell blank = {.c = L' '};

static bool same(const struct screen_cell *a, const struct screen_cell *b)
{
	return a->c == b->c && a->attr == b->attr;
}

/* ---- what it is to be ---- */

int screen_resize(struct screen *s, unsigned rows, unsigned columns)
{
	size_t n = (size_t)rows * columns;
	struct screen_cell *want = calloc(n ? n : 1, sizeof(*want)), *shown = calloc(n ? n : 1, sizeof(*shown));

	if (!want || !shown) {
		free(want);
		free(shown);
		return -ENOMEM;
	}
	screen_free(s);
	*s = (struct screen){.rows = rows, .columns = columns, .want = want, .shown = shown};
	screen_clear(s);
	screen_forget(s);
	return 0;
}

void screen_free(struct screen *s)
{
	free(s->want);
	free(s->shown);
	*s = (struct screen){0};
}

void screen_forget(struct screen *s)
{
	s->unknown = true;
}

void screen_clear(struct screen *s)
{
	for (size_t i = 0; i < (size_t)s->rows * s->columns; i++)
		s->want[i] = blank;
}

/* The next character, as it can be shown; *ret_width is how many columns it takes. Returns how many bytes it is of. */
static size_t next_character(const char *text, wchar_t *ret, unsigned *ret_width)
{
	mbstate_t state = {0};
	wchar_t c;
	size_t n = mbrtowc(&c, text, strlen(text), &state);
	int width;

	*ret = L'?';
	*ret_width = 1;
	if (n == (size_t)-1 || n == (size_t)-2)
		return 1;
	width = wcwidth(c);
	if (width >= 0 && iswprint((wint_t)c)) {
		*ret = c;
		*ret_width = (unsigned)width;
	}
	return n;
}

unsigned screen_put(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr, const char *text)
{
	struct screen_cell *cells;
	unsigned at = 0;

	if (row >= s->rows || column >= s->columns)
		return 0;
	if (width > s->columns - column)
		width = s->columns - column;
	cells = &s->want[(size_t)row * s->columns + column];
	while (*text) {
		unsigned taken;
		wchar_t c;

		text += next_character(text, &c, &taken);
		if (taken == 0) /* a mark on the one before: there is one character to a cell */
			continue;
		if (at + taken > width)
			break;
		cells[at++] = (struct screen_cell){.c = c, .attr = attr};
		for (; taken > 1; taken--)
			cells[at++] = (struct screen_cell){.attr = attr};
	}
	return at;
}

unsigned screen_put_right(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr,
			  const char *text)
{
	size_t takes = table_text_width(text);
	unsigned skip = takes < width ? width - (unsigned)takes : 0;

	return screen_put(s, row, column + skip, width - skip, attr, text);
}

void screen_fill(struct screen *s, unsigned row, unsigned column, unsigned width, unsigned attr, char c)
{
	const char text[] = {c, '\0'};

	for (unsigned i = 0; i < width; i++)
		screen_put(s, row, column + i, 1, attr, text);
}

/* ---- how it becomes so ---- */

struct pen {
	FILE *out;
	unsigned row, column; /* where the cursor is */
	unsigned attr;
};

static void set_attr(struct pen *pen, unsigned attr)
{
	static const struct {
		enum screen_attr attr;
		const char *code;
	} codes[] = {
		{SCREEN_BOLD, ";1"},   {SCREEN_DIM, ";2"},     {SCREEN_REVERSE, ";7"}, {SCREEN_RED, ";31"},
		{SCREEN_GREEN, ";32"}, {SCREEN_YELLOW, ";33"}, {SCREEN_CYAN, ";36"},
	};

	if (pen->attr == attr)
		return;
	pen->attr = attr;
	fputs("\033[", pen->out);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (attr & codes[i].attr)
			fputs(codes[i].code, pen->out);
	fputc('m', pen->out);
}

static void write_cell(struct pen *pen, const struct screen_cell *cell)
{
	char bytes[16];
	mbstate_t state = {0};
	size_t n;

	set_attr(pen, cell->attr);
	n = wcrtomb(bytes, cell->c, &state);
	if (n == (size_t)-1)
		fputc('?', pen->out);
	else
		fwrite(bytes, 1, n, pen->out);
}

/* Single cells that are right already, from the cursor to there. */
static bool can_pass(const struct screen *s, const struct pen *pen, unsigned row, unsigned column)
{
	const struct screen_cell *cells = &s->want[(size_t)row * s->columns];

	if (pen->row != row || pen->column > column || column - pen->column > GAP_MAX)
		return false;
	for (unsigned i = pen->column; i < column; i++)
		if (cells[i].c == 0 || cells[i].attr != pen->attr || (i + 1 < s->columns && cells[i + 1].c == 0))
			return false;
	return true;
}

static void go_to(const struct screen *s, struct pen *pen, unsigned row, unsigned column)
{
	const struct screen_cell *cells = &s->want[(size_t)row * s->columns];

	if (can_pass(s, pen, row, column))
		for (; pen->column < column; pen->column++)
			write_cell(pen, &cells[pen->column]);
	else
		fprintf(pen->out, "\033[%u;%uH", row + 1, column + 1);
	pen->row = row;
	pen->column = column;
}

/* From where on a row is blank. */
static unsigned blank_from(const struct screen *s, unsigned row)
{
	const struct screen_cell *cells = &s->want[(size_t)row * s->columns];
	unsigned column = s->columns;

	while (column > 0 && same(&cells[column - 1], &blank))
		column--;
	return column;
}

static bool differs(const struct screen *s, unsigned row, unsigned column)
{
	size_t at = (size_t)row * s->columns + column;

	return !same(&s->want[at], &s->shown[at]);
}

static void draw_row(const struct screen *s, struct pen *pen, unsigned row)
{
	const struct screen_cell *cells = &s->want[(size_t)row * s->columns];
	unsigned end = blank_from(s, row), column = 0;

	while (column < end) {
		unsigned width = column + 1 < s->columns && cells[column + 1].c == 0 ? 2 : 1;

		if (differs(s, row, column) || (width == 2 && differs(s, row, column + 1))) {
			go_to(s, pen, row, column);
			write_cell(pen, &cells[column]);
			pen->column += width;
		}
		column += width;
	}
	while (column < s->columns && !differs(s, row, column))
		column++;
	if (column == s->columns)
		return;
	go_to(s, pen, row, column);
	set_attr(pen, 0);
	fputs("\033[K", pen->out);
}

void screen_draw(struct screen *s, FILE *out)
{
	struct pen pen = {.out = out, .row = s->rows}; /* the cursor is nowhere */

	if (s->unknown) {
		fputs("\033[m\033[2J", out);
		for (size_t i = 0; i < (size_t)s->rows * s->columns; i++)
			s->shown[i] = blank;
		s->unknown = false;
	}
	for (unsigned row = 0; row < s->rows; row++)
		draw_row(s, &pen, row);
	set_attr(&pen, 0);
	memcpy(s->shown, s->want, (size_t)s->rows * s->columns * sizeof(*s->shown));
}
