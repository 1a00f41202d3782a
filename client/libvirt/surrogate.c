/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "client/libvirt/surrogate.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"
#include "daemon/base/util.h"

/* _OST (ACPI 6.5, 6.3.5) */
#define OST_DEVICE_CHECK        1u
#define OST_EJECT_REQUEST       3u
#define OST_EJECT_BY_GUEST      0x103u
#define OST_SUCCESS             0u
#define OST_FAILURE             1u
#define OST_EJECT_NOT_SUPPORTED 0x80u
#define OST_EJECT_IN_USE        0x82u

#define UNREGISTER_MS 100

struct vcpu {
	bool present;
	bool fixed;
	/* The guest has ejected it, and libvirt lists it still: it is gone, whatever libvirt says until it forgets it. */
	bool given_back;
	bool plugging; /* libvirt is at it */
	/* Once for each grant, and each notification, whatever comes of it. */
	bool tried_on, tried_off;
	uint32_t tried_grant;
	uint8_t tried_serial;
};

struct surrogate {
	struct surrogate_setup setup;
	char uuid[UUID_TEXT_SIZE];
	char *name;
	bool paused;
	bool hotplug;
	struct cpupolicy *c;
	struct loop_io *io;
	uint32_t possible;
	struct vcpu *vcpus;
};

/* ---- what there is ---- */

static void log_vcpu(const struct surrogate *s, int level, uint32_t vcpu, const char *what, const char *why)
{
	const struct log_field fields[] = {{"VM_NAME", s->name}, {"VM_UUID", s->uuid}, {0}};

	log_fields(level, fields, "vCPU %u %s%s%s", vcpu, what, why ? ": " : "", why ? why : "");
}

static enum cpupolicy_run_state get_state(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	const struct surrogate *s = opaque;

	/* what the guest does with a vCPU that it has is not seen from here */
	for (uint32_t i = 0; i < n && i < s->possible; i++)
		vcpus[i].flags =
			s->vcpus[i].present ? CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ACKED | CPUPOLICY_VCPU_ENABLED : 0;
	return s->paused ? CPUPOLICY_RUN_PAUSED : CPUPOLICY_RUN_RUNNING;
}

static void came(struct surrogate *s, uint32_t vcpu)
{
	s->vcpus[vcpu].present = true;
	s->vcpus[vcpu].given_back = false;
	s->vcpus[vcpu].tried_off = false;
	cpupolicy_ost(s->c, vcpu, OST_DEVICE_CHECK, OST_SUCCESS);
	/* refused where the page has changed meanwhile: then it is unplugged again, and counted until it is */
	if (!cpupolicy_power_on(s->c, vcpu, CPUPOLICY_REASON_GRANTED))
		cpupolicy_resync(s->c);
}

static void went(struct surrogate *s, uint32_t vcpu, enum cpupolicy_eject_cause cause)
{
	s->vcpus[vcpu].present = false;
	cpupolicy_power_off(s->c, vcpu);
	cpupolicy_ejected(s->c, vcpu, cause);
}

/* ---- what is wanted ---- */

static void plug(struct surrogate *s, uint32_t vcpu, bool on)
{
	s->vcpus[vcpu].plugging = true;
	s->setup.plug(s->uuid, vcpu, on, s->setup.userdata);
}

static void grow(struct surrogate *s, uint32_t vcpu, const struct cpupolicy_view *view)
{
	struct vcpu *v = &s->vcpus[vcpu];

	if (v->tried_on && v->tried_grant == view->grant)
		return;
	v->tried_on = true;
	v->tried_grant = view->grant;
	plug(s, vcpu, true);
}

static void shrink(struct surrogate *s, uint32_t vcpu, const struct cpupolicy_view *view)
{
	struct vcpu *v = &s->vcpus[vcpu];

	if (v->tried_off && v->tried_serial == view->serial)
		return;
	v->tried_off = true;
	v->tried_serial = view->serial;
	if (v->fixed)
		cpupolicy_ost(s->c, vcpu, OST_EJECT_REQUEST, OST_EJECT_NOT_SUPPORTED);
	else
		plug(s, vcpu, false);
}

static void reconcile(struct surrogate *s)
{
	uint32_t epoch, generation;

	cpupolicy_generation(s->c, &epoch, &generation);
	/* no page yet, or none that is worth following: nothing is taken away without the daemon's word */
	if (!s->hotplug || epoch == 0)
		return;
	for (uint32_t i = 1; i < s->possible; i++) {
		struct cpupolicy_view view;

		if (s->vcpus[i].plugging)
			continue;
		cpupolicy_view(s->c, i, &view);
		if (view.enabled && view.wanted && !s->vcpus[i].present)
			grow(s, i, &view);
		else if (!view.wanted && s->vcpus[i].present && !view.observe)
			shrink(s, i, &view);
	}
}

static void policy_changed(void *opaque)
{
	struct surrogate *s = opaque;

	reconcile(s);
	cpupolicy_confirm(s->c);
}

static void link_changed(void *opaque, enum cpupolicy_link link, const char *reason)
{
	const struct surrogate *s = opaque;
	const struct log_field fields[] = {{"VM_NAME", s->name}, {"VM_UUID", s->uuid}, {0}};

	if (link == CPUPOLICY_LINK_REFUSED)
		log_fields(LOG_WARNING, fields, "the daemon refuses the domain: %s", reason);
	else
		log_fields(LOG_DEBUG, fields, "%s", reason);
}

static void verdict(void *opaque, uint32_t caller, uint32_t target, const struct cpupolicy_verdict *v)
{
	/* nothing is asked: what is not granted is not plugged */
}

/* ---- what happens ---- */

void surrogate_plugged(struct surrogate *s, const struct plug *p)
{
	struct vcpu *v;

	if (p->vcpu >= s->possible)
		return;
	v = &s->vcpus[p->vcpu];
	v->plugging = false;
	switch (p->result) {
	case PLUG_DONE:
		log_vcpu(s, LOG_INFO, p->vcpu, p->on ? "is plugged" : "is unplugged", NULL);
		if (p->on && !v->present) {
			v->fixed = false;
			came(s, p->vcpu);
		} else if (!p->on && v->present) {
			went(s, p->vcpu, CPUPOLICY_EJECT_REQUESTED);
		}
		break;
	case PLUG_ASKED:
		log_vcpu(s, LOG_INFO, p->vcpu, "was asked back, and the guest has not given it yet", NULL);
		break;
	case PLUG_UNREACHABLE:
		v->tried_on = v->tried_off = false;
		return;
	case PLUG_FAILED:
		log_vcpu(s, LOG_WARNING, p->vcpu, p->on ? "cannot be plugged" : "cannot be unplugged", p->error);
		cpupolicy_ost(s->c, p->vcpu, p->on ? OST_DEVICE_CHECK : OST_EJECT_REQUEST,
			      p->on ? OST_FAILURE : OST_EJECT_IN_USE);
		break;
	}
	reconcile(s);
}

void surrogate_ost(struct surrogate *s, uint32_t vcpu, uint32_t source, uint32_t status)
{
	if (vcpu == 0 || vcpu >= s->possible)
		return;
	if ((source == OST_EJECT_REQUEST || source == OST_EJECT_BY_GUEST) && status == OST_SUCCESS) {
		if (!s->vcpus[vcpu].present)
			return;
		s->vcpus[vcpu].given_back = true;
		went(s, vcpu, source == OST_EJECT_REQUEST ? CPUPOLICY_EJECT_REQUESTED : CPUPOLICY_EJECT_GUEST);
	} else {
		cpupolicy_ost(s->c, vcpu, source, status);
	}
}

static bool is_same(const struct surrogate *s, const struct domain_facts *f)
{
	return f->possible == s->possible && f->hotplug == s->hotplug && strcmp(f->name, s->name) == 0;
}

/* True: somebody else has plugged or unplugged. */
static bool take_vcpus(struct surrogate *s, const struct domain_facts *f)
{
	bool changed = false;

	for (uint32_t i = 1; i < s->possible; i++) {
		struct vcpu *v = &s->vcpus[i];
		bool present = f->vcpus[i] & DOMAIN_VCPU_PRESENT;

		if (!present)
			v->given_back = false;
		/* what libvirt is at is told by its end */
		if (v->plugging)
			continue;
		v->fixed = f->vcpus[i] & DOMAIN_VCPU_FIXED;
		present = present && !v->given_back;
		if (present == v->present)
			continue;
		log_vcpu(s, LOG_INFO, i, present ? "was plugged by somebody else" : "was unplugged by somebody else",
			 NULL);
		v->present = present;
		/* whoever it was: policy holds, so it is tried anew */
		v->tried_on = v->tried_off = false;
		changed = true;
	}
	return changed;
}

bool surrogate_update(struct surrogate *s, const struct domain_facts *facts)
{
	if (!is_same(s, facts))
		return false;
	if (s->paused != facts->paused) {
		s->paused = facts->paused;
		cpupolicy_run_state(s->c, s->paused ? CPUPOLICY_RUN_PAUSED : CPUPOLICY_RUN_RUNNING);
	}
	if (take_vcpus(s, facts))
		cpupolicy_resync(s->c);
	reconcile(s);
	return true;
}

/* ---- life ---- */

static void on_io(int fd, unsigned events, void *userdata)
{
	struct surrogate *s = userdata;
	int r = cpupolicy_dispatch(s->c);

	if (r < 0)
		log_vcpu(s, LOG_ERR, 0, "is not followed any more", strerror(-r));
}

static const struct cpupolicy_ops ops = {
	.policy_changed = policy_changed,
	.link_changed = link_changed,
	.verdict = verdict,
	.get_state = get_state,
};

static uint32_t flags_of(const struct domain_facts *f)
{
	uint32_t present = domain_facts_count(f, DOMAIN_VCPU_PRESENT);
	uint32_t fixed = domain_facts_count(f, DOMAIN_VCPU_PRESENT | DOMAIN_VCPU_FIXED);

	if (!f->hotplug)
		return CPUPOLICY_MEANS_NONE << CPUPOLICY_REG_MEANS_SHIFT;
	/* where some of them can go, those that cannot answer for themselves */
	return CPUPOLICY_REG_NOTIFY | (fixed < present || fixed == 1 ? CPUPOLICY_REG_BOOT_REMOVABLE : 0) |
	       CPUPOLICY_MEANS_HOTPLUG << CPUPOLICY_REG_MEANS_SHIFT;
}

static int new_library(struct surrogate *s, const struct domain_facts *f)
{
	struct cpupolicy_identity identity = {
		.name = s->name,
		.possible = f->possible,
		.boot = domain_facts_count(f, DOMAIN_VCPU_PRESENT),
		.flags = flags_of(f),
	};
	_cleanup_free_ uint64_t *mpidrs = calloc(f->possible, sizeof(*mpidrs));
	int r;

	if (!mpidrs || uuid_parse(identity.uuid, f->uuid) < 0)
		return mpidrs ? -EINVAL : -ENOMEM;
	/* of no meaning where there is no PSCI, but unique */
	for (uint32_t i = 0; i < f->possible; i++)
		mpidrs[i] = (i & 0xff) | (uint64_t)(i >> 8) << 8;
	identity.mpidrs = mpidrs;
	r = cpupolicy_new(&s->c, &identity, &ops, s);
	if (r >= 0)
		r = loop_io_new(&s->io, s->setup.loop, cpupolicy_get_fd(s->c), LOOP_READ, on_io, s);
	return r < 0 ? r : cpupolicy_start_path(s->c, s->setup.socket);
}

int surrogate_new(struct surrogate **ret, const struct surrogate_setup *setup, const struct domain_facts *facts)
{
	struct surrogate *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->setup = *setup;
	s->possible = facts->possible;
	s->hotplug = facts->hotplug;
	s->paused = facts->paused;
	memcpy(s->uuid, facts->uuid, sizeof(s->uuid));
	s->name = strdup(facts->name);
	s->vcpus = calloc(s->possible, sizeof(*s->vcpus));
	r = s->name && s->vcpus ? 0 : -ENOMEM;
	for (uint32_t i = 0; r >= 0 && i < s->possible; i++) {
		s->vcpus[i].present = facts->vcpus[i] & DOMAIN_VCPU_PRESENT;
		s->vcpus[i].fixed = facts->vcpus[i] & DOMAIN_VCPU_FIXED;
	}
	if (r >= 0)
		r = new_library(s, facts);
	if (r < 0) {
		surrogate_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct surrogate *surrogate_free(struct surrogate *s)
{
	if (!s)
		return NULL;
	loop_io_free(s->io);
	cpupolicy_free(s->c);
	free(s->vcpus);
	free(s->name);
	free(s);
	return NULL;
}

void surrogate_ended(struct surrogate *s, enum cpupolicy_unregister_cause cause)
{
	cpupolicy_unregister(s->c, cause, UNREGISTER_MS);
}
