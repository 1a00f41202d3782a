# SPDX-License-Identifier: GPL-2.0-or-later
# What is built of QEMU's devices: the `virt` board and what a guest of it commonly has. All of Arm's boards would double
# the time that a build takes.

CONFIG_ARM_VIRT=y
CONFIG_PCI_DEVICES=y
CONFIG_PCIE_PORT=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SCSI=y
CONFIG_VIRTIO_SERIAL=y
