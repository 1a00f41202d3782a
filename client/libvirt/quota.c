/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/quota.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libvirt/xml.h"
#include "daemon/base/util.h"

#define PERIOD_USEC 100000
/* the least that libvirt and the kernel take */
#define QUOTA_LEAST 1000

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

/* ---- values ---- */

bool quota_equal(struct quota_value a, struct quota_value b)
{
	return a.period == b.period && (a.quota == b.quota || (a.quota < 0 && b.quota < 0));
}

struct quota_value quota_bound(uint32_t millis, struct quota_value before)
{
	struct quota_value v = {PERIOD_USEC, (long long)millis * (PERIOD_USEC / 1000)};

	if (v.quota < QUOTA_LEAST)
		v.quota = QUOTA_LEAST;
	if (before.quota > 0 && before.period > 0 &&
	    (__int128)before.quota * (long long)v.period < (__int128)v.quota * (long long)before.period)
		return before;
	return v;
}

/* ---- libvirt ---- */

static void fail(struct quota *q, enum quota_result result, const char *what)
{
	q->result = result;
	snprintf(q->error, sizeof(q->error), "%s: %s", what, virt_error());
}

static int get(virDomainPtr domain, struct quota_value *ret)
{
	int n = 0;
	_cleanup_free_ char *type = virDomainGetSchedulerType(domain, &n);
	_cleanup_free_ virTypedParameterPtr params = NULL;

	if (!type || n <= 0)
		return -EIO;
	params = calloc((size_t)n, sizeof(*params));
	if (!params || virDomainGetSchedulerParametersFlags(domain, params, &n, VIR_DOMAIN_AFFECT_LIVE) < 0)
		return -EIO;
	if (virTypedParamsGetULLong(params, n, VIR_DOMAIN_SCHEDULER_GLOBAL_PERIOD, &ret->period) != 1 ||
	    virTypedParamsGetLLong(params, n, VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA, &ret->quota) != 1) {
		virResetLastError();
		return -EOPNOTSUPP;
	}
	return 0;
}

static int set(virDomainPtr domain, struct quota_value value)
{
	virTypedParameterPtr params = NULL;
	int n = 0, max = 0, r;

	r = virTypedParamsAddULLong(&params, &n, &max, VIR_DOMAIN_SCHEDULER_GLOBAL_PERIOD, value.period);
	if (r >= 0)
		r = virTypedParamsAddLLong(&params, &n, &max, VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA,
					   value.quota < 0 ? -1 : value.quota);
	if (r >= 0)
		r = virDomainSetSchedulerParametersFlags(domain, params, n, VIR_DOMAIN_AFFECT_LIVE);
	virTypedParamsFree(params, n);
	return r < 0 ? -EIO : 0;
}

/* ---- what was before, and what was made of it ---- */

struct held {
	struct quota_value before, ours;
};

static bool read_value(xmlNodePtr node, struct quota_value *ret)
{
	_cleanup_xml_ xmlChar *period = xml_attribute(node, "period");
	_cleanup_xml_ xmlChar *quota = xml_attribute(node, "quota");

	if (!period || !quota)
		return false;
	ret->period = strtoull((const char *)period, NULL, 10);
	ret->quota = strtoll((const char *)quota, NULL, 10);
	return ret->period > 0;
}

/* virDomainGetMetadata() takes the namespace away: it was asked for by it. */
static xmlNodePtr child(xmlNodePtr root, const char *name)
{
	xmlNodePtr node = xml_child(root, QUOTA_URI, name);

	return node ? node : xml_child(root, NULL, name);
}

/* 1: it is held; 0: it is not. */
static int get_held(virDomainPtr domain, struct held *ret)
{
	_cleanup_free_ char *text =
		virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, QUOTA_URI, VIR_DOMAIN_AFFECT_LIVE);
	_cleanup_(xmlFreeDocp) xmlDocPtr doc = text ? xml_parse(text) : NULL;
	xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;

	if (!text)
		return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA ? 0 : -EIO;
	/* what somebody has made of it otherwise is no reason to hold a domain for good */
	if (!root || !read_value(child(root, "before"), &ret->before) || !read_value(child(root, "set"), &ret->ours))
		*ret = (struct held){.before = {PERIOD_USEC, -1}};
	return 1;
}

static int set_held(virDomainPtr domain, const struct held *held)
{
	char text[256];

	if (held)
		snprintf(text, sizeof(text),
			 "<held><before period='%llu' quota='%lld'/><set period='%llu' quota='%lld'/></held>",
			 held->before.period, held->before.quota, held->ours.period, held->ours.quota);
	return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, held ? text : NULL, QUOTA_PREFIX, QUOTA_URI,
				    VIR_DOMAIN_AFFECT_LIVE) < 0
		       ? -EIO
		       : 0;
}

/* An administrator who has set something else since has the last word on what comes after. */
static void hold(struct quota *q, virDomainPtr domain)
{
	struct quota_value now;
	struct held held;
	int was = get_held(domain, &held);
	int r = was < 0 ? was : get(domain, &now);

	if (r == -EOPNOTSUPP) {
		q->result = QUOTA_FAILED;
		snprintf(q->error, sizeof(q->error),
			 "this host cannot bound the CPU time of a domain: no CPU bandwidth control "
			 "in its cgroups");
		return;
	}
	if (r >= 0 && (was == 0 || !quota_equal(now, held.ours)))
		held.before = now;
	if (r >= 0) {
		held.ours = quota_bound(q->millis, held.before);
		/* first what it was: a bridge that dies in between leaves nothing that nobody knows how to lift */
		r = set_held(domain, &held);
	}
	if (r >= 0)
		r = set(domain, held.ours);
	if (r < 0)
		fail(q, QUOTA_FAILED, "libvirt does not bound its CPU time");
}

static void lift(struct quota *q, virDomainPtr domain)
{
	struct quota_value now;
	struct held held;
	int was = get_held(domain, &held);
	int r = was <= 0 ? was : get(domain, &now);

	if (was == 0)
		return;
	if (r >= 0 && quota_equal(now, held.ours))
		r = set(domain, held.before);
	if (r >= 0)
		r = set_held(domain, NULL);
	if (r < 0)
		fail(q, QUOTA_FAILED, "libvirt does not lift the bound of its CPU time");
}

static void run(struct virt_task *task, virConnectPtr connection)
{
	struct quota *q = container_of(task, struct quota, task);
	_cleanup_(virDomainFreep) virDomainPtr domain = NULL;

	if (!connection) {
		q->result = QUOTA_FAILED;
		snprintf(q->error, sizeof(q->error), "libvirt is not there");
		return;
	}
	domain = virDomainLookupByUUIDString(connection, task->uuid);
	if (!domain) {
		fail(q, virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? QUOTA_NO_DOMAIN : QUOTA_FAILED,
		     "cannot find the domain");
		return;
	}
	if (virDomainIsActive(domain) == 0) {
		/* what is set on it ends with it */
		q->result = q->millis == QUOTA_LIFTED ? QUOTA_DONE : QUOTA_NOT_RUNNING;
		snprintf(q->error, sizeof(q->error), "the domain does not run");
		return;
	}
	if (q->millis == QUOTA_LIFTED)
		lift(q, domain);
	else
		hold(q, domain);
}

struct quota *quota_new(const char *uuid, uint32_t millis, void (*done)(struct virt_task *task, void *userdata),
			void *opaque)
{
	struct quota *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->task.lane = VIRT_ACT;
	q->task.run = run;
	q->task.done = done;
	snprintf(q->task.uuid, sizeof(q->task.uuid), "%s", uuid);
	q->millis = millis;
	q->opaque = opaque;
	return q;
}
