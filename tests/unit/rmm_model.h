/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_UNIT_RMM_MODEL_H
#define TESTS_UNIT_RMM_MODEL_H

/*
 * A realm, as the Realm Management Monitor keeps it (Arm DEN0137, version 1.0: PSCI calls of a REC, RMI_REC_ENTER, and
 * RMI_PSCI_COMPLETE), behind the ioctls that KVM's realm series offers for it. What the specification says to be an error
 * of the host is refused here, and counted.
 *
 * The guest is the test: it makes calls while its REC is entered, and finds the answer in x0 at the next entry. A REC on
 * its way out counts as entered until rmm_leave().
 */

#include <stdbool.h>
#include <stdint.h>

#define RMM_RECS_MAX 8u

/* PSCI, as the guest sees it */
#define RMM_PSCI_CPU_SUSPEND   0xC4000001u
#define RMM_PSCI_CPU_OFF       0x84000002u
#define RMM_PSCI_CPU_ON_32     0x84000003u
#define RMM_PSCI_CPU_ON        0xC4000003u
#define RMM_PSCI_AFFINITY_INFO 0xC4000004u
#define RMM_PSCI_SYSTEM_OFF    0x84000008u
#define RMM_PSCI_SYSTEM_RESET  0x84000009u

#define RMM_PSCI_SUCCESS         0
#define RMM_PSCI_NOT_SUPPORTED   (-1)
#define RMM_PSCI_INVALID_PARAMS  (-2)
#define RMM_PSCI_DENIED          (-3)
#define RMM_PSCI_ALREADY_ON      (-4)
#define RMM_PSCI_INVALID_ADDRESS (-9)
#define RMM_AFFINITY_ON          0
#define RMM_AFFINITY_OFF         1

/* Above it nothing is the realm's own. */
#define RMM_PROTECTED_END UINT64_C(0x80000000)

enum rmm_result { RMM_SUCCESS, RMM_ERROR_INPUT, RMM_ERROR_REC, RMM_ERROR_REALM };

struct rmm_rec {
	uint64_t mpidr;
	bool runnable;
	bool entered;     /* on a physical CPU */
	bool pending;     /* a PSCI call that the host has to complete */
	uint64_t call[4]; /* x0 to x3 of that call, which the host does not see */
	int64_t x0;       /* what the guest finds */
	uint64_t pc;
	uint64_t exit[2]; /* what the host is told: the function, and its first argument where that is an MPIDR */
	bool stopped;     /* KVM's state of the vCPU, which the host sets */
};

struct rmm {
	uint32_t n;
	bool over; /* SYSTEM_OFF or SYSTEM_RESET */
	struct rmm_rec recs[RMM_RECS_MAX];
	unsigned refused; /* completions that were an error of the host's */
	unsigned foreign; /* ioctls that a realm's host has no business with */
	unsigned started; /* CPU_ONs that RMM answered with SUCCESS, DENIED and ALREADY_ON */
	unsigned denied;
	unsigned already;
	bool without_ioctl; /* a kernel that completes calls by itself */
	bool ordinary;      /* not a realm at all */
};

/* All off but the first, as realms are made. */
void rmm_init(struct rmm *rmm, uint32_t n);

/* ---- the host's side ---- */

enum rmm_result rmm_enter(struct rmm *rmm, uint32_t rec);
/* The REC is off the physical CPU: for an interrupt, or what rmm_call() said. */
void rmm_leave(struct rmm *rmm, uint32_t rec);
enum rmm_result rmm_psci_complete(struct rmm *rmm, uint32_t calling, uint32_t target, int32_t status);

/* As KVM has them: -EINVAL where RMM refuses, -EFAULT without a structure. Any but those of a realm's host count. */
int rmm_vcpu_ioctl(struct rmm *rmm, uint32_t vcpu, unsigned long request, void *arg);
int rmm_vm_ioctl(struct rmm *rmm, unsigned long request, uintptr_t arg);

/* ---- the guest's side ---- */

/* True: the REC leaves, the host is told by `exit`. False: it was answered, and goes on. */
bool rmm_call(struct rmm *rmm, uint32_t rec, uint64_t function, uint64_t x1, uint64_t x2, uint64_t x3);

#endif
