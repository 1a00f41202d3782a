/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_PLUG_H
#define HW_CPUPOLICY_PLUG_H

/*
 * What the guest has been told about each vCPU, and what it still has to be told.
 *
 * The policy page says what should be; a slot here says what the guest can see (_STA) and which notifications are on
 * their way. Pure: no QEMU call, no clock, no I/O. The caller raises the event, reports to the daemon, and serialises.
 *
 * A notification has two lives that are kept apart. Its *flag* is raised until the guest's scan method reads it; that
 * proves that a driver listens, nothing more. The *request* is over when the guest answered (_OST, _EJ0, a successful
 * CPU_ON), when policy withdrew it, or at a reset.
 */

#include <stdbool.h>
#include <stdint.h>

#include "proto/libcpupolicy.h"

struct cpu_policy_slot {
	bool enabled;     /* _STA says Enabled */
	bool boot;        /* enabled when the machine started */
	bool acked;       /* the guest answered the insertion, used the vCPU, or was reset since */
	bool insert_flag; /* device check raised, not read yet */
	bool eject_flag;  /* eject request raised, not read yet */
	bool eject_asked; /* an eject is requested: raised once, again only when the page's serial changes */
	bool eject_seen;  /* the guest has read an eject request: if it ejects now, it was asked to */
	bool ejecting;    /* _EJ0 came while the vCPU was on: done when it is off */
	uint8_t serial;   /* of the page word applied last */
	uint32_t grant;
};

enum cpu_policy_effect {
	CPU_POLICY_EFFECT_NONE,
	CPU_POLICY_EFFECT_RAISE,      /* a flag was raised: send the event */
	CPU_POLICY_EFFECT_GIVEN_BACK, /* asked back before the guest ever saw it: report it as ejected */
};

/* Values of ACPI's Notify for a processor device, and of _OST's source event. */
#define CPU_POLICY_NOTIFY_CHECK 1u
#define CPU_POLICY_NOTIFY_EJECT 3u

/* Takes the policy as it is, tells nobody: at machine start and at a reset, when nobody has looked yet. */
void cpu_policy_slot_reset(struct cpu_policy_slot *s, const struct cpupolicy_view *view);
enum cpu_policy_effect cpu_policy_slot_apply(struct cpu_policy_slot *s, const struct cpupolicy_view *view, bool online);
/* The guest reads its notification: CPU_POLICY_NOTIFY_*, 0 if there is none. */
uint32_t cpu_policy_slot_claim(struct cpu_policy_slot *s);
bool cpu_policy_slot_raised(const struct cpu_policy_slot *s);
void cpu_policy_slot_ost(struct cpu_policy_slot *s, uint32_t event, uint32_t status);
void cpu_policy_slot_powered_on(struct cpu_policy_slot *s);
/* The guest gives it back. Returns the cause to report. */
enum cpupolicy_eject_cause cpu_policy_slot_eject(struct cpu_policy_slot *s);

#endif
