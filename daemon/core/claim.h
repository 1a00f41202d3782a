/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_CLAIM_H
#define CPUPOLICYD_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Who may register as which VM: pure. The caller collects the facts, this decides.
 */
struct claim {
	bool uuid_known; /* a VM with this UUID is on record */
	bool live;       /* its VMM is connected, or lives on without us */
	bool stopped;    /* it is on record, without a VMM */
	bool token_given;
	bool token_matches;     /* the token of the VM on record */
	bool name_taken;        /* by a VM with another UUID */
	bool name_is_uuid;      /* a name that looks like a UUID could be mistaken for one */
	bool name_differs;      /* the UUID is on record under another name */
	bool possible_differs;  /* ... with another number of vCPUs */
	bool incoming;          /* asks to join as migration target */
	bool incoming_taken;    /* another one has joined already */
	bool same_owner;        /* the peer's uid is that of the VM on record; root always */
	bool full;              /* no room for another VM */
	bool same_process;      /* the peer is the process that registered the VM on record */
	bool opened;            /* the connection was opened for this VM, by somebody who was permitted to */
	bool not_the_opened;    /* ... or for another VM, name or user */
	bool announced;         /* a provider announced the VM */
	bool announced_as;      /* ... and said who runs it, which the peer is in all that it said */
	bool not_announced_uid; /* ... with another user than the peer's, who is not root */
	bool not_announced_label;
	bool denied; /* by the policy's rules about registration */
};

enum claim_outcome {
	CLAIM_START,    /* a new VM, or one that was stopped */
	CLAIM_RESUME,   /* takes over from the session that was */
	CLAIM_INCOMING, /* joins beside it */
	CLAIM_REFUSED_NAME_TAKEN,
	CLAIM_REFUSED_NAME_IS_UUID,
	CLAIM_REFUSED_LIVE, /* a VM with this UUID runs, and the token is not its */
	CLAIM_REFUSED_OWNER,
	CLAIM_REFUSED_POSSIBLE,
	CLAIM_REFUSED_INCOMING, /* two targets */
	CLAIM_REFUSED_FULL,
	CLAIM_REFUSED_NAME_DIFFERS, /* a running VM keeps its name */
	CLAIM_REFUSED_OPENED,
	CLAIM_REFUSED_ANNOUNCED_UID,
	CLAIM_REFUSED_ANNOUNCED_LABEL,
	CLAIM_REFUSED_RULE,
};

enum claim_outcome claim_decide(const struct claim *c);
/* A sentence for the VMM's user and its CPUPOLICY_ERROR_* code; NULL and 0 for those that are granted. */
const char *claim_refusal(enum claim_outcome outcome, uint32_t *ret_code);

#endif
