/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef HW_CPUPOLICY_AML_H
#define HW_CPUPOLICY_AML_H

/* The register block's layout, shared by the device (regs.c) and the methods that use it (aml.c). */

#define CPU_POLICY_REG_SELECT     0x00
#define CPU_POLICY_REG_STATUS     0x04
#define CPU_POLICY_REG_EJECT      0x08
#define CPU_POLICY_REG_OST_EVENT  0x0c
#define CPU_POLICY_REG_OST_STATUS 0x10
#define CPU_POLICY_REG_NOTIFY     0x14

#define CPU_POLICY_STATUS_ENABLED 0x1

#define CPU_POLICY_NOTIFY_INDEX_MASK 0xffff
#define CPU_POLICY_NOTIFY_KIND_SHIFT 16

#endif
