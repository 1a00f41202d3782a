/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See plug.h: the guest's view of each vCPU, as pure state. */

#include "plug.h"

#define OST_EJECT_IN_PROGRESS 0x84u

void cpu_policy_slot_reset(struct cpu_policy_slot *s, const struct cpupolicy_view *view)
{
	*s = (struct cpu_policy_slot){
		.enabled = view->enabled,
		.boot = s->boot,
		.acked = true,
		.serial = view->serial,
		.grant = view->grant,
	};
}

static enum cpu_policy_effect insert(struct cpu_policy_slot *s, bool again)
{
	if (s->eject_asked) {
		/* Withdrawn. One that the guest has read cannot be called back: eject_seen stays. */
		s->eject_asked = false;
		s->eject_flag = false;
		return CPU_POLICY_EFFECT_NONE;
	}

	if (s->enabled && (s->acked || !again))
		return CPU_POLICY_EFFECT_NONE;
	if (!s->enabled) {
		s->enabled = true;
		s->acked = false;
		s->eject_seen = false;
	}
	s->insert_flag = true;
	return CPU_POLICY_EFFECT_RAISE;
}

static enum cpu_policy_effect eject(struct cpu_policy_slot *s, bool again)
{
	if (s->eject_asked && !again)
		return CPU_POLICY_EFFECT_NONE;

	s->insert_flag = false;
	s->eject_asked = true;
	s->eject_flag = true;
	return CPU_POLICY_EFFECT_RAISE;
}

enum cpu_policy_effect cpu_policy_slot_apply(struct cpu_policy_slot *s, const struct cpupolicy_view *view, bool online)
{
	bool again = view->serial != s->serial;

	s->serial = view->serial;
	s->grant = view->grant;

	if (s->ejecting)
		return CPU_POLICY_EFFECT_NONE;
	if (view->enabled && view->wanted)
		return insert(s, again);
	/* Asked back, or not granted any more (a snapshot from richer times): the guest is asked in either case, and
	 * keeps seeing it as enabled until it has answered, as the ACPI specification wants it. */
	if (s->enabled)
		return eject(s, again);
	if (!view->enabled)
		return CPU_POLICY_EFFECT_NONE;
	if (!online)
		return CPU_POLICY_EFFECT_GIVEN_BACK;

	/* Granted, powered on by a guest that knew its number, and asked back, all before one look at the page. */
	s->enabled = true;
	return eject(s, again);
}

uint32_t cpu_policy_slot_claim(struct cpu_policy_slot *s)
{
	if (s->insert_flag) {
		s->insert_flag = false;
		return CPU_POLICY_NOTIFY_CHECK;
	}
	if (s->eject_flag) {
		s->eject_flag = false;
		s->eject_seen = true;
		return CPU_POLICY_NOTIFY_EJECT;
	}
	return 0;
}

bool cpu_policy_slot_raised(const struct cpu_policy_slot *s)
{
	return s->insert_flag || s->eject_flag;
}

void cpu_policy_slot_ost(struct cpu_policy_slot *s, uint32_t event, uint32_t status)
{
	if (event == CPU_POLICY_NOTIFY_CHECK && status == 0)
		s->acked = true;
	/* The guest's last word on a request that was withdrawn: an eject after it is its own idea. */
	if (event == CPU_POLICY_NOTIFY_EJECT && status != OST_EJECT_IN_PROGRESS && !s->eject_asked)
		s->eject_seen = false;
}

void cpu_policy_slot_powered_on(struct cpu_policy_slot *s)
{
	s->acked = true;
	s->insert_flag = false;
}

enum cpupolicy_eject_cause cpu_policy_slot_eject(struct cpu_policy_slot *s)
{
	bool asked = s->eject_asked || s->eject_seen;

	*s = (struct cpu_policy_slot){
		.boot = s->boot,
		.acked = true,
		.serial = s->serial,
		.grant = s->grant,
	};
	return asked ? CPUPOLICY_EJECT_REQUESTED : CPUPOLICY_EJECT_GUEST;
}
