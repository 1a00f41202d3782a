/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entry of the boot vCPU and of the others: a stack each, then C. The MMU stays off. */

	.section .text.start, "ax"
	.global	_start
_start:
	ldr	x0, =stacks_end
	mov	sp, x0
	ldr	x0, =bss_start
	ldr	x1, =bss_end
0:	cmp	x0, x1
	b.hs	1f
	str	xzr, [x0], #8
	b	0b
1:	bl	boot_main
2:	wfi
	b	2b

	/* PSCI enters here with the context in x0. The time of the first instruction goes to C in x1. */
	.global	secondary_start
secondary_start:
	mrs	x1, cntvct_el0
	mrs	x2, mpidr_el1
	and	x2, x2, #7
	ldr	x3, =stacks_end
	sub	x3, x3, x2, lsl #12
	mov	sp, x3
	bl	secondary_main
	b	2b

	.global	hvc
hvc:
	hvc	#0
	ret

	.global	smc
smc:
	smc	#0
	ret
