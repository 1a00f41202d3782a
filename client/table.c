/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "daemon/base/util.h"

#define GAP 2

struct table {
	char *align;
	size_t columns;
	char **cells;
	size_t n;
	size_t capacity;
};

size_t table_text_width(const char *text)
{
	mbstate_t state = {0};
	size_t width = 0, left = strlen(text);

	while (left > 0) {
		wchar_t c;
		size_t n = mbrtowc(&c, text, left, &state);
		int w;

		if (n == 0 || n > left) {
			/* not of this locale: a byte is as good a guess as any */
			memset(&state, 0, sizeof(state));
			n = 1;
			w = 1;
		} else {
			w = wcwidth(c);
		}
		width += w > 0 ? (size_t)w : 0;
		text += n;
		left -= n;
	}
	return width;
}

int table_new(struct table **ret, const char *align)
{
	struct table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->columns = strlen(align);
	table->align = strdup(align);
	if (!table->align) {
		free(table);
		return -ENOMEM;
	}
	*ret = table;
	return 0;
}

struct table *table_free(struct table *table)
{
	if (!table)
		return NULL;
	for (size_t i = 0; i < table->n; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table->align);
	free(table);
	return NULL;
}

int table_add(struct table *table, const char *text)
{
	char *copy;

	if (table->n == table->capacity) {
		size_t capacity = table->capacity ? 2 * table->capacity : 64;
		char **cells = reallocarray(table->cells, capacity, sizeof(*cells));

		if (!cells)
			return -ENOMEM;
		table->cells = cells;
		table->capacity = capacity;
	}
	copy = strdup(text ? text : "");
	if (!copy)
		return -ENOMEM;
	table->cells[table->n++] = copy;
	return 0;
}

int table_addf(struct table *table, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return table_add(table, text);
}

static void pad(FILE *out, size_t n)
{
	while (n-- > 0)
		fputc(' ', out);
}

static void print_row(const struct table *table, const size_t *widths, char *const *cells, FILE *out)
{
	size_t owed = 0; /* blanks, due only if something follows */

	for (size_t c = 0; c < table->columns; c++) {
		size_t fill = widths[c] - table_text_width(cells[c]);

		if (table->align[c] == 'r')
			owed += fill;
		if (*cells[c]) {
			pad(out, owed);
			owed = 0;
			fputs(cells[c], out);
		}
		if (table->align[c] != 'r')
			owed += fill;
		owed += GAP;
	}
	fputc('\n', out);
}

void table_print(const struct table *table, FILE *out)
{
	_cleanup_free_ size_t *widths = calloc(table->columns, sizeof(*widths));
	size_t rows = table->n / table->columns;

	if (!widths)
		return;
	for (size_t i = 0; i < rows * table->columns; i++) {
		size_t width = table_text_width(table->cells[i]);

		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t row = 0; row < rows; row++)
		print_row(table, widths, table->cells + row * table->columns, out);
}
