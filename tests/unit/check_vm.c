/* SPDX-License-Identifier: GPL-2.0-or-later */

#include <check.h>
#include <stdlib.h>

#include "tests/unit/vm_cases.h"

int main(void)
{
	Suite *s = suite_create("vm");
	SRunner *r;
	int failed;

	suite_add_tcase(s, vm_table_case());
	suite_add_tcase(s, vm_life_case());
	suite_add_tcase(s, vm_resize_case());
	suite_add_tcase(s, vm_durable_case());
	suite_add_tcase(s, vm_quota_case());
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
