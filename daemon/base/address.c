/* SPDX-License-Identifier: GPL-2.0-or-later */

#include "daemon/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/base/util.h"

/* What follows the prefix; NULL: `text` does not begin with it. */
static const char *without(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static int parse_path(union address *ret, socklen_t *ret_size, const char *path)
{
	if (path[0] != '/' || strlen(path) >= sizeof(ret->local.sun_path))
		return -EINVAL;
	*ret = (union address){.local.sun_family = AF_UNIX};
	strcpy(ret->local.sun_path, path);
	*ret_size = sizeof(ret->local);
	return 0;
}

/* 1 .. 65535, digits alone; 0: it is not. */
static uint16_t parse_port(const char *text)
{
	size_t n = strspn(text, "0123456789");
	unsigned long port = n > 0 && n <= 5 && !text[n] ? strtoul(text, NULL, 10) : 0;

	return port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* The address before the last colon, without its brackets. */
static bool copy_host(char ret[INET6_ADDRSTRLEN], const char *text, const char *colon, bool v6)
{
	size_t n = (size_t)(colon - text);

	if (v6 && (n < 2 || colon[-1] != ']'))
		return false;
	if (v6) {
		text++;
		n -= 2;
	}
	if (n >= INET6_ADDRSTRLEN)
		return false;
	memcpy(ret, text, n);
	ret[n] = '\0';
	return true;
}

static int parse_inet(union address *ret, socklen_t *ret_size, const char *text, bool exposed)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	const char *colon = strrchr(text, ':');
	bool is_v6 = text[0] == '[', loopback;
	char host[INET6_ADDRSTRLEN];
	uint16_t port;

	port = colon ? parse_port(colon + 1) : 0;
	if (port == 0 || !copy_host(host, text, colon, is_v6))
		return -EINVAL;
	if (is_v6 ? inet_pton(AF_INET6, host, &v6.sin6_addr) != 1 : inet_pton(AF_INET, host, &v4.sin_addr) != 1)
		return -EINVAL;
	loopback = is_v6 ? IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) : ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	if (!loopback && !exposed)
		return -EINVAL;
	*ret = (union address){0};
	v4.sin_port = v6.sin6_port = htons(port);
	*ret_size = is_v6 ? sizeof(v6) : sizeof(v4);
	memcpy(&ret->storage, is_v6 ? (const void *)&v6 : (const void *)&v4, *ret_size);
	return 0;
}

int address_parse(union address *ret, socklen_t *ret_size, const char *text)
{
	const char *path = without(text, "unix:"), *exposed = without(text, "exposed:");

	if (path)
		return parse_path(ret, ret_size, path);
	return parse_inet(ret, ret_size, exposed ? exposed : text, exposed != NULL);
}
