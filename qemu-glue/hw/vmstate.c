/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration and snapshots: what the guest knows travels with the guest.
 *
 * Saved: which vCPUs it sees as enabled and which it gave back, what it still has to be told, the registers between two
 * accesses of an ACPI method, and the session's token, by which the daemon knows the other side for the same VM. Not
 * saved: policy. The other side's page rules there, and what was loaded is compared with it.
 *
 * A section of its own, which exists only with the object.
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"

#include "glue.h"

/* Flags of struct cpu_policy_image_vcpu; part of the format. */
#define IMAGE_ENABLED     0x01
#define IMAGE_BOOT        0x02
#define IMAGE_ACKED       0x04
#define IMAGE_INSERT_FLAG 0x08
#define IMAGE_EJECT_FLAG  0x10
#define IMAGE_EJECT_ASKED 0x20
#define IMAGE_EJECT_SEEN  0x40
#define IMAGE_EJECTING    0x80
#define IMAGE_EJECTED     0x100

static const struct {
	uint32_t flag;
	size_t member;
} image_flags[] = {
	{IMAGE_ENABLED, offsetof(struct cpu_policy_slot, enabled)},
	{IMAGE_BOOT, offsetof(struct cpu_policy_slot, boot)},
	{IMAGE_ACKED, offsetof(struct cpu_policy_slot, acked)},
	{IMAGE_INSERT_FLAG, offsetof(struct cpu_policy_slot, insert_flag)},
	{IMAGE_EJECT_FLAG, offsetof(struct cpu_policy_slot, eject_flag)},
	{IMAGE_EJECT_ASKED, offsetof(struct cpu_policy_slot, eject_asked)},
	{IMAGE_EJECT_SEEN, offsetof(struct cpu_policy_slot, eject_seen)},
	{IMAGE_EJECTING, offsetof(struct cpu_policy_slot, ejecting)},
};

static bool *slot_member(struct cpu_policy_slot *slot, size_t i)
{
	return (bool *)((char *)slot + image_flags[i].member);
}

static int pre_save(void *opaque)
{
	CpuPolicy *pol = opaque;
	struct cpupolicy_saved saved;

	cpupolicy_save(pol->lib, &saved);
	memcpy(pol->image.token, saved.token, sizeof(pol->image.token));
	pol->image.epoch = saved.epoch;

	for (uint32_t i = 0; i < pol->possible; i++) {
		struct cpu_policy_slot *slot = &pol->vcpus[i].slot;
		struct cpupolicy_view view;

		cpupolicy_view(pol->lib, i, &view);
		pol->image.vcpus[i] = (struct cpu_policy_image_vcpu){
			.flags = view.ejected ? IMAGE_EJECTED : 0,
			.grant = slot->grant,
			.serial = slot->serial,
		};
		for (size_t k = 0; k < ARRAY_SIZE(image_flags); k++)
			pol->image.vcpus[i].flags |= *slot_member(slot, k) ? image_flags[k].flag : 0;
	}
	return 0;
}

/*
 * A mark of the loaded state says that the guest gave the vCPU back under the grant that the state names. It holds here
 * if that is still the grant, or where the daemon has not numbered any grant yet; a newer one overrides it.
 */
static void restore_mark(CpuPolicy *pol, uint32_t i, bool live)
{
	const struct cpu_policy_image_vcpu *image = &pol->image.vcpus[i];
	uint32_t epoch, generation;
	struct cpupolicy_view view;

	cpupolicy_generation(pol->lib, &epoch, &generation);
	cpupolicy_view(pol->lib, i, &view);
	cpupolicy_restore_ejected(pol->lib, i,
				  (image->flags & IMAGE_EJECTED) &&
					  (!live || (pol->image.epoch == epoch && image->grant == view.grant)));
}

/* A local page has no other memory than the guest's own. */
static void restore_local(CpuPolicy *pol)
{
	for (uint32_t i = 1; i < pol->possible; i++) {
		const struct cpu_policy_slot *slot = &pol->vcpus[i].slot;

		cpupolicy_local_set(pol->lib, i, slot->enabled && !slot->eject_asked);
	}
}

/* After all of the machine is loaded, and the page has been read by nobody in between. */
static void reconcile(void *opaque)
{
	CpuPolicy *pol = opaque;

	cpupolicy_resync(pol->lib);
	cpu_policy_session_apply(pol);
	cpu_policy_session_dispatch(pol);
}

static int post_load(void *opaque, int version_id)
{
	CpuPolicy *pol = opaque;
	bool live = pol->started;
	struct cpupolicy_saved saved = {.epoch = pol->image.epoch};

	memcpy(saved.token, pol->image.token, sizeof(saved.token));
	for (uint32_t i = 0; i < pol->possible; i++) {
		struct cpu_policy_slot *slot = &pol->vcpus[i].slot;

		for (size_t k = 0; k < ARRAY_SIZE(image_flags); k++)
			*slot_member(slot, k) = pol->image.vcpus[i].flags & image_flags[k].flag;
		slot->grant = pol->image.vcpus[i].grant;
		slot->serial = pol->image.vcpus[i].serial;
		restore_mark(pol, i, live);
	}
	pol->ran = true;
	pol->settled = true;

	if (!live) {
		Error *err = NULL;
		int r;

		pol->arriving = true;
		cpupolicy_restore(pol->lib, &saved);
		r = cpu_policy_session_start(pol, &err);
		if (r < 0) {
			error_report_err(err);
			return r;
		}
	}
	if (pol->standalone)
		restore_local(pol);
	/* In the main loop alone, not in the nested ones that loading may run. */
	aio_bh_schedule_oneshot(iohandler_get_aio_context(), reconcile, pol);
	return 0;
}

static const VMStateDescription vmstate_vcpu = {
	.name = "cpu-policy/vcpu",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields =
		(const VMStateField[]){
			VMSTATE_UINT32(flags, struct cpu_policy_image_vcpu),
			VMSTATE_UINT32(grant, struct cpu_policy_image_vcpu),
			VMSTATE_UINT32(serial, struct cpu_policy_image_vcpu),
			VMSTATE_END_OF_LIST(),
		},
};

static const VMStateDescription vmstate_cpu_policy = {
	.name = "cpu-policy",
	.version_id = 1,
	.minimum_version_id = 1,
	.pre_save = pre_save,
	.post_load = post_load,
	.fields =
		(const VMStateField[]){
			VMSTATE_UINT32_EQUAL(image.possible, CpuPolicy, NULL),
			VMSTATE_UINT32(image.epoch, CpuPolicy),
			VMSTATE_UINT8_ARRAY(image.token, CpuPolicy, CPUPOLICY_TOKEN_SIZE),
			VMSTATE_STRUCT_VARRAY_POINTER_UINT32(image.vcpus, CpuPolicy, image.possible, vmstate_vcpu,
							     struct cpu_policy_image_vcpu),
			VMSTATE_UINT32(selected, CpuPolicy),
			VMSTATE_UINT32(ost_event, CpuPolicy),
			VMSTATE_END_OF_LIST(),
		},
};

void cpu_policy_vmstate_init(CpuPolicy *pol)
{
	pol->image.possible = pol->possible;
	pol->image.vcpus = g_new0(struct cpu_policy_image_vcpu, pol->possible);
	vmstate_register(NULL, 0, &vmstate_cpu_policy, pol);
}
