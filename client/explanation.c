/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/explanation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/util.h"

#define RULE "(sssttts)"

void explanation_clear(struct explanation *e)
{
	for (size_t i = 0; i < e->n; i++) {
		free(e->rules[i].rule);
		free(e->rules[i].outcome);
		free(e->rules[i].who);
		free(e->rules[i].sentence);
	}
	free(e->rules);
	free(e->bound);
	free(e->refused);
	*e = (struct explanation){0};
}

static int read_rule(struct explanation *e, sd_bus_message *m)
{
	const char *rule, *outcome, *who, *sentence;
	struct explanation_rule *rules, one;
	int r;

	r = sd_bus_message_read(m, RULE, &rule, &outcome, &who, &one.count, &one.bound, &one.others, &sentence);
	if (r <= 0)
		return r;
	rules = reallocarray(e->rules, e->n + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	e->rules = rules;
	one.rule = strdup(rule);
	one.outcome = strdup(outcome);
	one.who = strdup(who);
	one.sentence = strdup(sentence);
	rules[e->n++] = one;
	return one.rule && one.outcome && one.who && one.sentence ? 1 : -ENOMEM;
}

static int read_reply(struct explanation *e, sd_bus_message *m)
{
	const char *bound, *refused;
	int r;

	r = sd_bus_message_read(m, "uuss", &e->count, &e->target, &bound, &refused);
	if (r < 0)
		return r;
	e->bound = strdup(bound);
	e->refused = strdup(refused);
	if (!e->bound || !e->refused)
		return -ENOMEM;
	r = sd_bus_message_enter_container(m, 'a', RULE);
	while (r >= 0) {
		r = read_rule(e, m);
		if (r == 0)
			return sd_bus_message_exit_container(m);
	}
	return r;
}

int explanation_get(struct connection *c, const char *vm, uint32_t count, struct explanation *ret,
		    sd_bus_error *ret_error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct explanation e = {0};
	int r;

	r = connection_call(c, "Explain", ret_error, &reply, "su", vm, count);
	if (r >= 0)
		r = read_reply(&e, reply);
	if (r < 0) {
		explanation_clear(&e);
		return r;
	}
	*ret = e;
	return 0;
}

const struct explanation_rule *explanation_find(const struct explanation *e, const char *rule)
{
	for (size_t i = 0; i < e->n; i++)
		if (strcmp(e->rules[i].rule, rule) == 0)
			return &e->rules[i];
	return NULL;
}

static json_t *rule_json(const struct explanation_rule *r)
{
	return json_pack("{s:s, s:s, s:s?, s:I, s:o, s:I, s:s}", "rule", r->rule, "outcome", r->outcome, "who",
			 *r->who ? r->who : NULL, "count", (json_int_t)r->count, "bound",
			 r->bound == EXPLANATION_NO_BOUND ? json_null() : json_integer((json_int_t)r->bound), "others",
			 (json_int_t)r->others, "sentence", r->sentence);
}

json_t *explanation_json(const struct explanation *e)
{
	json_t *rules = json_array();

	for (size_t i = 0; rules && i < e->n; i++)
		if (json_array_append_new(rules, rule_json(&e->rules[i])) < 0) {
			json_decref(rules);
			return NULL;
		}
	return json_pack("{s:I, s:I, s:s, s:s, s:o}", "count", (json_int_t)e->count, "target", (json_int_t)e->target,
			 "bound", e->bound, "refused", e->refused, "rules", rules);
}
