/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/core/class.h"

#include <errno.h>
#include <stddef.h>

#define SECOND UINT64_C(1000000000)

void class_default(struct service_class *ret)
{
	*ret = (struct service_class){
		.name = "default",
		.guaranteed = 1,
		.limit = CPUPOLICY_MAX_VCPUS,
		.refusal = CLASS_RETRY,
		.retry_interval = CLASS_RETRY_DEFAULT,
		.bill_paused = true,
		.ask_timeout_ms = 2000,
		.job_timeout = 60 * SECOND,
	};
}

struct finding {
	const char *member;
	const char *why;
};

static bool is_credit(int64_t value, int64_t most)
{
	return value >= 0 && value <= most;
}

/* Of the first that is wrong; NULL members: all is well. */
static struct finding find(const struct service_class *c)
{
	const struct class_burst *b = &c->burst;

	if (!c->name || !*c->name)
		return (struct finding){"name", "expected a name"};
	if (c->limit < 1 || c->limit > CPUPOLICY_MAX_VCPUS)
		return (struct finding){"limit", "expected 1 to the most vCPUs that a VM can have"};
	if (c->guaranteed < 1 || c->guaranteed > c->limit)
		return (struct finding){"guaranteed", "expected 1 to the limit"};
	if (c->priority > CLASS_PRIORITY_MAX)
		return (struct finding){"priority", "expected 0 to 99"};
	if (b->metered && !is_credit(b->cap, CLASS_CREDIT_MAX))
		return (struct finding){"burst.cap", "expected 0 to the most credit that a VM can have"};
	if (b->metered && !is_credit(b->initial, b->cap))
		return (struct finding){"burst.initial", "expected 0 to the cap"};
	if (b->metered && !is_credit(b->resume, b->cap))
		return (struct finding){"burst.resume", "expected 0 to the cap"};
	if (c->plugs.per_minute > CLASS_PLUGS_MAX)
		return (struct finding){"plugs.per_minute", "expected 0 to 1000000"};
	if (c->plugs.per_minute > 0 && (c->plugs.burst < 1 || c->plugs.burst > CLASS_PLUGS_MAX))
		return (struct finding){"plugs.burst", "expected 1 to 1000000"};
	if (c->cpu_on.per_second > 0 && c->cpu_on.burst < 1)
		return (struct finding){"cpu_on.burst", "expected at least 1"};
	if (c->refusal != CLASS_RETRY && c->refusal != CLASS_REVOKE && c->refusal != CLASS_QUOTA)
		return (struct finding){"refusal", "expected retry, revoke or quota"};
	if (c->retry_interval < CLASS_RETRY_MIN)
		return (struct finding){"retry_interval", "expected at least one second"};
	if (c->price.guaranteed > CLASS_PRICE_MAX)
		return (struct finding){"price.guaranteed", "expected at most a million per vCPU-hour"};
	if (c->price.burst > CLASS_PRICE_MAX)
		return (struct finding){"price.burst", "expected at most a million per vCPU-hour"};
	return (struct finding){NULL, NULL};
}

int class_check(const struct service_class *class, const char **ret_member, const char **ret_why)
{
	struct finding f = find(class);

	if (!f.member)
		return 0;
	*ret_member = f.member;
	*ret_why = f.why;
	return -EINVAL;
}
