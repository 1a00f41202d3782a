/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "tests/unit/rmm_model.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "qemu-glue/hw/rmi.h"

void rmm_init(struct rmm *rmm, uint32_t n)
{
	*rmm = (struct rmm){.n = n};
	for (uint32_t i = 0; i < n; i++)
		rmm->recs[i] = (struct rmm_rec){
			/* 16 to a cluster, as KVM and QEMU have them for GICv3 */
			.mpidr = (uint64_t)(i / 4) << 8 | (i % 4),
			.runnable = i == 0,
			.stopped = i != 0,
		};
}

static struct rmm_rec *by_mpidr(struct rmm *rmm, uint64_t mpidr)
{
	for (uint32_t i = 0; i < rmm->n; i++)
		if (rmm->recs[i].mpidr == mpidr)
			return &rmm->recs[i];
	return NULL;
}

/* ---- RMI ---- */

enum rmm_result rmm_enter(struct rmm *rmm, uint32_t rec)
{
	struct rmm_rec *r = &rmm->recs[rec];

	if (rmm->over)
		return RMM_ERROR_REALM;
	if (r->entered || !r->runnable || r->pending)
		return RMM_ERROR_REC;
	r->entered = true;
	return RMM_SUCCESS;
}

void rmm_leave(struct rmm *rmm, uint32_t rec)
{
	rmm->recs[rec].entered = false;
}

static void answer(struct rmm_rec *calling, int64_t x0)
{
	calling->x0 = x0;
	calling->pending = false;
}

/* On, to the one who asks: a REC that is entered counts as running even while it leaves. */
static bool is_on(const struct rmm_rec *rec)
{
	return rec->runnable || rec->entered;
}

static bool is_affinity_info(const struct rmm_rec *calling)
{
	return (uint32_t)calling->call[0] == RMM_PSCI_AFFINITY_INFO;
}

static bool status_permitted(const struct rmm_rec *calling, const struct rmm_rec *target, int32_t status)
{
	if (status == RMM_PSCI_SUCCESS)
		return true;
	return status == RMM_PSCI_DENIED && !is_affinity_info(calling) && !is_on(target);
}

static enum rmm_result complete(struct rmm *rmm, struct rmm_rec *calling, struct rmm_rec *target, int32_t status)
{
	if (calling == target || calling->entered || !calling->pending || target->mpidr != calling->call[1] ||
	    !status_permitted(calling, target, status))
		return RMM_ERROR_INPUT;
	if (is_affinity_info(calling)) {
		answer(calling, is_on(target) ? RMM_AFFINITY_ON : RMM_AFFINITY_OFF);
	} else if (is_on(target)) {
		rmm->already++;
		answer(calling, RMM_PSCI_ALREADY_ON);
	} else if (status == RMM_PSCI_DENIED) {
		rmm->denied++;
		answer(calling, RMM_PSCI_DENIED);
	} else {
		rmm->started++;
		target->pc = calling->call[2];
		target->x0 = (int64_t)calling->call[3];
		target->runnable = true;
		answer(calling, RMM_PSCI_SUCCESS);
	}
	return RMM_SUCCESS;
}

enum rmm_result rmm_psci_complete(struct rmm *rmm, uint32_t calling, uint32_t target, int32_t status)
{
	enum rmm_result result = complete(rmm, &rmm->recs[calling], &rmm->recs[target], status);

	if (result != RMM_SUCCESS)
		rmm->refused++;
	return result;
}

/* ---- KVM ---- */

static int psci_complete(struct rmm *rmm, uint32_t vcpu, const struct cpu_policy_kvm_psci_complete *request)
{
	struct rmm_rec *target;

	if (rmm->ordinary || rmm->without_ioctl)
		return -EINVAL;
	if (!request)
		return -EFAULT;
	target = by_mpidr(rmm, request->target_mpidr);
	if (!target || request->padding[0] || request->padding[1] || request->padding[2]) {
		rmm->refused++;
		return -EINVAL;
	}
	return rmm_psci_complete(rmm, vcpu, (uint32_t)(target - rmm->recs), (int32_t)request->psci_status) ==
			       RMM_SUCCESS
		       ? 0
		       : -EINVAL;
}

int rmm_vcpu_ioctl(struct rmm *rmm, uint32_t vcpu, unsigned long request, void *arg)
{
	struct rmm_rec *rec = &rmm->recs[vcpu];

	/* The descriptor is busy while the vCPU runs: a host that tries would wait for the guest. */
	if (rec->entered) {
		rmm->foreign++;
		return -EBUSY;
	}
	if (request == CPU_POLICY_KVM_PSCI_COMPLETE)
		return psci_complete(rmm, vcpu, arg);
	if (request == KVM_SET_MP_STATE) {
		rec->stopped = ((struct kvm_mp_state *)arg)->mp_state == KVM_MP_STATE_STOPPED;
		return 0;
	}
	rmm->foreign++;
	return -EINVAL;
}

int rmm_vm_ioctl(struct rmm *rmm, unsigned long request, uintptr_t arg)
{
	if (request != KVM_CHECK_EXTENSION) {
		rmm->foreign++;
		return -EINVAL;
	}
	return arg == CPU_POLICY_KVM_CAP_ARM_RMI && !rmm->ordinary;
}

/* ---- PSCI of a REC ---- */

static bool leave(struct rmm_rec *rec, uint64_t function, uint64_t mpidr)
{
	rec->exit[0] = function;
	rec->exit[1] = mpidr;
	return true;
}

static bool forward(struct rmm_rec *rec)
{
	rec->pending = true;
	return leave(rec, rec->call[0], rec->call[1]);
}

static bool answered(struct rmm_rec *rec, int64_t x0)
{
	rec->x0 = x0;
	return false;
}

static bool cpu_on(struct rmm *rmm, struct rmm_rec *rec)
{
	const struct rmm_rec *target = by_mpidr(rmm, rec->call[1]);

	if (rec->call[2] >= RMM_PROTECTED_END)
		return answered(rec, RMM_PSCI_INVALID_ADDRESS);
	if (!target)
		return answered(rec, RMM_PSCI_INVALID_PARAMS);
	if (target == rec)
		return answered(rec, RMM_PSCI_ALREADY_ON);
	return forward(rec);
}

static bool affinity_info(struct rmm *rmm, struct rmm_rec *rec)
{
	const struct rmm_rec *target = by_mpidr(rmm, rec->call[1]);

	if (rec->call[2] != 0 || !target)
		return answered(rec, RMM_PSCI_INVALID_PARAMS);
	if (target == rec)
		return answered(rec, RMM_AFFINITY_ON);
	return forward(rec);
}

bool rmm_call(struct rmm *rmm, uint32_t index, uint64_t function, uint64_t x1, uint64_t x2, uint64_t x3)
{
	struct rmm_rec *rec = &rmm->recs[index];

	memcpy(rec->call, (uint64_t[]){function, x1, x2, x3}, sizeof(rec->call));
	switch ((uint32_t)function) {
	case RMM_PSCI_CPU_ON_32:
	case RMM_PSCI_CPU_ON:
		return cpu_on(rmm, rec);
	case RMM_PSCI_AFFINITY_INFO:
		return affinity_info(rmm, rec);
	case RMM_PSCI_CPU_SUSPEND:
		rec->x0 = RMM_PSCI_SUCCESS;
		return leave(rec, function, 0);
	case RMM_PSCI_CPU_OFF:
		rec->runnable = false;
		return leave(rec, function, 0);
	case RMM_PSCI_SYSTEM_OFF:
	case RMM_PSCI_SYSTEM_RESET:
		rmm->over = true;
		return leave(rec, function, 0);
	default:
		return answered(rec, RMM_PSCI_NOT_SUPPORTED);
	}
}
