# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI functions in a sysfs that is a dictionary, behind an agent without a guest."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from harness.errors import GuestFailure
from harness.guest.agent import Agent, Answer, Call, GuestErrno
from harness.guest.driver import Driver
from harness.guest.pci import Bdf, Function, Resource, functions
from harness.guest.ssh import COMMAND_TIMEOUT

DEVICES = "/sys/bus/pci/devices"
PF = "0000:01:00.0"
VF = "0000:01:10.0"


class Sysfs(Agent):
    """Answers calls from `files`, in which links and listings are files too; writes are kept in `written`."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.written: list[tuple[str, bytes]] = []
        self.refused: dict[str, int] = {}

    def batch(self, calls: Sequence[Call], *, timeout: float = COMMAND_TIMEOUT) -> list[Answer]:
        assert timeout == COMMAND_TIMEOUT
        return [self.answer(call) for call in calls]

    def answer(self, call: Call) -> Answer:
        if call.path in self.refused:
            return Answer(call, self.refused[call.path], b"")
        if call.name == "mode":
            return Answer(call, 0, self.files.get(call.path, b"33188"))  # a file, 0644
        if call.name == "write":
            self.written.append((call.path, bytes.fromhex(call.words[1])))
            return Answer(call, 0, b"")
        if call.path not in self.files:
            return Answer(call, errno.ENOENT, b"")
        data = self.files[call.path]
        if call.name == "read":
            offset, length = map(int, call.words)
            data = data[offset : offset + length]
        return Answer(call, 0, data)


def function_with(name: str = PF, **attributes: bytes) -> Function:
    files = {f"{DEVICES}/{name}/{attribute}": value for attribute, value in attributes.items()}
    return Function(Sysfs({f"{DEVICES}/{name}": f"../../../devices/{name}".encode(), **files}), Bdf.parse(name))


def pf_listing(*names: str) -> Sysfs:
    return Sysfs({f"{DEVICES}/{PF}": "\0".join(names).encode()})


@pytest.mark.parametrize(
    ("text", "bdf"),
    [
        ("0000:00:00.0", Bdf(0, 0, 0, 0)),
        ("0000:01:10.7", Bdf(0, 1, 0x10, 7)),
        ("ffff:ff:1f.7", Bdf(0xFFFF, 0xFF, 0x1F, 7)),
        ("10000:e1:00.0", Bdf(0x10000, 0xE1, 0, 0)),
    ],
)
def test_an_address_is_read_and_written_as_sysfs_does(text: str, bdf: Bdf) -> None:
    assert Bdf.parse(text) == bdf
    assert str(bdf) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01:00.0",
        "0000:01:00",
        "0000:01:00.8",
        "0000:01:20.0",
        "0000:1:00.0",
        "0000:01:00.0\n",
        " 0000:01:00.0",
        "0000:01:00.00",
        "0000:AB:00.0",
        "123456789:01:00.0",
        "0000:01:00.0/../../..",
        "\u0660000:01:00.0",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no PCI address such as 0000:01:00\.0"):
        Bdf.parse(text)


@pytest.mark.parametrize(
    ("bdf", "routing_id"),
    [(Bdf(0, 0, 0, 0), 0), (Bdf(0, 1, 0x10, 3), 0x0183), (Bdf(0, 0xFF, 0x1F, 7), 0xFFFF)],
)
def test_a_routing_id_names_bus_device_and_function(bdf: Bdf, routing_id: int) -> None:
    assert bdf.routing_id == routing_id
    assert Bdf.from_routing_id(routing_id) == bdf


def test_a_routing_id_beyond_its_bus_is_on_the_next_one() -> None:
    assert Bdf.from_routing_id(Bdf.parse("0002:01:1f.7").routing_id + 1, domain=2) == Bdf.parse("0002:02:00.0")


def test_addresses_sort_as_numbers() -> None:
    texts = ["0000:00:1f.0", "0000:01:00.0", "0000:01:00.1", "0000:0a:00.0", "0001:00:00.0", "10000:00:00.0"]
    assert [str(bdf) for bdf in sorted(map(Bdf.parse, reversed(texts)))] == texts


def test_functions_are_known_by_their_address_alone() -> None:
    function = function_with(PF)
    assert function == function_with(PF)
    assert len({function, function_with(PF), function_with(VF)}) == 2
    assert function != PF
    assert repr(function) == f"<{PF}>"


def test_all_functions_come_in_the_order_of_their_addresses_and_exist() -> None:
    sysfs = Sysfs({DEVICES: f"{VF}\0{PF}".encode()})
    found = functions(sysfs)
    assert [str(function.bdf) for function in found] == [PF, VF]
    assert all(function.exists for function in found)
    assert not Function(sysfs, Bdf.parse("0000:02:00.0")).exists


def test_a_guest_without_pci_has_no_functions() -> None:
    assert functions(Sysfs({DEVICES: b""})) == []


@pytest.mark.parametrize("listed", [b"..", b"\0", b"\xff", b"a" * 100_000])
def test_a_listing_that_names_no_address_is_the_guests_fault(listed: bytes) -> None:
    with pytest.raises(GuestFailure, match="names a PCI function that is none") as caught:
        functions(Sysfs({DEVICES: listed}))
    assert len(str(caught.value)) < 200


def test_an_attribute_is_read_without_its_newline_and_written_byte_for_byte() -> None:
    sysfs = Sysfs({f"{DEVICES}/{PF}/label": b" a\xff\n\n"})
    function = Function(sysfs, Bdf.parse(PF))
    assert function.read("label") == " a\ufffd\n"
    for value in ("x", 7, b"\0", b""):
        function.write("label", value)
    assert [data for _, data in sysfs.written] == [b"x", b"7", b"\0", b""]


def test_what_a_system_call_says_is_raised() -> None:
    function = function_with(PF)
    for action in (lambda: function.read("no"), function.config, lambda: function.numvfs):
        with pytest.raises(GuestErrno) as caught:
            action()
        assert caught.value.errno == errno.ENOENT


def test_a_function_that_is_gone_is_not_taken_for_one_without_driver_or_pf() -> None:
    function = Function(Sysfs(), Bdf.parse(PF))
    for action in (lambda: function.driver, lambda: function.physfn, function.attributes, lambda: function.vfs):
        with pytest.raises(GuestErrno) as caught:
            action()
        assert caught.value.errno == errno.ENOENT


def test_configuration_space_is_read_in_part() -> None:
    function = function_with(PF, config=bytes(range(256)))
    assert function.config(4, 2) == b"\x04\x05"
    assert len(function.config()) == 256


NUMBERS = {"numvfs": "sriov_numvfs", "totalvfs": "sriov_totalvfs", "offset": "sriov_offset", "stride": "sriov_stride"}


@pytest.mark.parametrize(("name", "attribute"), NUMBERS.items())
def test_a_number_of_sriov_is_read(name: str, attribute: str) -> None:
    assert getattr(function_with(PF, **{attribute: b"42\n"}), name) == 42


@pytest.mark.parametrize("text", [b"", b"\n", b"many", b"\xff", b"9" * 5000])
@pytest.mark.parametrize(("name", "attribute"), NUMBERS.items())
def test_a_number_of_sriov_that_is_none_is_the_guests_fault(name: str, attribute: str, text: bytes) -> None:
    function = function_with(PF, **{attribute: text})
    with pytest.raises(GuestFailure, match=f"^{attribute} of {PF} is no number: ") as caught:
        getattr(function, name)
    assert len(str(caught.value)) < 200


def test_vfs_are_enabled_by_one_write() -> None:
    sysfs = Sysfs()
    Function(sysfs, Bdf.parse(PF)).numvfs = 4
    assert sysfs.written == [(f"{DEVICES}/{PF}/sriov_numvfs", b"4")]


def test_vfs_come_in_the_order_of_their_index() -> None:
    sysfs = pf_listing("driver", "virtfn10", "virtfn2", "virtfn0", "virtfn", "virtfnx", "xvirtfn1", "virtfn123456")
    for index, device in ((0, 0x10), (2, 0x11), (10, 0x12)):
        sysfs.files[f"{DEVICES}/{PF}/virtfn{index}"] = f"../0000:01:{device:02x}.0".encode()
    assert [function.bdf.device for function in Function(sysfs, Bdf.parse(PF)).vfs] == [0x10, 0x11, 0x12]


def test_a_function_without_vfs_has_none() -> None:
    assert Function(pf_listing("vendor", "device"), Bdf.parse(PF)).vfs == []


@pytest.mark.parametrize("target", [b"", b"..", b"../../../etc/passwd", b"\xff\xfe", b"0000:01:10.0/"])
def test_a_link_that_leads_to_no_function_is_the_guests_fault(target: bytes) -> None:
    sysfs = pf_listing("virtfn0")
    sysfs.files[f"{DEVICES}/{PF}/virtfn0"] = sysfs.files[f"{DEVICES}/{PF}/physfn"] = target
    function = Function(sysfs, Bdf.parse(PF))
    with pytest.raises(GuestFailure, match="names a PCI function that is none"):
        _ = function.vfs
    with pytest.raises(GuestFailure, match="names a PCI function that is none"):
        _ = function.physfn


def test_a_vf_knows_its_pf_and_a_pf_has_none() -> None:
    assert function_with(VF, physfn=b"../0000:01:00.0").physfn == function_with(PF)
    assert function_with(PF).physfn is None


def test_a_driver_is_told_by_its_name() -> None:
    assert function_with(PF, driver=b"../../../../bus/pci/drivers/igb").driver == "igb"
    assert function_with(PF, driver=b"drivers/\xff").driver == "\ufffd"
    assert function_with(PF).driver is None


def test_a_link_that_cannot_be_read_is_not_taken_for_a_missing_one() -> None:
    sysfs = Sysfs()
    sysfs.refused = {f"{DEVICES}/{PF}/{name}": errno.EIO for name in ("driver", "physfn")}
    function = Function(sysfs, Bdf.parse(PF))
    with pytest.raises(GuestErrno, match="EIO"):
        _ = function.driver
    with pytest.raises(GuestErrno, match="EIO"):
        _ = function.physfn


@pytest.mark.parametrize("bound", [True, False])
def test_overriding_the_driver_takes_the_old_one_away_first(bound: bool) -> None:
    sysfs = Sysfs({f"{DEVICES}/{PF}": b"", **({f"{DEVICES}/{PF}/driver": b"drivers/igb"} if bound else {})})
    Function(sysfs, Bdf.parse(PF)).override("vfio-pci")
    unbinding = [(f"{DEVICES}/{PF}/driver/unbind", PF.encode())] if bound else []
    assert sysfs.written == [
        *unbinding,
        (f"{DEVICES}/{PF}/driver_override", b"vfio-pci"),
        ("/sys/bus/pci/drivers/vfio-pci/bind", PF.encode()),
    ]


@pytest.mark.parametrize(
    ("target", "upstream"),
    [
        (b"../../../devices/pci0000:00/0000:00:10.0/0000:01:00.0", "0000:00:10.0"),
        (b"../../../devices/pci0000:00/0000:01:00.0", None),
        (b"0000:01:00.0", None),
        (b"../../../devices/\xff/0000:01:00.0", None),
    ],
)
def test_what_is_above_a_function_is_the_folder_that_it_lies_in(target: bytes, upstream: str | None) -> None:
    function = Function(Sysfs({f"{DEVICES}/{PF}": target}), Bdf.parse(PF))
    assert function.upstream == (None if upstream is None else Function(Sysfs(), Bdf.parse(upstream)))


def test_ids_are_hexadecimal_numbers() -> None:
    function = function_with(vendor=b"0x8086\n", device=b"0x10c9\n", **{"class": b"0x020000\n"})
    assert (function.vendor, function.device, function.class_code) == (0x8086, 0x10C9, 0x020000)


@pytest.mark.parametrize("text", [b"", b"many", b"\xff", b"0x" + b"z" * 5000])
def test_an_id_that_is_no_number_is_the_guests_fault(text: bytes) -> None:
    with pytest.raises(GuestFailure, match=f"^vendor of {PF} is no number: ") as caught:
        _ = function_with(vendor=text).vendor
    assert len(str(caught.value)) < 200


def test_resources_have_a_size_where_there_is_one() -> None:
    lines = ["0x00000000fe800000 0x00000000fe81ffff 0x0000000000040200", f"0x{0:016x} 0x{0:016x} 0x{0:016x}"]
    found = function_with(resource="\n".join(lines).encode() + b"\n").resources
    assert found == [Resource(0xFE800000, 0xFE81FFFF, 0x40200), Resource(0, 0, 0)]
    assert [one.size for one in found] == [0x20000, 0]


def test_a_resource_that_is_none_is_the_guests_fault() -> None:
    with pytest.raises(GuestFailure, match=r"resource of .* has a line that is none: 'x+'$") as caught:
        _ = function_with(resource=b"x" * 5000).resources
    assert len(str(caught.value)) < 200


def test_permissions_are_those_of_the_file() -> None:
    function = function_with()
    assert function.permissions("config") == 0o644
    assert isinstance(function._agent, Sysfs)
    function._agent.files[f"{DEVICES}/{PF}/config"] = b"-1"
    with pytest.raises(GuestFailure, match="has permissions that are none: '-1'"):
        function.permissions("config")


def test_what_is_done_to_a_function_is_one_write() -> None:
    sysfs = Sysfs()
    function = Function(sysfs, Bdf.parse(PF))
    function.remove()
    function.rescan()
    function.reset()
    function.autoprobe = False
    function.write_config(8, b"\1\2")
    Driver(sysfs, "nvme").new_id(0x1B36, 0x10)
    Driver(sysfs, "nvme").remove_id(0x1B36, 0x10)
    assert [(path.removeprefix("/sys/bus/pci/"), data) for path, data in sysfs.written] == [
        (f"devices/{PF}/remove", b"1"),
        (f"devices/{PF}/rescan", b"1"),
        (f"devices/{PF}/reset", b"1"),
        (f"devices/{PF}/sriov_drivers_autoprobe", b"0"),
        (f"devices/{PF}/config", b"\1\2"),
        ("drivers/nvme/new_id", b"1b36 0010"),
        ("drivers/nvme/remove_id", b"1b36 0010"),
    ]


def test_a_driver_exists_where_it_has_a_folder() -> None:
    sysfs = Sysfs({"/sys/bus/pci/drivers/nvme": b"bind\0unbind"})
    assert Driver(sysfs, "nvme").exists
    assert not Driver(sysfs, "igb").exists
    sysfs.refused = {"/sys/bus/pci/drivers/igb": errno.EIO}
    with pytest.raises(GuestErrno, match="EIO"):
        _ = Driver(sysfs, "igb").exists


def test_an_iommu_group_is_a_number_or_none() -> None:
    assert function_with(iommu_group=b"../../../kernel/iommu_groups/7").iommu_group == "7"
    assert function_with().iommu_group is None


def test_a_bridge_says_its_bus_numbers() -> None:
    assert function_with(PF, config=bytes(0x18) + bytes([0, 1, 4, 0])).buses == (0, 1, 4)


@pytest.mark.parametrize("config", [b"", bytes(0x1A)])
def test_bus_numbers_that_are_not_there_are_the_guests_fault(config: bytes) -> None:
    with pytest.raises(GuestFailure, match="has no bus numbers"):
        _ = function_with(PF, config=config).buses
