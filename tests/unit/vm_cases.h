/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_VM_CASES_H
#define TESTS_VM_CASES_H

/* The parts of check_vm, a file for each. */

#include <check.h>

TCase *vm_table_case(void);   /* every state times every event */
TCase *vm_life_case(void);    /* start, resume, loss, verdicts, the page's words */
TCase *vm_resize_case(void);  /* requests and jobs */
TCase *vm_durable_case(void); /* what the disk has to do with them */
TCase *vm_quota_case(void);   /* CPU time */

#endif
