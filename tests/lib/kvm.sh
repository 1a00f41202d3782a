# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Sourced by ./demo and ./check: what the arm64 KVM host of the tests is made of.

: "${top:?the caller sets it to the tree that is built}"

# prepare_kvm: builds it, and names it to cpupolicy_test/paths.py
prepare_kvm() {
	CPUPOLICY_KVM_HOST=$("$top/tests/kvm/build-host.sh" | tail -n 1) &&
		CPUPOLICY_KVM_BUILD=$("$top/tests/kvm/build-daemon.sh" | tail -n 1) &&
		CPUPOLICY_KVM_QEMU=$("$top/qemu-glue/build.sh" --kvm | tail -n 1) &&
		CPUPOLICY_KVM_STOCK_QEMU=$("$top/qemu-glue/build.sh" --kvm --stock | tail -n 1) || return
	export CPUPOLICY_KVM_HOST CPUPOLICY_KVM_BUILD CPUPOLICY_KVM_QEMU CPUPOLICY_KVM_STOCK_QEMU
}
