/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUCTL_EXPLANATION_H
#define CPUCTL_EXPLANATION_H

/* What a request would meet, as the daemon explains it. */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "client/connection.h"

#define EXPLANATION_NO_BOUND UINT64_MAX

struct explanation_rule {
	char *rule, *outcome, *who, *sentence;
	uint64_t count, bound, others;
};

struct explanation {
	uint32_t count, target;
	char *bound, *refused; /* names of rules, "none" */
	struct explanation_rule *rules;
	size_t n;
};

/* `count` 0: what is desired already. *ret is initialised on success only. */
int explanation_get(struct connection *c, const char *vm, uint32_t count, struct explanation *ret,
		    sd_bus_error *ret_error);
void explanation_clear(struct explanation *e);
/* NULL: there is none of that name. */
const struct explanation_rule *explanation_find(const struct explanation *e, const char *rule);
json_t *explanation_json(const struct explanation *e); /* NULL: out of memory */

#endif
