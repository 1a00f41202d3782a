/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_TEXT_H
#define CPUPOLICY_TEXT_H

/*
 * Texts on the wire: UTF-8 without control characters, since they reach terminals and logs. Results as in message.h.
 */

#include <stddef.h>

/* A text in a member of fixed size: non-empty, NUL-terminated, zero from there on. */
int cpupolicy_text_check_member(const char *member, size_t size, const char **ret_why);
/* 1 to 255 bytes, not of a UUID's form. */
int cpupolicy_text_check_name(const char *name, const char **ret_why);
/* Length of `text` cut to at most `max` bytes at a character's boundary. */
size_t cpupolicy_text_cut(const char *text, size_t max);

#endif
