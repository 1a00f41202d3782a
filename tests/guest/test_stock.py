# SPDX-License-Identifier: GPL-2.0-or-later
"""Without the object the extended QEMU is the stock one, bit for bit in what it tells its guest."""

import struct

import pytest

from cpupolicy_test import paths

FW_CFG_DMA = 0x09020010
FILE_DIR = 0x19
DMA_READ, DMA_SELECT = 0x2, 0x8
# Free memory of the guest: for the request, and for what is read.
REQUEST, BUFFER = 0x42800000, 0x43000000


class FwCfg:
    """QEMU's table files, fetched as firmware fetches them."""

    def __init__(self, machine, directory):
        self.machine = machine
        self.path = directory / "fw_cfg"

    def _write_big_endian(self, address, data):
        self.machine.guest.write(8, address, int.from_bytes(data, "little"))

    def read(self, key, size):
        control = key << 16 | DMA_SELECT | DMA_READ
        self._write_big_endian(REQUEST, struct.pack(">II", control, size))
        self._write_big_endian(REQUEST + 8, struct.pack(">Q", BUFFER))
        self._write_big_endian(FW_CFG_DMA, struct.pack(">Q", REQUEST))
        self.machine.qmp.execute("pmemsave", val=BUFFER, size=size, filename=str(self.path))
        return self.path.read_bytes()

    def files(self):
        count = struct.unpack(">I", self.read(FILE_DIR, 4))[0]
        directory = self.read(FILE_DIR, 4 + 64 * count)[4:]
        found = {}
        for i in range(count):
            size, key, _, name = struct.unpack(">IHH56s", directory[64 * i:64 * (i + 1)])
            found[name.split(b"\0")[0].decode()] = (key, size)
        return found

    def file(self, name):
        return self.read(*self.files()[name])


TABLES = ["etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"]
SHAPES = ["4", "cpus=2,maxcpus=4", "8,sockets=2,cores=2,threads=2"]


@pytest.mark.parametrize("smp", SHAPES)
def test_acpi_tables_are_the_same(lab, directory, smp):
    seen = []
    for qemu in (paths.stock_qemu(), paths.qemu()):
        machine = lab.psci(smp=smp, firmware=True, qemu=qemu)
        fw_cfg = FwCfg(machine, directory)
        seen.append({name: fw_cfg.file(name) for name in TABLES})
        seen[-1]["files"] = sorted(fw_cfg.files())
        machine.close()
    assert len(seen[0]["etc/acpi/tables"]) > 4000
    assert seen[0] == seen[1]


def test_tables_with_the_object_are_others(lab, directory):
    """That the comparison above can fail."""
    tables = []
    for policy in (None, {"standalone": "on"}):
        machine = lab.psci(smp="4", firmware=True, policy=policy)
        tables.append(FwCfg(machine, directory).file("etc/acpi/tables"))
    assert tables[0] != tables[1]


@pytest.mark.parametrize("smp", SHAPES)
def test_device_tree_is_the_same(lab, directory, smp):
    blobs = []
    for i, qemu in enumerate((paths.stock_qemu(), paths.qemu())):
        path = directory / f"{i}.dtb"
        machine = lab.psci(smp=smp, qemu=qemu, boot=False,
                           machine=f",dumpdtb={path},dtb-randomness=off")
        assert machine.process.wait(30) == 0, machine.process.log()
        blobs.append(path.read_bytes())
    assert len(blobs[0]) > 4000
    assert blobs[0] == blobs[1]


def test_migration_to_and_from_stock(lab, directory):
    """The object's state is not in the stream where there is no object."""
    for number, (here, there) in enumerate(((paths.stock_qemu(), paths.qemu()),
                                            (paths.qemu(), paths.stock_qemu()))):
        path = directory / f"migration{number}"
        source = lab.psci(smp="2", qemu=here)
        assert source.guest.cpu_on(1) == 0
        source.guest.wait_entered(1)
        target = lab.psci(smp="2", qemu=there, extra=["-incoming", f"unix:{path}"], boot=False)
        target.qmp.execute("query-status")
        source.qmp.execute("migrate", uri=f"unix:{path}")
        target.qmp.event("RESUME")
        assert target.guest.affinity_info(1) == 0
        source.close()
        target.close()
