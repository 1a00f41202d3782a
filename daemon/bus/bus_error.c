/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/bus/bus_error.h"

#include "daemon/base/util.h"

const char *bus_error_name(enum host_error error)
{
	static const char *const names[] = {
		[HOST_OK] = SD_BUS_ERROR_FAILED,
		[HOST_NO_SUCH_VM] = BUS_ERROR("NoSuchVm"),
		[HOST_NO_SUCH_JOB] = BUS_ERROR("NoSuchJob"),
		[HOST_NO_SUCH_CLASS] = BUS_ERROR("NoSuchClass"),
		[HOST_NO_SUCH_TENANT] = BUS_ERROR("NoSuchTenant"),
		[HOST_OUT_OF_RANGE] = BUS_ERROR("OutOfRange"),
		[HOST_SLA_LIMIT] = BUS_ERROR("SlaLimit"),
		[HOST_TENANT_QUOTA] = BUS_ERROR("TenantQuota"),
		[HOST_CAPACITY] = BUS_ERROR("HostCapacity"),
		[HOST_CREDIT] = BUS_ERROR("BurstCredit"),
		[HOST_PLUG_RATE] = BUS_ERROR("PlugRate"),
		[HOST_FROZEN] = BUS_ERROR("Frozen"),
		[HOST_DRAINED] = BUS_ERROR("Drained"),
		[HOST_BOOT_VCPU] = BUS_ERROR("BootVcpu"),
		[HOST_NOT_NOTIFIABLE] = BUS_ERROR("NotNotifiable"),
		[HOST_MIGRATING] = BUS_ERROR("Migrating"),
		[HOST_NO_PROVIDER] = BUS_ERROR("NoProvider"),
		[HOST_NOT_PROVIDER] = BUS_ERROR("NotProvider"),
		[HOST_PROVIDER_EXISTS] = BUS_ERROR("ProviderExists"),
		[HOST_NOT_OWNER] = BUS_ERROR("NotOwner"),
		[HOST_LIMITS] = SD_BUS_ERROR_LIMITS_EXCEEDED,
		[HOST_VM_RUNNING] = BUS_ERROR("VmRunning"),
		[HOST_INVALID] = SD_BUS_ERROR_INVALID_ARGS,
		[HOST_INVALID_POLICY] = BUS_ERROR("InvalidPolicy"),
		[HOST_FILE_EXISTS] = BUS_ERROR("FileExists"),
		[HOST_STORAGE] = BUS_ERROR("Storage"),
		[HOST_NO_MEMORY] = SD_BUS_ERROR_NO_MEMORY,
	};

	return (unsigned)error < ARRAY_SIZE(names) && names[error] ? names[error] : SD_BUS_ERROR_FAILED;
}

int bus_error_of_vm(sd_bus_error *ret_error, enum host_error error, const char *vm)
{
	if (error == HOST_NO_SUCH_VM)
		return sd_bus_error_setf(ret_error, bus_error_name(error), "there is no VM \"%.300s\"", vm);
	if (error == HOST_NO_MEMORY)
		return sd_bus_error_set(ret_error, bus_error_name(error), "out of memory");
	return sd_bus_error_setf(ret_error, bus_error_name(error), "VM \"%.300s\" cannot answer this now", vm);
}
