/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/look.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/util.h"

DEFINE_CLEANUP(virDomainPtr, virDomainFree)

static void fail(struct look *look, const char *what)
{
	snprintf(look->error, sizeof(look->error), "%s: %s", what, virt_error());
}

/* Who a domain's QEMU runs as by default. Asked each time: a restart of libvirtd may change it. */
static void read_defaults(virConnectPtr connection, struct domain_defaults *ret)
{
	_cleanup_free_ char *xml = virConnectGetCapabilities(connection);

	*ret = (struct domain_defaults){0};
	if (xml)
		domain_defaults_read(ret, xml);
}

static bool can_hold(virDomainPtr domain)
{
	int n = 0;
	_cleanup_free_ char *type = virDomainGetSchedulerType(domain, &n);

	/* one parameter: shares alone, since the host's cgroups have no bandwidth control, or there is no cpu controller */
	return type && n > 1;
}

static bool is_gone(void)
{
	return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
}

/* 1: *ret is what is known; 0: it is not there any more. */
static int read_domain(struct look *look, virDomainPtr domain, const struct domain_defaults *defaults,
		       struct domain_facts *ret)
{
	_cleanup_free_ char *xml = virDomainGetXMLDesc(domain, 0);
	int state = VIR_DOMAIN_NOSTATE;

	if (!xml && is_gone())
		return 0;
	if (!xml) {
		fail(look, "cannot read a domain");
		return -EIO;
	}
	if (domain_facts_read(ret, xml, defaults) < 0) {
		snprintf(look->error, sizeof(look->error), "the XML of domain \"%.100s\" is not understood",
			 virDomainGetName(domain));
		return -EINVAL;
	}
	if (!ret->running)
		return 1;
	ret->paused = virDomainGetState(domain, &state, NULL, 0) == 0 &&
		      (state == VIR_DOMAIN_PAUSED || state == VIR_DOMAIN_PMSUSPENDED);
	ret->can_hold = can_hold(domain);
	return 1;
}

static void read_one(struct look *look, virConnectPtr connection)
{
	_cleanup_(virDomainFreep) virDomainPtr domain = virDomainLookupByUUIDString(connection, look->task.uuid);
	struct domain_defaults defaults;
	int r;

	if (!domain) {
		look->done = is_gone();
		fail(look, "cannot find the domain");
		return;
	}
	look->facts = calloc(1, sizeof(*look->facts));
	if (!look->facts)
		return;
	read_defaults(connection, &defaults);
	r = read_domain(look, domain, &defaults, look->facts);
	look->done = r >= 0;
	look->n = r > 0 ? 1 : 0;
}

static void read_all(struct look *look, virConnectPtr connection)
{
	struct domain_defaults defaults;
	virDomainPtr *domains = NULL;
	int n = virConnectListAllDomains(connection, &domains, 0);

	if (n < 0) {
		fail(look, "cannot list the domains");
		return;
	}
	read_defaults(connection, &defaults);
	look->facts = calloc((size_t)n + 1, sizeof(*look->facts));
	/* a domain that cannot be read is one that is not known; the others are */
	for (int i = 0; i < n; i++) {
		if (look->facts && read_domain(look, domains[i], &defaults, &look->facts[look->n]) > 0)
			look->n++;
		virDomainFree(domains[i]);
	}
	free(domains);
	look->done = look->facts != NULL;
}

static void run(struct virt_task *task, virConnectPtr connection)
{
	struct look *look = container_of(task, struct look, task);

	if (!connection)
		snprintf(look->error, sizeof(look->error), "libvirt is not there");
	else if (*task->uuid)
		read_one(look, connection);
	else
		read_all(look, connection);
}

struct look *look_new(const char *uuid, void (*done)(struct virt_task *task, void *userdata))
{
	struct look *look = calloc(1, sizeof(*look));

	if (!look)
		return NULL;
	look->task.lane = VIRT_LOOK;
	look->task.run = run;
	look->task.done = done;
	snprintf(look->task.uuid, sizeof(look->task.uuid), "%s", uuid);
	return look;
}

void look_free(struct look *look)
{
	domain_facts_free(look->facts, look->n);
	free(look);
}
