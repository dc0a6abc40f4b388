"""One port for several processes: kept against strangers, open to those who are meant to share it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from server.shared_port import SharedPort
from tlog.errors import ConfigError


def reserve(address: str, port: int, patience_s: float = 0.0) -> SharedPort:
    return asyncio.run(SharedPort.reserve(address, port, patience_s=patience_s))


def listener(address: str, port: int, *, shared: bool) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def test_the_system_chooses_a_port_and_those_who_share_can_listen_on_it() -> None:
    kept = reserve("127.0.0.1", 0)
    listening = [listener("127.0.0.1", kept.port, shared=True) for _ in range(2)]
    for _ in range(20):
        # The reserving socket listens not: every connection finds one that does.
        socket.create_connection(("127.0.0.1", kept.port), timeout=5).close()
    for one in listening:
        one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", kept.port), timeout=5)
    kept.close()


def test_a_port_that_is_kept_is_nobody_elses() -> None:
    kept = reserve("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        listener("127.0.0.1", kept.port, shared=False)
    with pytest.raises(ConfigError, match="is another server running"):
        reserve("127.0.0.1", kept.port)
    kept.close()
    reserve("127.0.0.1", kept.port).close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_listens_on_is_refused_also_if_he_would_share_it(shared: bool) -> None:
    with listener("127.0.0.1", 0, shared=shared) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ConfigError, match="is another server running"):
            reserve("127.0.0.1", port)


def test_a_predecessor_that_is_just_ending_is_waited_for() -> None:
    async def scenario() -> int:
        with listener("127.0.0.1", 0, shared=True) as listening:
            port = int(listening.getsockname()[1])
            reserving = asyncio.create_task(SharedPort.reserve("127.0.0.1", port, patience_s=10))
            await asyncio.sleep(0.3)
            assert not reserving.done()
        kept = await reserving
        kept.close()
        return kept.port - port

    assert asyncio.run(scenario()) == 0


def test_connections_of_the_last_run_that_linger_do_not_hold_the_port() -> None:
    with listener("127.0.0.1", 0, shared=False) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        accepted, _ = listening.accept()
        accepted.close()  # who closes first lingers in TIME_WAIT
        client.close()
    reserve("127.0.0.1", port).close()


def test_a_name_stands_for_all_its_addresses_under_one_port() -> None:
    kept = reserve("localhost", 0)
    with pytest.raises(ConfigError):
        reserve("127.0.0.1", kept.port)
    kept.close()


@pytest.mark.parametrize("address", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        reserve(address, 0)
