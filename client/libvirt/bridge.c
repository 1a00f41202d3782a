/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/bridge.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "client/libvirt/domains.h"
#include "client/libvirt/look.h"
#include "client/libvirt/plug.h"
#include "client/libvirt/provider.h"
#include "client/libvirt/quota.h"
#include "client/libvirt/virt.h"
#include "daemon/base/log.h"
#include "daemon/base/util.h"

struct bridge {
	struct bridge_setup setup;
	struct virt *virt;
	struct provider *provider;
	struct loop_deferred *tell; /* end of turn: what is new goes to the daemon */
	struct domains domains;
	bool connected; /* to libvirt */
	bool complete;  /* all of its domains have been seen */
	bool complained;
	/* Gathered for one message. */
	struct provider_domain *telling;
	size_t n_telling, n_running;
};

static void log_domain(const struct domain *d, int level, const char *text)
{
	const struct log_field fields[] = {{"VM_NAME", d->facts.name}, {"VM_UUID", d->uuid}, {0}};

	log_fields(level, fields, "%s", text);
}

/* ---- what the daemon is told ---- */

static void count_running(struct domain *d, void *userdata)
{
	struct bridge *b = userdata;

	b->n_running += d->known && d->facts.running;
}

static void tell_status(struct bridge *b)
{
	b->n_running = 0;
	domains_each(&b->domains, count_running, b);
	sd_notifyf(0, "STATUS=%zu domains, %zu of them run; libvirt: %s; cpupolicyd: %s", b->domains.n, b->n_running,
		   b->connected ? "connected" : "not there",
		   provider_is_ready(b->provider) ? "registered" : "not there");
}

/* One without the glue is registered by the bridge. */
static struct provider_domain describe(const struct domain *d)
{
	const struct domain_facts *f = &d->facts;

	return (struct provider_domain){
		.uuid = d->uuid,
		.name = f->name,
		.has_uid = f->glue ? f->has_uid : true,
		.uid = f->glue ? f->uid : getuid(),
		.label = f->glue ? f->label : NULL,
		.class = f->policy.class,
		.tenant = f->policy.tenant,
		.desired = f->policy.desired,
		.can_hold = f->can_hold,
	};
}

static void gather(struct domain *d, void *userdata)
{
	struct bridge *b = userdata;

	if (!d->known || d->announced)
		return;
	d->announced = true;
	b->telling[b->n_telling++] = describe(d);
}

static void on_tell(void *userdata)
{
	struct bridge *b = userdata;

	tell_status(b);
	if (!provider_is_ready(b->provider))
		return;
	b->telling = calloc(b->domains.n + 1, sizeof(*b->telling));
	b->n_telling = 0;
	if (!b->telling)
		return;
	domains_each(&b->domains, gather, b);
	if (b->n_telling > 0)
		provider_announce(b->provider, b->telling, b->n_telling);
	free(TAKE(b->telling));
}

static void tell(struct bridge *b, struct domain *d)
{
	d->announced = false;
	loop_deferred_schedule(b->tell);
}

/* ---- domains without the glue ---- */

static void on_plugged(struct virt_task *task, void *userdata)
{
	struct plug *plug = container_of(task, struct plug, task);
	struct bridge *b = userdata;
	struct domain *d = domains_find(&b->domains, task->uuid);

	if (d && d->surrogate)
		surrogate_plugged(d->surrogate, plug);
	free(plug);
}

static void plug(const char *uuid, uint32_t vcpu, bool on, void *userdata)
{
	struct bridge *b = userdata;
	struct plug *task = plug_new(uuid, vcpu, on, on_plugged);

	if (task)
		virt_submit(b->virt, &task->task);
	else
		log_error("vCPU %u of %s: out of memory", vcpu, uuid);
}

static void start_surrogate(struct bridge *b, struct domain *d)
{
	const struct surrogate_setup setup = {
		.loop = b->setup.loop, .socket = b->setup.socket, .plug = plug, .userdata = b};
	int r = surrogate_new(&d->surrogate, &setup, &d->facts);

	if (r < 0)
		log_domain(d, LOG_ERR, r == -ENOMEM ? "out of memory" : "its name or UUID cannot be registered");
}

static void end_surrogate(struct domain *d)
{
	bool migrated = d->stopped == VIR_DOMAIN_EVENT_STOPPED_MIGRATED;

	if (!d->surrogate)
		return;
	surrogate_ended(d->surrogate, migrated ? CPUPOLICY_UNREGISTER_MIGRATED : CPUPOLICY_UNREGISTER_SHUTDOWN);
	d->surrogate = surrogate_free(d->surrogate);
}

static void follow(struct bridge *b, struct domain *d)
{
	if (!d->facts.running || d->facts.glue) {
		end_surrogate(d);
		return;
	}
	if (d->surrogate && !surrogate_update(d->surrogate, &d->facts))
		end_surrogate(d);
	if (!d->surrogate)
		start_surrogate(b, d);
}

/* ---- what libvirt says ---- */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_to_daemon(const struct domain_facts *a, const struct domain_facts *b)
{
	return strcmp(a->name, b->name) == 0 && a->glue == b->glue && a->has_uid == b->has_uid && a->uid == b->uid &&
	       same_text(a->label, b->label) && a->can_hold == b->can_hold &&
	       (b->policy_error || domain_policy_equal(&a->policy, &b->policy));
}

/* Metadata that is wrong changes nothing, so the last that was right goes on. */
static void keep_policy(struct domain *d, struct domain_facts *f)
{
	const struct log_field fields[] = {{"VM_NAME", f->name}, {"VM_UUID", d->uuid}, {0}};

	if (!f->policy_error) {
		d->refused = false;
		return;
	}
	if (!d->refused)
		log_fields(LOG_WARNING, fields, "%s; what it said before holds", f->policy_error);
	d->refused = true;
	f->policy = d->facts.policy;
	d->facts.policy = (struct domain_policy){0};
}

/* To the daemon it is a machine that has moved here, which nobody has asked for a count since. */
static void greet_restored(struct bridge *b, struct domain *d)
{
	if (!d->restored || !d->facts.running || d->facts.paused)
		return;
	d->restored = false;
	if (d->facts.policy.desired)
		provider_set_count(b->provider, d->uuid, d->facts.policy.desired);
}

static void take(struct bridge *b, struct domain *d, struct domain_facts *f)
{
	bool was_known = d->known, same = was_known && same_to_daemon(&d->facts, f);
	uint32_t desired = d->facts.policy.desired;

	keep_policy(d, f);
	domain_facts_clear(&d->facts);
	d->facts = *f;
	*f = (struct domain_facts){0};
	d->known = true;
	if (!same)
		tell(b, d);
	/* the announcement says it as long as nobody has asked for another count */
	if (was_known && d->facts.policy.desired && d->facts.policy.desired != desired)
		provider_set_count(b->provider, d->uuid, d->facts.policy.desired);
	greet_restored(b, d);
	follow(b, d);
}

static void forget(struct bridge *b, struct domain *d)
{
	const char *uuid = d->uuid;

	end_surrogate(d);
	provider_withdraw(b->provider, &uuid, 1);
	domains_remove(&b->domains, d);
	loop_deferred_schedule(b->tell);
}

static void on_look(struct virt_task *task, void *userdata);

static void look(struct bridge *b, const char *uuid)
{
	struct domain *d = domains_get(&b->domains, uuid);
	struct look *l;

	if (!d || d->looking) {
		if (d)
			d->look_again = true;
		return;
	}
	l = look_new(uuid, on_look);
	if (!l)
		return;
	d->looking = true;
	d->look_again = false;
	virt_submit(b->virt, &l->task);
}

static void on_look(struct virt_task *task, void *userdata)
{
	struct look *l = container_of(task, struct look, task);
	struct bridge *b = userdata;
	struct domain *d = domains_find(&b->domains, task->uuid);

	if (!d) {
		look_free(l);
		return;
	}
	d->looking = false;
	if (!l->done)
		/* with libvirt gone all is looked at when it is back */
		log_fields(b->connected ? LOG_WARNING : LOG_DEBUG, NULL, "%s: %s", task->uuid, l->error);
	else if (l->n == 0)
		forget(b, d);
	else
		take(b, d, &l->facts[0]);
	if (l->done && l->n > 0 && d->look_again)
		look(b, d->uuid);
	look_free(l);
}

static void unlist(struct domain *d, void *userdata)
{
	d->listed = false;
}

static void forget_unlisted(struct domain *d, void *userdata)
{
	if (!d->listed && !d->looking)
		forget(userdata, d);
}

static void on_list(struct virt_task *task, void *userdata)
{
	struct look *l = container_of(task, struct look, task);
	struct bridge *b = userdata;

	if (l->done) {
		domains_each(&b->domains, unlist, NULL);
		for (size_t i = 0; i < l->n; i++) {
			struct domain *d = domains_get(&b->domains, l->facts[i].uuid);

			if (!d)
				continue;
			d->listed = true;
			take(b, d, &l->facts[i]);
		}
		domains_each(&b->domains, forget_unlisted, b);
		if (!b->complete)
			provider_review(b->provider);
		b->complete = true;
		log_info("libvirt has %zu domains", l->n);
		loop_deferred_schedule(b->tell);
	} else if (b->connected) {
		log_warning("%s", l->error);
	}
	look_free(l);
}

static void on_up(void *userdata)
{
	struct bridge *b = userdata;
	struct look *l = look_new("", on_list);

	log_info("connected to libvirt (%s)", b->setup.uri);
	b->connected = true;
	b->complained = false;
	if (l)
		virt_submit(b->virt, &l->task);
}

static void on_down(const char *why, void *userdata)
{
	struct bridge *b = userdata;

	if (!b->complained)
		log_warning("%s; VMs go on under their policy, trying again", why);
	b->complained = true;
	b->connected = false;
	loop_deferred_schedule(b->tell);
}

static void on_event(const struct virt_event *event, void *userdata)
{
	struct bridge *b = userdata;
	struct domain *d = domains_find(&b->domains, event->uuid);

	if (event->kind == VIRT_EVENT_STOPPED && d)
		d->stopped = event->detail;
	if (event->kind == VIRT_EVENT_RESTORED && d)
		d->restored = true;
	if (event->kind == VIRT_EVENT_OST && d && d->surrogate)
		surrogate_ost(d->surrogate, event->vcpu, event->source, event->status);
	look(b, event->uuid);
}

static const struct virt_ops virt_ops = {.up = on_up, .down = on_down, .event = on_event};

/* ---- what the daemon says ---- */

static void unannounce(struct domain *d, void *userdata)
{
	d->announced = false;
}

static void on_ready(void *userdata)
{
	struct bridge *b = userdata;

	domains_each(&b->domains, unannounce, NULL);
	loop_deferred_schedule(b->tell);
	if (b->complete)
		provider_review(b->provider);
}

/* Domains that went while nobody was here to tell. */
static void on_reviewed(char *const *uuids, size_t n, void *userdata)
{
	_cleanup_free_ const char **gone = calloc(n + 1, sizeof(*gone));
	struct bridge *b = userdata;
	size_t n_gone = 0;

	for (size_t i = 0; gone && i < n; i++)
		if (!domains_find(&b->domains, uuids[i]))
			gone[n_gone++] = uuids[i];
	if (gone)
		provider_withdraw(b->provider, gone, n_gone);
}

static void on_lost(void *userdata)
{
	struct bridge *b = userdata;

	log_warning("the daemon is not there; what is announced meanwhile it is told when it is back");
	loop_deferred_schedule(b->tell);
}

/* One by one, so that the right ones are known, and the wrong one is named. */
static void on_refused(char *const *uuids, size_t n, void *userdata)
{
	struct bridge *b = userdata;

	for (size_t i = 0; i < n; i++) {
		const struct domain *d = domains_find(&b->domains, uuids[i]);
		struct provider_domain said;

		if (!d || !d->known)
			continue;
		said = describe(d);
		provider_announce(b->provider, &said, 1);
	}
}

static void on_quota_set(struct virt_task *task, void *userdata)
{
	struct quota *q = container_of(task, struct quota, task);
	struct bridge *b = userdata;
	const struct domain *d = domains_find(&b->domains, task->uuid);

	switch (q->result) {
	case QUOTA_DONE:
		if (d)
			log_domain(d, LOG_INFO,
				   q->millis == QUOTA_LIFTED ? "its CPU time is not bounded any more"
							     : "its CPU time is bounded");
		provider_answer(q->opaque);
		break;
	case QUOTA_NO_DOMAIN:
		provider_refuse(q->opaque, "NoSuchVm", q->error);
		break;
	case QUOTA_NOT_RUNNING:
		provider_refuse(q->opaque, "NotRunning", q->error);
		break;
	case QUOTA_FAILED:
		if (d)
			log_domain(d, LOG_WARNING, q->error);
		provider_refuse(q->opaque, "QuotaUnavailable", q->error);
		break;
	}
	free(q);
}

static void on_set_quota(const char *uuid, uint32_t millis, struct provider_quota *request, void *userdata)
{
	struct bridge *b = userdata;
	struct quota *q = quota_new(uuid, millis, on_quota_set, request);

	if (q)
		virt_submit(b->virt, &q->task);
	else
		provider_refuse(request, "QuotaUnavailable", "out of memory");
}

static const struct provider_ops provider_ops = {
	.ready = on_ready, .lost = on_lost, .reviewed = on_reviewed, .refused = on_refused, .set_quota = on_set_quota};

/* ---- life ---- */

int bridge_new(struct bridge **ret, const struct bridge_setup *setup, char **ret_error)
{
	struct bridge *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->setup = *setup;
	r = loop_deferred_new(&b->tell, setup->loop, on_tell, b);
	if (r >= 0)
		r = virt_new(&b->virt, setup->loop, setup->uri, &virt_ops, b);
	if (r >= 0)
		r = provider_new(&b->provider, setup->loop, setup->bus, &provider_ops, b, ret_error);
	if (r >= 0)
		r = virt_start(b->virt);
	if (r < 0) {
		bridge_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

static void drop(struct domain *d, void *userdata)
{
	domains_remove(userdata, d);
}

struct bridge *bridge_free(struct bridge *b)
{
	if (!b)
		return NULL;
	domains_each(&b->domains, drop, &b->domains);
	provider_free(b->provider);
	loop_deferred_free(b->tell);
	free(b);
	return NULL;
}
