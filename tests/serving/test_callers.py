"""Who calls, of many connections of many hosts."""

from __future__ import annotations

from server.callers import MAX_REMEMBERED, Callers


def test_all_connections_of_a_host_are_one_caller() -> None:
    callers = Callers()
    hosts = ("192.0.2.1", "192.0.2.2")
    peers = [f"ipv4:{host}:{port}" for port in range(40_000, 40_010) for host in hosts]
    assert [callers.of_peer(peer).name for peer in peers * 2] == [*hosts] * 20
    assert {callers.of_peer(f"ipv6:%5B2001:db8::{port}%5D:{port}").name for port in range(1, 9)} == {
        "2001:db8::/64"
    }


def test_strangers_fill_no_memory_however_often_they_connect() -> None:
    callers = Callers()
    for number in range(2 * MAX_REMEMBERED):
        callers.of_peer(f"ipv4:192.0.2.{number % 250}:{number}")
    assert callers.of_peer.cache_info().currsize == MAX_REMEMBERED
    assert callers.of_certificate.cache_info().maxsize == MAX_REMEMBERED
