/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CPUPOLICY_PROTO_H
#define CPUPOLICY_PROTO_H

/*
 * The VMM protocol of cpupolicyd, version 1: wire format and policy page.
 *
 * docs/protocol.md is normative; this header states the same in C. Every integer is little-endian and of fixed
 * width, padding is explicit and zero, and no member depends on the compiler. A message is a header and a payload
 * whose length follows from its type (and, for the two that end in an array, from the count that they carry).
 */

#include <stdint.h>

#define CPUPOLICY_PROTOCOL_VERSION 1u

#define CPUPOLICY_UUID_SIZE   16u  /* RFC 9562 byte order */
#define CPUPOLICY_TOKEN_SIZE  16u  /* opaque, all zero means none */
#define CPUPOLICY_NAME_SIZE   256u /* UTF-8, NUL-terminated, the rest zero */
#define CPUPOLICY_ERROR_SIZE  240u /* likewise */
#define CPUPOLICY_MAX_VCPUS   512u
#define CPUPOLICY_MAX_PAYLOAD 16384u

/* PSCI (Arm DEN0022): function identifiers and return codes that the protocol carries. */
#define CPUPOLICY_PSCI_CPU_OFF   0x84000002u
#define CPUPOLICY_PSCI_CPU_ON_32 0x84000003u
#define CPUPOLICY_PSCI_CPU_ON_64 0xC4000003u
#define CPUPOLICY_PSCI_SUCCESS   0
#define CPUPOLICY_PSCI_DENIED    (-3)

/* ---- header ---- */

struct cpupolicy_header {
	uint32_t request; /* enum cpupolicy_request */
	uint32_t flags;   /* CPUPOLICY_HDR_* */
	uint32_t size;    /* of the payload in bytes */
	uint32_t seq;     /* chosen by the sender of a request; a reply repeats it */
};

#define CPUPOLICY_HDR_VERSION_MASK 0x3u  /* CPUPOLICY_PROTOCOL_VERSION */
#define CPUPOLICY_HDR_REPLY        0x4u  /* daemon to VMM only */
#define CPUPOLICY_HDR_NEED_REPLY   0x8u  /* the sender wants a reply where the type does not imply one */
#define CPUPOLICY_HDR_ERROR        0x10u /* with REPLY: the payload is struct cpupolicy_error */

/* All requests go from the VMM to the daemon; the daemon only replies. */
enum cpupolicy_request {
	CPUPOLICY_HELLO = 1,    /* replied always */
	CPUPOLICY_REGISTER = 2, /* replied always; the reply carries two descriptors */
	CPUPOLICY_ASK = 3,      /* replied always */
	CPUPOLICY_POWER = 4,    /* from here on: replied if NEED_REPLY, with an empty payload */
	CPUPOLICY_OST = 5,
	CPUPOLICY_EJECT = 6,
	CPUPOLICY_RUN_STATE = 7,
	CPUPOLICY_RESET = 8,
	CPUPOLICY_STATE = 9,
	CPUPOLICY_CONFIRM = 10,
	CPUPOLICY_UNREGISTER = 11, /* the daemon hangs up after it */
	CPUPOLICY_REQUEST_MAX = CPUPOLICY_UNREGISTER,
};

/* ---- HELLO ---- */

/* Feature bits: each side names what it has, the reply names what both use. */
#define CPUPOLICY_F_ASK      0x1u /* the VMM can ask; without it a VM whose service level asks is refused */
#define CPUPOLICY_F_INCOMING 0x2u /* REGISTER may say CPUPOLICY_REG_INCOMING */

struct cpupolicy_hello {
	uint64_t features;
};

struct cpupolicy_hello_reply {
	uint64_t features;
	uint32_t max_vcpus; /* the daemon's bound on `possible`, at most CPUPOLICY_MAX_VCPUS */
	uint32_t reserved;
};

/* ---- REGISTER and STATE ---- */

#define CPUPOLICY_REG_INCOMING       0x1u  /* join a live VM as the target of its migration; needs the token */
#define CPUPOLICY_REG_NOTIFY         0x2u  /* the guest can be notified (it has the ACPI interface) */
#define CPUPOLICY_REG_BOOT_REMOVABLE 0x4u  /* vCPUs enabled at boot may be taken back */
#define CPUPOLICY_REG_REALM          0x8u  /* an Arm CCA realm: its host neither sees nor stops its vCPUs */
#define CPUPOLICY_REG_MEANS_MASK     0x30u /* enum cpupolicy_means << 4 */
#define CPUPOLICY_REG_MEANS_SHIFT    4
#define CPUPOLICY_REG_FLAGS          0x3fu

/* By what means the VMM holds the guest to the page. */
enum cpupolicy_means {
	CPUPOLICY_MEANS_PSCI = 0,    /* CPU_ON is denied */
	CPUPOLICY_MEANS_HOTPLUG = 1, /* a vCPU that is not granted does not exist: plugged and unplugged by the VMM */
	CPUPOLICY_MEANS_NONE = 2,    /* not at all: the guest is told, and may do as it likes */
	CPUPOLICY_MEANS_MAX = CPUPOLICY_MEANS_NONE,
};

/* Of registration flags; above CPUPOLICY_MEANS_MAX where they name none. */
static inline enum cpupolicy_means cpupolicy_means(uint32_t flags)
{
	return (enum cpupolicy_means)((flags & CPUPOLICY_REG_MEANS_MASK) >> CPUPOLICY_REG_MEANS_SHIFT);
}

#define CPUPOLICY_VCPU_ONLINE    0x1u  /* powered on */
#define CPUPOLICY_VCPU_ACKED     0x2u  /* the guest acknowledged the insertion that is current (or was reset since) */
#define CPUPOLICY_VCPU_EJECTED   0x4u  /* the guest ejected it, and no newer grant has been applied */
#define CPUPOLICY_VCPU_ENABLED   0x8u  /* _STA said Enabled when the guest last could look */
#define CPUPOLICY_VCPU_EJECT_OWN 0x10u /* with EJECTED: the guest's own idea (CPUPOLICY_EJECT_GUEST) */
#define CPUPOLICY_VCPU_FLAGS     0x1fu

struct cpupolicy_vcpu {
	uint64_t mpidr; /* affinity fields as in MPIDR_EL1, all other bits zero; unique in the VM */
	uint32_t flags; /* CPUPOLICY_VCPU_* */
	uint32_t reserved;
};

enum cpupolicy_run_state {
	CPUPOLICY_RUN_RUNNING = 1,
	CPUPOLICY_RUN_PAUSED = 2,
	CPUPOLICY_RUN_INACTIVE = 3, /* migrated away, or not yet arrived: this VMM no longer owns the guest */
};

struct cpupolicy_register {
	uint8_t uuid[CPUPOLICY_UUID_SIZE];
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	char name[CPUPOLICY_NAME_SIZE];
	uint32_t flags;     /* CPUPOLICY_REG_* */
	uint32_t possible;  /* 1 .. max_vcpus */
	uint32_t boot;      /* proposed: 1 .. possible */
	uint32_t run_state; /* enum cpupolicy_run_state */
			    /* struct cpupolicy_vcpu vcpus[possible] follow */
};

struct cpupolicy_register_reply {
	uint8_t token[CPUPOLICY_TOKEN_SIZE];
	uint32_t epoch; /* of this session; also in the page's head, where it rises when an incoming one becomes live */
	uint32_t possible;
	uint32_t enabled; /* vCPUs 0 .. possible-1 whose page word says enabled; their set is in the page */
	uint32_t page_size;
	/* two descriptors: the policy page (read-only), the doorbell (a stream socket) */
};

struct cpupolicy_state {
	uint32_t possible; /* as registered */
	uint32_t run_state;
	/* struct cpupolicy_vcpu vcpus[possible] follow */
};

/* ---- ASK ---- */

struct cpupolicy_ask {
	uint32_t vcpu;     /* index of the target */
	uint32_t caller;   /* index of the vCPU that made the call */
	uint32_t function; /* CPUPOLICY_PSCI_CPU_ON_32 or _64 */
	uint32_t reserved;
};

/* Why a verdict is what it is. One list for page, wire, record and D-Bus; the names are in message.c. */
enum cpupolicy_reason {
	CPUPOLICY_REASON_NONE = 0,
	CPUPOLICY_REASON_GRANTED = 1,     /* allow: within what is granted */
	CPUPOLICY_REASON_NOT_ENABLED = 2, /* deny: policy has not granted this vCPU */
	CPUPOLICY_REASON_EJECTED = 3,     /* deny: the guest gave it back, no newer grant */
	CPUPOLICY_REASON_RATE = 4,        /* deny: more CPU_ON calls per second than the service level permits */
	CPUPOLICY_REASON_OBSERVED = 5,    /* allow: observe mode; enforcement would have denied */
	CPUPOLICY_REASON_INACTIVE = 6,    /* deny: this VMM is not (or no longer) the one that runs the VM */
	CPUPOLICY_REASON_NO_POLICY = 7,   /* deny, by the VMM: no page yet */
	CPUPOLICY_REASON_TIMEOUT = 8,     /* by the VMM: asked, not answered in time; the page's verdict on timeout */
	CPUPOLICY_REASON_OVERLOAD = 9,    /* deny: more messages per second than a VMM may send */
	CPUPOLICY_REASON_PAGE = 10,       /* deny, by the VMM: the page changed between verdict and power-on */
	CPUPOLICY_REASON_MAX = CPUPOLICY_REASON_PAGE,
};

struct cpupolicy_verdict {
	int32_t psci;    /* CPUPOLICY_PSCI_SUCCESS or CPUPOLICY_PSCI_DENIED */
	uint32_t reason; /* enum cpupolicy_reason */
};

/* ---- events ---- */

enum cpupolicy_power_event {
	CPUPOLICY_POWER_ON = 1,     /* CPU_ON succeeded */
	CPUPOLICY_POWER_OFF = 2,    /* CPU_OFF */
	CPUPOLICY_POWER_DENIED = 3, /* CPU_ON was answered DENIED without asking */
};

struct cpupolicy_power {
	uint32_t vcpu;
	uint32_t event;  /* enum cpupolicy_power_event */
	uint32_t reason; /* enum cpupolicy_reason: of ON and DENIED */
	uint32_t count;  /* DENIED: how many calls this message stands for, at least 1; else 1 */
};

/* _OST of a processor device (ACPI 6.5, 6.3.5): the guest's words, passed on. */
struct cpupolicy_ost {
	uint32_t vcpu;
	uint32_t event; /* source event: 1 device check, 3 eject request, 0x103 eject by the guest itself */
	uint32_t
		status; /* 0 success, 0x80 not supported/forbidden, 0x82 device in use (refused), 0x84 in progress, ... */
	uint32_t reserved;
};

enum cpupolicy_eject_cause {
	CPUPOLICY_EJECT_REQUESTED = 1, /* the guest had been asked for it, even if the request was withdrawn since */
	CPUPOLICY_EJECT_GUEST = 2,     /* the guest's own idea */
	CPUPOLICY_EJECT_RESET = 3,     /* a reset completed a request that was pending */
};

struct cpupolicy_eject {
	uint32_t vcpu;
	uint32_t cause; /* enum cpupolicy_eject_cause */
};

struct cpupolicy_run {
	uint32_t run_state; /* enum cpupolicy_run_state */
	uint32_t reserved;
};

enum cpupolicy_reset_kind {
	CPUPOLICY_RESET_GUEST = 1, /* SYSTEM_RESET, SYSTEM_RESET2 */
	CPUPOLICY_RESET_HOST = 2,  /* the VMM's own, by its operator */
};

/* Every vCPU but 0 is off, every pending notification resolved. Sent after the EJECT messages it implies. */
struct cpupolicy_reset {
	uint32_t kind; /* enum cpupolicy_reset_kind */
	uint32_t reserved;
};

/* The VMM has applied this generation of this epoch: the guest was notified of all that it implies. */
struct cpupolicy_confirm {
	uint32_t generation;
	uint32_t epoch;
};

enum cpupolicy_unregister_cause {
	CPUPOLICY_UNREGISTER_SHUTDOWN = 1, /* the VM ended */
	CPUPOLICY_UNREGISTER_MIGRATED = 2, /* this VMM ends, the VM lives on elsewhere */
};

struct cpupolicy_unregister {
	uint32_t cause; /* enum cpupolicy_unregister_cause */
	uint32_t reserved;
};

/* ---- errors ---- */

enum cpupolicy_error_code {
	CPUPOLICY_ERROR_PROTOCOL = 1,    /* malformed, or illegal in this state; the daemon hangs up after it */
	CPUPOLICY_ERROR_UNSUPPORTED = 2, /* a feature, count or function that the daemon does not have */
	CPUPOLICY_ERROR_IDENTITY = 3,    /* the UUID, name or token is not this peer's to claim */
	CPUPOLICY_ERROR_LIMIT = 4,       /* a bound of the daemon or of the service level */
	CPUPOLICY_ERROR_STORAGE = 5,     /* the daemon cannot make the registration durable */
	CPUPOLICY_ERROR_BUSY = 6,        /* try again later */
};

struct cpupolicy_error {
	uint32_t code; /* enum cpupolicy_error_code */
	uint32_t reserved;
	char message[CPUPOLICY_ERROR_SIZE]; /* a sentence for the VMM's user */
};

/* ---- the policy page ---- */

/*
 * Written by the daemon alone, mapped read-only by the VMM. `head` is (epoch << 32 | generation) and is stored with
 * release order after the words that belong to it; a reader loads it with acquire order and never loops. Each word is
 * complete in itself: a reader that meets a half-written page acts on some words of the older and some of the newer
 * generation, each of which policy has permitted.
 */
#define CPUPOLICY_PAGE_MAGIC   0x4c4f5043u /* "CPOL" */
#define CPUPOLICY_PAGE_VERSION 1u

struct cpupolicy_page {
	uint32_t magic;
	uint32_t version;
	uint32_t vcpus;          /* number of words */
	uint32_t ask_timeout_ms; /* how long the VMM waits for the answer to an ASK */
	uint64_t head;           /* epoch << 32 | generation */
	uint64_t reserved[5];
	uint64_t words[];
};

#define CPUPOLICY_WORD_ENABLED       0x1u /* the guest may have it: _STA Enabled */
#define CPUPOLICY_WORD_WANTED        0x2u /* off while ENABLED: asked back, an eject is pending */
#define CPUPOLICY_WORD_VERDICT_MASK  0xcu /* CPUPOLICY_VERDICT_* << 2 */
#define CPUPOLICY_WORD_VERDICT_SHIFT 2
#define CPUPOLICY_WORD_TIMEOUT_ALLOW 0x10u   /* an ask that times out is allowed (if ENABLED) */
#define CPUPOLICY_WORD_OBSERVE       0x20u   /* nothing is denied: report what would have been */
#define CPUPOLICY_WORD_SERIAL_MASK   0xff00u /* changes when the guest is to be notified again */
#define CPUPOLICY_WORD_SERIAL_SHIFT  8
#define CPUPOLICY_WORD_GRANT_SHIFT   32 /* changes with every new grant of this vCPU */

enum cpupolicy_page_verdict {
	CPUPOLICY_VERDICT_DENY = 0,
	CPUPOLICY_VERDICT_ALLOW = 1,
	CPUPOLICY_VERDICT_ASK = 2,
};

/* ---- layout, checked ---- */

#ifndef __cplusplus
_Static_assert(sizeof(struct cpupolicy_header) == 16, "header");
_Static_assert(sizeof(struct cpupolicy_vcpu) == 16, "vcpu");
_Static_assert(sizeof(struct cpupolicy_register) == 304, "register");
_Static_assert(sizeof(struct cpupolicy_register_reply) == 32, "register reply");
_Static_assert(sizeof(struct cpupolicy_state) == 8, "state");
_Static_assert(sizeof(struct cpupolicy_error) == 248, "error");
_Static_assert(sizeof(struct cpupolicy_page) == 64, "page header");
_Static_assert(sizeof(struct cpupolicy_register) + CPUPOLICY_MAX_VCPUS * sizeof(struct cpupolicy_vcpu) <=
		       CPUPOLICY_MAX_PAYLOAD,
	       "the largest payload");
#endif

#endif
