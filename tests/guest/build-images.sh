#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Makes what the guest tests boot, and prints the directory that holds it as its last line:
#
#   Image       Debian 13's arm64 kernel (Linux 6.12), an EFI image
#   Image-6.1   Debian 12's, a guest that cannot register a vCPU after boot
#   QEMU_EFI.fd UEFI: on Arm, ACPI needs it
#   initrd      busybox, image/init, guesttool and kexec-jump
#   psci.elf    a guest without a kernel that issues single PSCI calls, for -kernel (device tree)
#   psci.bin    the same for -bios: a machine with firmware, to QEMU, and so one with ACPI
#
# Everything comes from Debian's packages, through the machine's own package source: only another
# suite and another architecture are asked for, with lists and cache of their own, so that nothing
# of the system changes. The result is kept under a name made of the hash of what it is made from.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=qemu-glue/debian-suite.sh
. "$here/../../qemu-glue/debian-suite.sh"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd
cross=aarch64-linux-gnu-

say() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

for tool in apt-get dpkg "${cross}gcc" cpio sha256sum; do
	command -v "$tool" >/dev/null || {
		say "$tool is missing; tests/deps.sh installs what is needed"
		exit 1
	}
done

key=$(cd "$here" && sha256sum build-images.sh image/* | sha256sum | cut -c1-16)
out=$cache/guest-$key
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$cache"
# Two builds at once would download everything twice; the second one finds the first one's result.
exec 9>"$cache/guest.lock"
flock 9
if [ -e "$out/complete" ]; then
	echo "$out"
	exit 0
fi

tmp=$(mktemp -d "$cache/guest-tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# apt_in SUITE COMMAND...: apt with that suite's arm64 packages and nothing else
apt_in() {
	local suite=$1 dir=$tmp/apt-$1
	shift
	if [ ! -d "$dir" ]; then
		mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
		: >"$dir/status"
		debian_source deb "$suite" >"$dir/debian.sources"
		say "reading the package lists of $suite (arm64)"
		apt_in "$suite" apt-get -qq update >&2
	fi
	local program=$1
	shift
	# _apt cannot enter a private directory: downloads run as the caller
	"$program" -o Dir::Etc::sourcelist="$dir/debian.sources" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$dir" -o Dir::State::lists="$dir/lists" -o Dir::State::status="$dir/status" \
		-o Dir::Cache="$dir/cache" -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o APT::Install-Recommends=false \
		"$@"
}

# unpack SUITE PACKAGE: into $tmp/root-PACKAGE
unpack() {
	say "getting $2 from $1"
	mkdir -p "$tmp/debs-$2"
	(cd "$tmp/debs-$2" && apt_in "$1" apt-get -qq download "$2" >&2)
	dpkg -x "$tmp/debs-$2/"*.deb "$tmp/root-$2"
	rm -rf "$tmp/debs-$2"
}

# kernel SUITE TARGET: the kernel that linux-image-arm64 of that suite depends on
kernel() {
	local package
	package=$(apt_in "$1" apt-cache depends linux-image-arm64 |
		sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
	[ -n "$package" ] || {
		say "linux-image-arm64 of $1 names no kernel"
		exit 1
	}
	unpack "$1" "$package"
	cp "$tmp/root-$package/boot/"vmlinuz-* "$2"
	echo "$package" >"$2.package"
	rm -rf "$tmp/root-$package"
}

mkdir "$tmp/out"
# The lists are read once, before the subshells that follow share them.
apt_in trixie true
apt_in bookworm true
kernel trixie "$tmp/out/Image"
kernel bookworm "$tmp/out/Image-6.1"
unpack trixie qemu-efi-aarch64
cp "$tmp/root-qemu-efi-aarch64/usr/share/qemu-efi-aarch64/QEMU_EFI.fd" "$tmp/out/"
unpack trixie busybox-static

say "compiling the guest's programs"
for program in guesttool kexec-jump; do
	"${cross}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror -static -s \
		-o "$tmp/$program" "$here/image/$program.c"
done
# bare NAME ADDRESS: psci.c linked to run from there
bare() {
	"${cross}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -nostdlib -static \
		-mgeneral-regs-only -mstrict-align -fno-stack-protector -fno-pic -no-pie \
		-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 \
		-Wl,--defsym=CODE_BASE="$2" -T "$here/image/psci.ld" \
		-o "$1" "$here/image/psci-start.S" "$here/image/psci.c"
}
bare "$tmp/out/psci.elf" 0x42200000
bare "$tmp/psci-flash.elf" 0
"${cross}objcopy" -O binary -j .text "$tmp/psci-flash.elf" "$tmp/out/psci.bin"

say "packing the initramfs"
root=$tmp/initramfs
mkdir -p "$root"/{bin,dev,proc,sys,tmp}
cp "$tmp/root-busybox-static/usr/bin/busybox" "$root/bin/" 2>/dev/null ||
	cp "$tmp/root-busybox-static/bin/busybox" "$root/bin/"
cp "$tmp/guesttool" "$tmp/kexec-jump" "$root/bin/"
install -m 0755 "$here/image/init" "$root/init"
install -m 0755 "$here/image/uevent" "$root/bin/on-uevent"
(cd "$root" && find . -print0 | LC_ALL=C sort -z |
	cpio --quiet --null --create --format=newc --owner=0:0 --reproducible) >"$tmp/out/initrd"

touch "$tmp/out/complete"
rm -rf "$out"
mv "$tmp/out" "$out"
# Those of other versions of the tree may be in use: the newest few stay.
find "$cache" -maxdepth 1 -type d -name 'guest-*' -printf '%T@ %p\n' | sort -rn | tail -n +4 |
	cut -d' ' -f2- | xargs -r rm -rf
say "done"
echo "$out"
