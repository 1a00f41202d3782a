/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_OUTCOME_H
#define CPUCTL_OUTCOME_H

/* What cpuctl's exit status says, and the sentences that go with it. cpuctl(1) has the same table. */

#include <systemd/sd-bus.h>

/* Append only: scripts depend on the numbers. */
enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_FAILED = 1, /* wrong usage, or anything that has no number of its own */
	OUTCOME_NO_SUCH_VM = 2,
	OUTCOME_PARTIAL = 3,
	OUTCOME_GUEST_REFUSED = 4,
	OUTCOME_GUEST_FORBIDDEN = 5,
	OUTCOME_TIMEOUT = 6, /* the guest had its time */
	OUTCOME_SUPERSEDED = 7,
	OUTCOME_DISCONNECTED = 8,
	OUTCOME_STORAGE = 9,
	OUTCOME_REFUSED = 10, /* by policy, before anything was changed */
	OUTCOME_ACCESS_DENIED = 11,
	OUTCOME_NO_DAEMON = 12,
	OUTCOME_GAVE_UP = 13,      /* --timeout: the job goes on */
	OUTCOME_NO_SUCH_NAME = 14, /* of a class or a tenant */
	OUTCOME_INVALID_POLICY = 15,
	OUTCOME_DIFFERS = 16,      /* simulate: something is not as it was */
	OUTCOME_INTERRUPTED = 130, /* likewise; the shell's convention for SIGINT */
};

/* By a job's result as the bus names it; a name that is not known is OUTCOME_FAILED. */
enum outcome outcome_of_result(const char *result);
/* What the result means for the one who asked; never NULL. */
const char *outcome_explain_result(const char *result);

/* By a D-Bus error's name. */
enum outcome outcome_of_error(const char *name);
/* What can be done about it; NULL: nothing to say that the error's own message does not. */
const char *outcome_advice(enum outcome outcome);

/* Prints "cpuctl: WHAT: why" and advice to standard error; `error` may be unset, then `r` is a negative errno value. */
enum outcome outcome_report(const char *what, int r, const sd_bus_error *error);
/* Prints "cpuctl: ..." to standard error. */
enum outcome outcome_print(enum outcome outcome, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
