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
#   psci-gic3.elf, psci-gic3.bin  the same for a machine with a GICv3
#
# Everything comes from Debian's packages, through the machine's own package source: only another
# suite and another architecture are asked for, with lists and cache of their own, so that nothing
# of the system changes. The result is kept under a name made of the hash of what it is made from.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cpupolicyd
cross=aarch64-linux-gnu-

key=$(cd "$here" && sha256sum build-images.sh image/* ../lib/arm64-packages.sh | sha256sum | cut -c1-16)
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

# shellcheck source=tests/lib/arm64-packages.sh
. "$here/../lib/arm64-packages.sh"
need apt-get dpkg "${cross}gcc" cpio

# kernel SUITE TARGET: the kernel that linux-image-arm64 of that suite depends on
kernel() {
	local package
	package=$(kernel_package "$1")
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
# bare FILE ADDRESS GIC: psci.c linked to run from there
bare() {
	"${cross}gcc" -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -nostdlib -static \
		-mgeneral-regs-only -mstrict-align -fno-stack-protector -fno-pic -no-pie \
		-Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 \
		-Wl,--defsym=CODE_BASE="$2" -T "$here/image/psci.ld" \
		-o "$1" "$here/image/psci-start.S" "$here/image/psci.c" "$here/image/psci-gic$3.c"
}
for gic in 2 3; do
	name=psci
	[ "$gic" = 2 ] || name=psci-gic$gic
	bare "$tmp/out/$name.elf" 0x42200000 "$gic"
	bare "$tmp/$name-flash.elf" 0 "$gic"
	"${cross}objcopy" -O binary -j .text "$tmp/$name-flash.elf" "$tmp/out/$name.bin"
done

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
