/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_REPORT_H
#define CPUPOLICY_REPORT_H

/*
 * What the VMM tells the daemon: events in the order in which they happened, out of a bounded buffer. Where that is full,
 * events are dropped and the whole state is sent once there is room. Denials are counted and sent at intervals, so that
 * a guest that insists costs the daemon ten messages per second and vCPU, not one per call.
 *
 * Without a session nothing is queued: the registration that begins the next one carries the state.
 */

#include "session.h"

/* `payload`: the fixed payload of the request, in host order. */
void cpupolicy_report_event(struct cpupolicy *c, enum cpupolicy_request request, const void *payload);
void cpupolicy_report_denied(struct cpupolicy *c, uint32_t vcpu, enum cpupolicy_reason reason);
/* What is due by now. Returns when to come again, UINT64_MAX: not of its own accord. */
uint64_t cpupolicy_report_flush(struct cpupolicy *c, uint64_t now);
/* Fills `possible` vCPUs and returns the run state, both as the VMM tells them. */
enum cpupolicy_run_state cpupolicy_report_collect(struct cpupolicy *c, struct cpupolicy_vcpu *vcpus);
void cpupolicy_report_confirm(struct cpupolicy *c);

#endif
