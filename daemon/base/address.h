/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CPUPOLICYD_ADDRESS_H
#define CPUPOLICYD_ADDRESS_H

/*
 * Where a service of the daemon listens, as text: "unix:/PATH"; a loopback address and a port in numbers, "127.0.0.1:9464",
 * "[::1]:9464"; or "exposed:" and any address and port, so that nothing is open to others but by that word.
 */

#include <sys/socket.h>
#include <sys/un.h>

union address {
	struct sockaddr any;
	struct sockaddr_un local;
	struct sockaddr_storage storage;
};

/* -EINVAL: it is none of these. */
int address_parse(union address *ret, socklen_t *ret_size, const char *text);

#endif
