# SPDX-License-Identifier: GPL-2.0-or-later
"""The first message of a connection: what is agreed upon, and what is not."""

from __future__ import annotations

import errno
import json
import struct
from typing import Any

import pytest
from toy_device import Toy
from vfio_client import NO_REPLY, Client, message, version

from harness.device.log import Kind
from harness.device.vfio_user.server import Server
from harness.device.vfio_user.wire import MAX_TRANSFER, Command, version_request

QEMU = {
    "capabilities": {
        "max_msg_fds": 8, "max_data_xfer_size": 1048576, "pgsizes": 4096, "max_dma_maps": 65535,
        "migration": {"pgsize": 4096, "max_bitmap_size": 268435456},
    }
}  # fmt: skip


def capabilities(**given: Any) -> bytes:
    return version(json.dumps({"capabilities": given}).encode() + b"\0")


def test_qemus_proposal_is_answered_with_what_the_server_takes(server: Server) -> None:
    with Client(server.path, version=None) as client:
        said = client.ask(Command.VERSION, version(json.dumps(QEMU).encode() + b"\0"))
        assert struct.unpack_from("<HH", said.body) == (0, 0)
        assert said.body[-1:] == b"\0"
        assert json.loads(said.body[4:-1]) == {
            "capabilities": {
                "max_msg_fds": 8, "max_data_xfer_size": 1 << 20, "max_dma_maps": 65535, "pgsizes": 4096,
                "write_multiple": False,
            }
        }  # fmt: skip


@pytest.mark.parametrize(
    "proposal",
    [
        version(b""),
        version(b"{}\0"),
        version(b'{"capabilities": {}}\0'),
        version(b"", minor=7),
        version(b'{"capabilities": {"unheard of": [1, {"of": null}]}}\0'),
        capabilities(max_data_xfer_size=1),
        version(b'{"capabilities": {"max_data_xfer_size": 1%s}}\0' % (b"0" * 300)),
        version(b"{%s}\0" % (b" " * 4093)),
    ],
)
def test_a_proposal_may_leave_out_what_it_likes(server: Server, proposal: bytes) -> None:
    with Client(server.path, version=proposal) as client:
        assert client.read(7, 0, 2) == b"\xf4\x1a"


@pytest.mark.parametrize(
    ("proposal", "error"),
    [
        (b"", errno.EINVAL),
        (b"\0\0\0", errno.EINVAL),
        (version(b"", major=1), errno.ENOTSUP),
        (version(b"", major=0xFFFF), errno.ENOTSUP),
        (version(b"{}"), errno.EINVAL),
        (version(b"\0"), errno.EINVAL),
        (version(b"{}\0{}"), errno.EINVAL),
        (version(b"{}\0\0"), errno.EINVAL),
        (version(b"[]\0"), errno.EINVAL),
        (version(b"5\0"), errno.EINVAL),
        (version(b"null\0"), errno.EINVAL),
        (version(b"{\0"), errno.EINVAL),
        (version(b"\xff\xfe\0"), errno.EINVAL),
        (version(b"[" * 4000 + b"\0"), errno.EINVAL),
        (version(b"{%s}\0" % (b" " * 4094)), errno.EINVAL),
        (version(b'{"capabilities": []}\0'), errno.EINVAL),
        (version(b'{"capabilities": null}\0'), errno.EINVAL),
        (capabilities(max_data_xfer_size=0), errno.EINVAL),
        (capabilities(max_data_xfer_size=-1), errno.EINVAL),
        (capabilities(max_data_xfer_size=True), errno.EINVAL),
        (capabilities(max_data_xfer_size="4096"), errno.EINVAL),
        (capabilities(max_data_xfer_size=4096.0), errno.EINVAL),
        (capabilities(max_data_xfer_size=None), errno.EINVAL),
        (version(b'{"capabilities": {"max_data_xfer_size": NaN}}\0'), errno.EINVAL),
        (version(b'{"capabilities": {"max_data_xfer_size": 1e999}}\0'), errno.EINVAL),
    ],
)
def test_a_proposal_that_cannot_be_agreed_upon_is_refused_and_the_connection_ended(
    server: Server, toy: Toy, proposal: bytes, error: int
) -> None:
    with Client(server.path, version=None) as client:
        assert client.ask(Command.VERSION, proposal).error == error
        assert client.is_ended()
    with Client(server.path) as client:
        assert client.read(7, 0, 2) == b"\xf4\x1a"
    assert toy.broken is None


@pytest.mark.parametrize("command", [one for one in Command if one is not Command.VERSION] + [0, 999])
def test_no_command_is_done_before_the_version_is_agreed_upon(server: Server, toy: Toy, command: int) -> None:
    mark = toy.log.mark()
    with Client(server.path, version=None) as client:
        assert client.ask(command, bytes(64)).error == errno.EINVAL
        assert client.is_ended()
    assert toy.log.entries(since=mark) == []


def test_a_second_version_is_refused_and_changes_nothing(client: Client) -> None:
    assert client.ask(Command.VERSION, version(b"", major=1)).error == errno.ENOTSUP
    assert client.read(7, 0, 2) == b"\xf4\x1a"


def test_a_version_that_wants_no_answer_gets_none(server: Server) -> None:
    with Client(server.path, version=None) as client:
        client.say(message(Command.VERSION, version(b""), flags=NO_REPLY))
        assert client.read(7, 0, 2) == b"\xf4\x1a"


@pytest.mark.parametrize(("wanted", "found"), [(1, 1), (4096, 4096), (1 << 20, 1 << 20), (1 << 40, 1 << 20)])
def test_of_two_transfer_sizes_the_smaller_holds(wanted: int, found: int) -> None:
    assert version_request(capabilities(max_data_xfer_size=wanted)).max_transfer == found
    assert version_request(version(b"")).max_transfer == MAX_TRANSFER


def test_the_device_knows_of_a_client_from_its_version_to_its_end(server: Server, toy: Toy) -> None:
    mark = toy.log.mark()
    with Client(server.path, version=None) as client:
        assert not toy.is_connected
        client.ask(Command.VERSION, version(b""))
        assert toy.is_connected
    toy.log.wait(lambda entry: entry.kind is Kind.DISCONNECTED, since=mark)
    assert not toy.is_connected
    assert [entry.kind for entry in toy.log.entries(since=mark)] == [Kind.CONNECTED, Kind.DISCONNECTED]
