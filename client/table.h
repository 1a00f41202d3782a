/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_TABLE_H
#define CPUCTL_TABLE_H

/* Text in columns that are as wide as what is in them. */

#include <stdio.h>

struct table;

/* One column per character of `align`: 'l' or 'r'. */
int table_new(struct table **ret, const char *align);
struct table *table_free(struct table *table);
/* The next cell, row by row; NULL is an empty one. */
int table_add(struct table *table, const char *text);
int table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Rows that are not full are not printed. No trailing blanks. */
void table_print(const struct table *table, FILE *out);

/* Columns that the text takes on a terminal. */
size_t table_text_width(const char *text);

#endif
