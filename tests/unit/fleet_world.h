/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_FLEET_WORLD_H
#define TESTS_FLEET_WORLD_H

/*
 * A host full of VMs around the fleet: guests that give back what they are asked for, at once, late, or never; a disk that
 * takes its time and may fail; a daemon that is killed and comes back; clients and operators who ask for all there is to
 * ask for. Everything random comes from one seed. Usage and credit are counted a second time, apart from the fleet, from
 * what the page words say; against that, and against the rules, the fleet is checked after every step.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/fleet.h"

#define FLEET_WORLD_VMS     24
#define FLEET_WORLD_VCPUS   16
#define FLEET_WORLD_CLASSES 8
#define FLEET_WORLD_TENANTS 4

enum guest { GUEST_QUICK, GUEST_SLOW, GUEST_REFUSES };

/* Counted here, from the words. */
struct count {
	uint64_t since;
	uint32_t enabled, guaranteed; /* since then */
	const struct service_class *class;
	bool billed;
	uint64_t guaranteed_ns, burst_ns;
	int64_t balance;
	uint64_t closed_guaranteed, closed_burst; /* rows that ended */
};

struct fleet_record {
	bool present;
	bool stopped;
	uint32_t boot, desired, millis, epoch;
	bool desired_set, boot_removable, notify;
	uint8_t enabled[FLEET_WORLD_VCPUS / 8], wanted[FLEET_WORLD_VCPUS / 8];
	struct job job, last_job;
	struct fleet_saved saved;
	uint32_t class, tenant;
	struct count count;
};

struct fleet_world_vm {
	struct fleet_vm member; /* core NULL: not there */
	char name[8];
	uint32_t possible;
	uint32_t class, tenant; /* as assigned */
	enum guest guest;
	struct count count;
	uint32_t held;  /* before the event */
	uint32_t quota; /* that the provider was last told */
	bool writing;
	uint64_t revision; /* of the write */
	struct fleet_record write, disk;
};

struct fleet_world {
	uint64_t seed, random, events, now, last_job;
	struct fleet f;
	struct service_class classes[2][FLEET_WORLD_CLASSES];
	struct fleet_tenant tenants[2][FLEET_WORLD_TENANTS];
	unsigned policy; /* which of the two is in force */
	bool observe;
	struct fleet_world_vm vms[FLEET_WORLD_VMS];
	uint64_t hash;      /* of all that came out */
	unsigned hand_over; /* to another fleet, each so many steps; 0: never */
	uint64_t steps, handed_over;
	/* So that a test may see that it tested something. */
	uint64_t kinds[FLEET_EVENT_MAX + 1], refused[RULE_MAX + 1], bound[RULE_MAX + 1], lent, revoked, capped,
		fractional, calm, crashes, reloads;
};

void fleet_world_init(struct fleet_world *w, uint64_t seed);
void fleet_world_done(struct fleet_world *w);
/* One random event, and all checks. */
void fleet_world_step(struct fleet_world *w);
/* Everybody does as they are asked, until nothing moves any more: then nobody lacks what they are entitled to. */
void fleet_world_settle(struct fleet_world *w);

/* ---- fleet_world_check.c ---- */

uint64_t fleet_world_chance(struct fleet_world *w, uint64_t below);
void fleet_world_hash(struct fleet_world *w, uint64_t value);
_Noreturn void fleet_world_wrong(const struct fleet_world *w, const struct fleet_world_vm *x, const char *what,
				 uint64_t a, uint64_t b);
struct fleet_world_vm *fleet_world_of(const struct fleet_vm *m);
/* What it had until now; and what it has from now on. */
void fleet_world_count(struct fleet_world *w, struct fleet_world_vm *x);
void fleet_world_recount(struct fleet_world_vm *x);
void fleet_world_row(const struct fleet_vm *m, const struct usage_row *row, void *userdata);
/* The fleet's count is the same. */
void fleet_world_check_count(struct fleet_world *w, struct fleet_world_vm *x);
/* Any classes and quotas at all. */
void fleet_world_draw_policy(struct fleet_world *w, unsigned policy);
/* The rules hold. */
void fleet_world_check(struct fleet_world *w);

#endif
