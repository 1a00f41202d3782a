/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_COMPAT_H
#define HW_CPUPOLICY_COMPAT_H

/* What has another name or place in one of the QEMU series that the glue builds with (patches/). */

/* 10.1 moved them, dissolved exec-all.h, and made the data of classes const. */
#if __has_include("system/memory.h")
#include "system/address-spaces.h"
#include "system/memory.h"
typedef const void *cpu_policy_class_data;
#else
#include "exec/address-spaces.h"
#include "exec/exec-all.h"
#include "exec/memory.h"
typedef void *cpu_policy_class_data;
#endif

#endif
