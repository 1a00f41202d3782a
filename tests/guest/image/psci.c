/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a kernel. It makes one firmware call or register access at a time, with exactly
 * the arguments the test names, and says what came back: the order of PSCI's checks, a guest that
 * floods, and one that writes nonsense to the hotplug registers cannot be had from Linux.
 *
 * Commands arrive on the first UART, one a line, numbers in hexadecimal:
 *
 *   @ID c FID A B C      one call from the boot vCPU              -> result
 *   @ID f FID A B C N    N calls, counting                        -> calls that gave the last result, result
 *   @ID s CPU FID A B C  a call made by another vCPU, not awaited -> 0
 *   @ID n CPU            what became of another vCPU              -> times entered, last context, calls, result
 *   @ID e                where CPU_ON should enter                -> address
 *   @ID r SIZE ADDR      read a register                          -> value
 *   @ID w SIZE ADDR V    write one                                -> 0
 *
 * and each is answered by "@ID RESULT...". The machine is -M virt,gic-version=2 (the vCPUs wake
 * each other by its software interrupts) with up to eight vCPUs.
 */

#include <stdint.h>

#define UART      0x09000000UL
#define UART_DR   (UART + 0x00)
#define UART_FR   (UART + 0x18)
#define UART_LCRH (UART + 0x2c)
#define UART_CR   (UART + 0x30)
#define UART_IMSC (UART + 0x38)
#define UART_IRQ  33

#define GICD           0x08000000UL
#define GICC           0x08010000UL
#define GICD_CTLR      (GICD + 0x000)
#define GICD_ISENABLER (GICD + 0x100)
#define GICD_ITARGETSR (GICD + 0x800)
#define GICD_SGIR      (GICD + 0xf00)
#define GICC_CTLR      (GICC + 0x00)
#define GICC_PMR       (GICC + 0x04)
#define GICC_IAR       (GICC + 0x0c)
#define GICC_EOIR      (GICC + 0x10)
#define SPURIOUS       1020

#define MAX_CPUS  8
#define MAX_WORDS 8

struct cpu {
	uint64_t entered, context; /* written by the vCPU itself */
	uint64_t calls, result;
	uint64_t args[4]; /* written by the boot vCPU before it raises asked */
	uint64_t asked;
};

static volatile struct cpu cpus[MAX_CPUS];

uint64_t hvc(uint64_t function, uint64_t a, uint64_t b, uint64_t c);
void secondary_start(void);
void boot_main(void);
void secondary_main(uint64_t context);

static uint32_t read32(uintptr_t address)
{
	return *(volatile uint32_t *)address;
}

static void write32(uintptr_t address, uint32_t value)
{
	*(volatile uint32_t *)address = value;
}

static void put_char(char c)
{
	while (read32(UART_FR) & 0x20)
		;
	write32(UART_DR, (uint8_t)c);
}

static void put_hex(uint64_t value)
{
	int shift = 60;

	put_char(' ');
	while (shift && !(value >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[(value >> shift) & 15]);
}

static char get_char(void)
{
	/* An interrupt that is masked in PSTATE still ends WFI. */
	while (read32(UART_FR) & 0x10)
		asm volatile("wfi" ::: "memory");
	return (char)read32(UART_DR);
}

static void gic_cpu_init(void)
{
	write32(GICD_ISENABLER, 0xffff);
	write32(GICC_PMR, 0xff);
	write32(GICC_CTLR, 1);
}

void secondary_main(uint64_t context)
{
	volatile struct cpu *self;
	uint64_t mpidr;

	asm volatile("mrs %0, mpidr_el1" : "=r"(mpidr));
	self = &cpus[mpidr % MAX_CPUS];
	gic_cpu_init();
	self->context = context;
	self->entered++;
	for (;;) {
		uint32_t irq = read32(GICC_IAR);

		if ((irq & 0x3ff) < SPURIOUS)
			write32(GICC_EOIR, irq);
		if (self->asked) {
			self->asked = 0;
			self->result = hvc(self->args[0], self->args[1], self->args[2], self->args[3]);
			self->calls++;
			continue;
		}
		asm volatile("wfi" ::: "memory");
	}
}

static void post(uint64_t index, const uint64_t *args)
{
	volatile struct cpu *cpu = &cpus[index % MAX_CPUS];

	for (int i = 0; i < 4; i++)
		cpu->args[i] = args[i];
	cpu->asked = 1;
	asm volatile("dsb sy" ::: "memory");
	write32(GICD_SGIR, 0x10000U << (index % MAX_CPUS));
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
	write32(GICD_CTLR, 1);
	write32(GICD_ISENABLER + 4, 1U << (UART_IRQ - 32));
	*(volatile uint8_t *)(GICD_ITARGETSR + UART_IRQ) = 1;
	gic_cpu_init();
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
		/* the identifier is echoed as a number, without put_hex()'s leading space */
		for (int shift = 28; shift >= 0; shift -= 4)
			put_char("0123456789abcdef"[(id >> shift) & 15]);
		run(command, words);
		put_char('\n');
	}
}
