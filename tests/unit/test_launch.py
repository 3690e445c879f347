"""The port at which jobs are taken: kept for the cluster that starts, and left to the one that has it."""

from __future__ import annotations

import socket

import pytest

from ray_app.launch import reserve
from ray_app.stores.embedded import free_port


def listening(port: int) -> socket.socket:
    """As servers of asyncio do."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    found.listen()
    return found


def test_a_reserved_port_can_be_listened_on_and_called() -> None:
    held = reserve(free_port(), 0)
    assert held is not None
    with held, listening(held.getsockname()[1]) as server, socket.create_connection(server.getsockname()) as caller:
        assert caller.getpeername() == server.getsockname()


def test_no_connection_is_given_a_reserved_port() -> None:
    held = reserve(free_port(), 0)
    assert held is not None
    with held, listening(0) as server, socket.socket() as caller:
        with pytest.raises(OSError, match="in use"):
            caller.bind(("127.0.0.1", held.getsockname()[1]))  # without SO_REUSEADDR, as a connection is made
        caller.connect(server.getsockname())
        assert caller.getsockname()[1] != held.getsockname()[1]


def test_a_port_on_which_another_listens_is_left_to_it() -> None:
    with listening(0) as server:
        assert reserve(server.getsockname()[1], 0.2) is None


def test_a_port_that_is_let_go_meanwhile_is_reserved() -> None:
    with listening(0) as server:
        port = server.getsockname()[1]
        assert reserve(port, 0) is None
    held = reserve(port, 0)
    assert held is not None
    held.close()
