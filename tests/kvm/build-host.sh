#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Makes what the KVM tests need to have an arm64 host, and prints the directory that holds it as its
# last line:
#
#   host.cpio   what the host is made of, but for what is tested: busybox, a bus, the libraries of the
#               daemon and its client, and the agent that the tests talk to (image/agent.c)
#   sysroot     Debian 12's arm64 libraries and headers, to compile the daemon against
#   configure   the arguments for the daemon's configure script that do so, a line each
#
# Its kernel, and all that its guests boot, is that of tests/guest/build-images.sh. Packages come from
# the machine's own source, as there; nothing of the system changes. The result is kept under a name
# made of the hash of what it is made from.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd
cross=aarch64-linux-gnu-
triplet=aarch64-linux-gnu

key=$(cd "$here" && sha256sum build-host.sh image/* ../lib/arm64-packages.sh | sha256sum | cut -c1-16)
out=$cache/kvm-$key
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/kvm.lock"
flock 9
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi

tmp=$(mktemp -d "$cache/kvm-tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# shellcheck source=tests/lib/arm64-packages.sh
. "$here/../lib/arm64-packages.sh"
need apt-get dpkg "${cross}gcc" "${cross}objdump" cpio

# The library has the release of the cross compiler's own C library.
suite=bookworm
sysroot=$tmp/out/sysroot
root=$tmp/host
mkdir -p "$sysroot" "$root"/{bin,dev,etc,proc,sys,tmp,run,var,usr/bin,"lib/$triplet"}
unpack_all $suite "$sysroot" libc6-dev libevent-dev libjansson-dev libsystemd-dev libsqlite3-dev
unpack_all $suite "$tmp/packages" dbus-daemon busybox-static

# library NAME: the file of that name, as the dynamic loader would find it
library() {
	local from dir
	for from in "$tmp/packages" "$sysroot"; do
		for dir in "$from/lib/$triplet" "$from/usr/lib/$triplet"; do
			[ ! -e "$dir/$1" ] || {
				printf '%s\n' "$dir/$1"
				return
			}
		done
	done
}

# add_libraries FILE: all that it needs, into the host
add_libraries() {
	local name from
	while read -r name; do
		[ ! -e "$root/lib/$triplet/$name" ] || continue
		from=$(library "$name")
		[ -n "$from" ] || {
			say "$1 needs $name, which no package has"
			exit 1
		}
		install -m 0755 "$(readlink -f "$from")" "$root/lib/$triplet/$name"
		add_libraries "$from"
	done < <("${cross}objdump" -p "$1" | sed -n 's/^ *NEEDED *//p')
}

say "packing the host"
install "$tmp/packages/usr/bin/dbus-daemon" "$root/usr/bin/"
busybox=$(find "$tmp/packages" -path '*bin/busybox' | head -n 1)
install "$busybox" "$root/bin/busybox"
add_libraries "$root/usr/bin/dbus-daemon"
for name in libevent_core-2.1.so.7 libevent_extra-2.1.so.7 libjansson.so.4 libsystemd.so.0 libsqlite3.so.0; do
	from=$(library "$name")
	install -m 0755 "$(readlink -f "$from")" "$root/lib/$triplet/$name"
	add_libraries "$from"
done
ln -s "$triplet/ld-linux-aarch64.so.1" "$root/lib/ld-linux-aarch64.so.1"
echo root:x:0:0:root:/:/bin/sh >"$root/etc/passwd"
echo root:x:0: >"$root/etc/group"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
"${cross}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o "$root/bin/agent" "$here/image/agent.c"
install -m 0755 "$here/image/init" "$root/init"
(cd "$root" && find . -print0 | LC_ALL=C sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$tmp/out/host.cpio"

# Of the packages only what compiling needs is kept.
find "$sysroot" -mindepth 1 -maxdepth 1 ! -name usr ! -name lib -exec rm -rf {} +
find "$sysroot/usr" -mindepth 1 -maxdepth 1 ! -name include ! -name lib -exec rm -rf {} +
find "$sysroot" -type l -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
	ln -sfnr "$sysroot$target" "$link"
done
pc=$out/sysroot/usr/lib/$triplet/pkgconfig
cat >"$tmp/out/configure" <<END
--host=$triplet
CC=${cross}gcc --sysroot=$out/sysroot
PKG_CONFIG=pkg-config
PKG_CONFIG_LIBDIR=$pc
PKG_CONFIG_SYSROOT_DIR=$out/sysroot
END

touch "$tmp/out/complete"
rm -rf "$out"
mv "$tmp/out" "$out"
# Those of other versions of the tree may be in use: the newest few stay.
find "$cache" -maxdepth 1 -type d -name 'kvm-*' -printf '%T@ %p\n' | sort -rn | tail -n +4 |
	cut -d' ' -f2- | xargs -r rm -rf
say "done"
echo "$out"
