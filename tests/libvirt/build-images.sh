#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Makes what the x86 domain of the libvirt tests boots, and prints the directory that holds it as its last line:
#
#   vmlinuz  Debian 12's amd64 kernel
#   initrd   busybox, and an init that says "booted" and waits
#
# As tests/guest/build-images.sh: from Debian's packages, with lists of their own, kept under the hash of what it is
# made from.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=qemu-glue/debian-suite.sh
. "$here/../../qemu-glue/debian-suite.sh"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd

key=$(cd "$here" && sha256sum build-images.sh | cut -c1-16)
out=$cache/libvirt-guest-$key
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi
mkdir -p "$cache"
# Of two at once the second one finds the first one's result.
exec 9>"$cache/libvirt-guest.lock"
flock 9
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi

tmp=$(mktemp -d "$cache/libvirt-guest-tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial" "$tmp/debs" "$tmp/root" "$tmp/initrd"/{bin,dev,proc,sys}
: >"$tmp/status"
debian_source deb bookworm >"$tmp/debian.sources"

# apt PROGRAM ARGUMENT...: with bookworm's amd64 packages and nothing else; _apt cannot enter a private directory
apt() {
	local program=$1
	shift
	"$program" -o Dir::Etc::sourcelist="$tmp/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$tmp" -o Dir::State::lists="$tmp/lists" -o Dir::State::status="$tmp/status" \
		-o Dir::Cache="$tmp/cache" -o APT::Architecture=amd64 -o APT::Architectures::=amd64 \
		-o APT::Sandbox::User=root -o Acquire::Languages=none "$@"
}

apt apt-get -qq update >&2
kernel=$(apt apt-cache depends linux-image-amd64 | sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
(cd "$tmp/debs" && apt apt-get -qq download "$kernel" busybox-static >&2)
for deb in "$tmp/debs/"*.deb; do
	dpkg -x "$deb" "$tmp/root"
done

mkdir "$tmp/out"
cp "$tmp/root/boot/"vmlinuz-* "$tmp/out/vmlinuz"
cp "$tmp/root/bin/busybox" "$tmp/initrd/bin/" 2>/dev/null || cp "$tmp/root/usr/bin/busybox" "$tmp/initrd/bin/"
cat >"$tmp/initrd/init" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
echo booted >/dev/ttyS0
while :; do /bin/busybox sleep 1000; done
END
chmod 0755 "$tmp/initrd/init"
(cd "$tmp/initrd" && find . -print0 | LC_ALL=C sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$tmp/out/initrd"
chmod 0644 "$tmp/out/"*
touch "$tmp/out/complete"
rm -rf "$out"
mv "$tmp/out" "$out"
find "$cache" -maxdepth 1 -type d -name 'libvirt-guest-[0-9a-f]*' -printf '%T@ %p\n' | sort -rn | tail -n +3 |
	cut -d' ' -f2- | xargs -r rm -rf
echo "$out"
