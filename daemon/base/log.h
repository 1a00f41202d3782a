/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_LOG_H
#define CPUPOLICYD_LOG_H

/*
 * The daemon's log: to the journal with fields when stderr is connected to it, else to stderr as text. Whoever detects
 * a problem returns it; whoever handles it logs it, once. Lines that a peer can cause go through a log_gate.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <syslog.h>

struct log_field {
	const char *name;  /* "VM_UUID" */
	const char *value; /* NULL: the field is left out */
};

void log_open(int max_level, bool force_stderr);

/* `fields` ends with a NULL name; may be NULL. On stderr fields are appended as NAME=value. */
void log_fields(int level, const struct log_field *fields, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...)   log_fields(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_fields(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...)  log_fields(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...)    log_fields(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_fields(LOG_DEBUG, NULL, __VA_ARGS__)

/* At most `burst` lines per 10 s and gate; then one that says how many were left out. Zeroed: usable. */
struct log_gate {
	uint64_t window;
	uint32_t count;
	uint32_t dropped;
};
/* True: log this one. *ret_dropped: how many were dropped since the last one that was logged. */
bool log_gate_open(struct log_gate *gate, uint32_t burst, uint64_t now, uint32_t *ret_dropped);

#endif
