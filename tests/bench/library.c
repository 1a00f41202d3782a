/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/library.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/bench/bench.h"
#include "tests/bench/vmm.h"

static void policy_changed(void *opaque)
{
	struct library *l = opaque;

	cpupolicy_confirm(l->policy);
}

static void verdict(void *opaque, uint32_t caller __attribute__((unused)), uint32_t target __attribute__((unused)),
		    const struct cpupolicy_verdict *v)
{
	struct library *l = opaque;

	l->verdicts++;
	l->latest = *v;
}

static enum cpupolicy_run_state get_state(void *opaque, struct cpupolicy_vcpu *vcpus, uint32_t n)
{
	struct library *l = opaque;

	l->states++;
	for (uint32_t i = 0; i < n; i++)
		vcpus[i].flags = i == 0 ? CPUPOLICY_VCPU_ONLINE | CPUPOLICY_VCPU_ENABLED : 0;
	return CPUPOLICY_RUN_RUNNING;
}

static const struct cpupolicy_ops ops = {
	.policy_changed = policy_changed,
	.verdict = verdict,
	.get_state = get_state,
};

void library_start(struct library *l, const char *path, const char *name, uint32_t possible, uint32_t boot)
{
	uint64_t mpidrs[CPUPOLICY_MAX_VCPUS];
	struct cpupolicy_identity identity = {.name = name,
					      .possible = possible,
					      .boot = boot,
					      .mpidrs = mpidrs,
					      .flags = CPUPOLICY_REG_NOTIFY | CPUPOLICY_REG_BOOT_REMOVABLE};
	int r;

	*l = (struct library){0};
	for (uint32_t i = 0; i < possible; i++)
		mpidrs[i] = vmm_mpidr(i);
	vmm_uuid(identity.uuid);
	r = cpupolicy_new(&l->policy, &identity, &ops, l);
	if (r >= 0)
		r = cpupolicy_start_path(l->policy, path);
	if (r >= 0)
		r = cpupolicy_wait(l->policy, 10000);
	if (r < 0)
		bench_fail("%s: not registered: %s", path, strerror(-r));
	library_dispatch(l, 0);
}

void library_dispatch(struct library *l, int timeout_ms)
{
	struct pollfd p = {.fd = cpupolicy_get_fd(l->policy), .events = POLLIN};

	if (poll(&p, 1, timeout_ms) < 0)
		bench_fail("poll: %s", strerror(errno));
	if (p.revents == 0)
		return;
	if (cpupolicy_dispatch(l->policy) < 0 || cpupolicy_link(l->policy) != CPUPOLICY_LINK_REGISTERED)
		bench_fail("the link to the daemon ended: %s", cpupolicy_link_reason(l->policy));
}

void library_end(struct library *l)
{
	l->policy = cpupolicy_free(l->policy);
}
