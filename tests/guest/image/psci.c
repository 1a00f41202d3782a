/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a kernel. It makes one firmware call or register access at a time, with exactly
 * the arguments the test names, and says what came back: the order of PSCI's checks, a guest that
 * floods, and one that writes nonsense to the hotplug registers cannot be had from Linux.
 *
 * Commands arrive on the first UART, one a line, numbers in hexadecimal:
 *
 *   @ID c FID A B C      one call from the boot vCPU              -> result
 *   @ID m FID A B C      the same by SMC instead of HVC           -> result
 *   @ID f FID A B C N    N calls, counting                        -> calls that gave the last result, result
 *   @ID s CPU FID A B C  a call made by another vCPU, not awaited -> 0
 *   @ID n CPU            what became of another vCPU              -> times entered, last context, calls, result
 *   @ID u FID CPU X SMC  start another with context X, again, and off; by SMC if that is 1 -> result, context, result, state
 *   @ID t CPU N QUIET    N times on and off again                 -> ticks from the call to the first instruction: each, or the last
 *   @ID q                ticks per second                         -> frequency
 *   @ID p CPU CPU CPU N  N times: two start a third at once       -> one and the other, both, others
 *   @ID o CPU CPU N      N times: one starts another as that ends -> started, too early, others
 *   @ID e                where CPU_ON should enter                -> address
 *   @ID r SIZE ADDR      read a register                          -> value
 *   @ID w SIZE ADDR V    write one                                -> 0
 *
 * and each is answered by "@ID RESULT...". The machine is -M virt with up to eight vCPUs, and
 * with the GIC that it is linked for.
 */

#include <stdint.h>

#include "psci-gic.h"

#define UART      0x09000000UL
#define UART_DR   (UART + 0x00)
#define UART_FR   (UART + 0x18)
#define UART_LCRH (UART + 0x2c)
#define UART_CR   (UART + 0x30)
#define UART_IMSC (UART + 0x38)
#define UART_IRQ  33

#define MAX_CPUS  8
#define MAX_WORDS 8

struct cpu {
	uint64_t entered, context, stamp; /* written by the vCPU itself */
	uint64_t calls, result;
	uint64_t ready;   /* the gate for which it waits */
	uint64_t args[4]; /* written by the boot vCPU before it raises asked */
	uint64_t gate;    /* the call is made when the common gate has got there */
	uint64_t asked;
};

enum { CPU_OFF = 0x84000002, CPU_ON = 0xc4000003, AFFINITY_INFO = 0xc4000004 };
enum { SUCCESS = 0, ALREADY_ON = -4 };
enum { IS_ON = 0, IS_OFF = 1 };

static volatile struct cpu cpus[MAX_CPUS];
static volatile uint64_t gate;

uint64_t hvc(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
uint64_t smc(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
void secondary_start(void);
void boot_main(void);
void secondary_main(uint64_t context, uint64_t stamp);

static void put_char(char c)
{
	/* QEMU's transmitter is never full, and to ask costs as much as a character does. */
	write32(UART_DR, (uint8_t)c);
}

static void put_number(uint64_t value)
{
	int shift = 60;

	while (shift && !(value >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[(value >> shift) & 15]);
}

static void put_hex(uint64_t value)
{
	put_char(' ');
	put_number(value);
}

static char get_char(void)
{
	/* An interrupt that is masked in PSTATE still ends WFI. */
	while (read32(UART_FR) & 0x10)
		asm volatile("wfi" ::: "memory");
	return (char)read32(UART_DR);
}

void secondary_main(uint64_t context, uint64_t stamp)
{
	volatile struct cpu *self;
	uint64_t mpidr;

	asm volatile("mrs %0, mpidr_el1" : "=r"(mpidr));
	self = &cpus[mpidr % MAX_CPUS];
	gic_cpu_init(mpidr % MAX_CPUS);
	self->context = context;
	self->stamp = stamp;
	self->entered++;
	for (;;) {
		gic_clear();
		if (self->asked) {
			self->asked = 0;
			self->ready = self->gate;
			while (gate < self->gate)
				;
			self->result = hvc(self->args[0], self->args[1], self->args[2], self->args[3]);
			self->calls++;
			continue;
		}
		asm volatile("wfi" ::: "memory");
	}
}

static void post_at(uint64_t index, const uint64_t *args, uint64_t at)
{
	volatile struct cpu *cpu = &cpus[index % MAX_CPUS];

	for (int i = 0; i < 4; i++)
		cpu->args[i] = args[i];
	cpu->gate = at;
	cpu->asked = 1;
	asm volatile("dsb sy" ::: "memory");
	gic_wake(index % MAX_CPUS);
}

static void post(uint64_t index, const uint64_t *args)
{
	post_at(index, args, 0);
}

static uint64_t now(void)
{
	uint64_t ticks;

	asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks)::"memory");
	return ticks;
}

static int start(uint64_t index)
{
	return (int)hvc(CPU_ON, index, (uintptr_t)secondary_start, 0);
}

static void wait_state(uint64_t index, int state)
{
	while ((int)hvc(AFFINITY_INFO, index, 0, 0) != state)
		;
}

static void switch_off(uint64_t index)
{
	static const uint64_t off[4] = {CPU_OFF};

	post(index, off);
	wait_state(index, IS_OFF);
}

/* What a start gives, what starting it again gives, and what it is when it has switched itself off. */
static void start_and_end(const uint64_t *args)
{
	uint64_t (*call)(uint64_t, uint64_t, uint64_t, uint64_t) = args[3] ? smc : hvc;
	volatile struct cpu *cpu = &cpus[args[1] % MAX_CPUS];
	uint64_t entered = cpu->entered, result;

	result = call(args[0], args[1], (uintptr_t)secondary_start, args[2]);
	put_hex(result);
	if (result != SUCCESS)
		return;
	while (cpu->entered == entered)
		;
	put_hex(cpu->context);
	put_hex(call(args[0], args[1], (uintptr_t)secondary_start, args[2]));
	switch_off(args[1] % MAX_CPUS);
	put_hex(hvc(AFFINITY_INFO, args[1] % MAX_CPUS, 0, 0));
}

/* From right before the call to the first instruction of the other. */
static void time_starts(uint64_t index, uint64_t count, uint64_t quiet)
{
	volatile struct cpu *cpu = &cpus[index % MAX_CPUS];

	while (count--) {
		uint64_t entered = cpu->entered, before = now();
		int r = start(index);

		if (r != SUCCESS) {
			put_hex((uint64_t)(uint32_t)r);
			return;
		}
		while (cpu->entered == entered)
			;
		if (!quiet || !count)
			put_hex(cpu->stamp - before);
		switch_off(index);
	}
}

/* Has two vCPUs make a call each, at the same time. */
static void together(uint64_t a, const uint64_t *args_a, uint64_t b, const uint64_t *args_b)
{
	uint64_t next = gate + 1;

	post_at(a, args_a, next);
	post_at(b, args_b, next);
	while (cpus[a].ready != next || cpus[b].ready != next)
		;
	gate = next;
}

/* Two start a third: one of them does, the other is told so. */
static void race_starts(uint64_t a, uint64_t b, uint64_t target, uint64_t count)
{
	const uint64_t args[4] = {CPU_ON, target, (uintptr_t)secondary_start};
	uint64_t good = 0, both = 0, others = 0;

	while (count--) {
		uint64_t entered = cpus[target].entered, calls_a = cpus[a].calls, calls_b = cpus[b].calls;
		int result_a, result_b;

		together(a, args, b, args);
		while (cpus[a].calls == calls_a || cpus[b].calls == calls_b)
			;
		result_a = (int)cpus[a].result;
		result_b = (int)cpus[b].result;
		if (result_a == SUCCESS && result_b == SUCCESS)
			both++;
		else if ((result_a == SUCCESS && result_b == ALREADY_ON) ||
			 (result_a == ALREADY_ON && result_b == SUCCESS))
			good++;
		else
			others++;
		if (result_a != SUCCESS && result_b != SUCCESS)
			continue;
		while (cpus[target].entered == entered)
			;
		switch_off(target);
	}
	put_hex(good);
	put_hex(both);
	put_hex(others);
}

/* One starts another that is switching itself off: it is started anew, or the call came too early. */
static void race_start_and_end(uint64_t a, uint64_t target, uint64_t count)
{
	const uint64_t on[4] = {CPU_ON, target, (uintptr_t)secondary_start}, off[4] = {CPU_OFF};
	uint64_t started = 0, early = 0, others = 0;

	while (count--) {
		uint64_t entered = cpus[target].entered, calls = cpus[a].calls;

		if (start(target) != SUCCESS) {
			others++;
			continue;
		}
		while (cpus[target].entered == entered)
			;
		together(a, on, target, off);
		while (cpus[a].calls == calls)
			;
		if ((int)cpus[a].result == SUCCESS) {
			while (cpus[target].entered == entered + 1)
				;
			switch_off(target);
			started++;
		} else if ((int)cpus[a].result == ALREADY_ON) {
			wait_state(target, IS_OFF);
			early++;
		} else {
			others++;
		}
	}
	put_hex(started);
	put_hex(early);
	put_hex(others);
}

static uint64_t flood(const uint64_t *args, uint64_t *ret_last)
{
	uint64_t same = 0, last = 0;

	for (uint64_t i = 0; i < args[4]; i++) {
		uint64_t result = hvc(args[0], args[1], args[2], args[3]);

		same = i && result == last ? same + 1 : 1;
		last = result;
	}
	*ret_last = last;
	return same;
}

static uint64_t reg_read(uint64_t size, uintptr_t address)
{
	switch (size) {
	case 1:
		return *(volatile uint8_t *)address;
	case 2:
		return *(volatile uint16_t *)address;
	case 8:
		return *(volatile uint64_t *)address;
	default:
		return read32(address);
	}
}

static void reg_write(uint64_t size, uintptr_t address, uint64_t value)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)address = (uint8_t)value;
		break;
	case 2:
		*(volatile uint16_t *)address = (uint16_t)value;
		break;
	case 8:
		*(volatile uint64_t *)address = value;
		break;
	default:
		write32(address, (uint32_t)value);
	}
}

static void run(char command, const uint64_t *args)
{
	volatile struct cpu *cpu = &cpus[args[0] % MAX_CPUS];
	uint64_t last;

	switch (command) {
	case 'c':
		put_hex(hvc(args[0], args[1], args[2], args[3]));
		break;
	case 'm':
		put_hex(smc(args[0], args[1], args[2], args[3]));
		break;
	case 'f':
		put_hex(flood(args, &last));
		put_hex(last);
		break;
	case 's':
		post(args[0], args + 1);
		put_hex(0);
		break;
	case 'n':
		put_hex(cpu->entered);
		put_hex(cpu->context);
		put_hex(cpu->calls);
		put_hex(cpu->result);
		break;
	case 'u':
		start_and_end(args);
		break;
	case 't':
		time_starts(args[0] % MAX_CPUS, args[1], args[2]);
		break;
	case 'q':
		asm volatile("mrs %0, cntfrq_el0" : "=r"(last));
		put_hex(last);
		break;
	case 'p':
		race_starts(args[0] % MAX_CPUS, args[1] % MAX_CPUS, args[2] % MAX_CPUS, args[3]);
		break;
	case 'o':
		race_start_and_end(args[0] % MAX_CPUS, args[1] % MAX_CPUS, args[2]);
		break;
	case 'e':
		put_hex((uintptr_t)secondary_start);
		break;
	case 'r':
		put_hex(reg_read(args[0], args[1]));
		break;
	case 'w':
		reg_write(args[0], args[1], args[2]);
		put_hex(0);
		break;
	}
}

/* Reads up to the line's end; returns the character that ended the word. */
static char read_word(uint64_t *ret_value, char *ret_first)
{
	uint64_t value = 0;
	char c, first = 0;

	while ((c = get_char()) != ' ' && c != '\n') {
		if (!first)
			first = c;
		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
	}
	*ret_value = value;
	*ret_first = first;
	return c;
}

void boot_main(void)
{
	write32(UART_LCRH, 0x70);
	write32(UART_CR, 0x301);
	write32(UART_IMSC, 0x50);
	gic_init(UART_IRQ);
	gic_cpu_init(0);
	for (const char *hello = "\n@boot\n"; *hello; hello++)
		put_char(*hello);

	for (;;) {
		uint64_t words[MAX_WORDS] = {0}, id, ignored;
		char at, command = 0, end, first;

		end = read_word(&id, &at);
		if (end == ' ')
			end = read_word(&ignored, &command);
		for (int i = 0; end == ' '; i++)
			end = read_word(&words[i < MAX_WORDS ? i : MAX_WORDS - 1], &first);
		if (at != '@')
			continue;
		put_char('\n');
		put_char('@');
		put_number(id);
		run(command, words);
		put_char('\n');
	}
}
