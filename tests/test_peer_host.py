"""Whom limits hold against: a host, however many addresses it has."""

from __future__ import annotations

import pytest

from tlog.peer_host import host_of_address, host_of_peer


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::9%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:4711", "fe80::/64"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("unix:/run/tlog.sock", "unix:/run/tlog.sock"),
        ("ipv6:[nonsense:]:1", "nonsense:"),
    ],
)
def test_a_host_is_its_ipv4_address_or_the_ipv6_network_that_it_has_to_itself(peer: str, host: str) -> None:
    assert host_of_peer(peer) == host


def test_ever_new_addresses_of_one_network_are_one_host_and_those_of_the_next_another() -> None:
    hosts = {host_of_address(f"2001:db8:0:1::{number:x}") for number in range(1_000)}
    assert hosts == {"2001:db8:0:1::/64"}
    assert host_of_address("2001:db8:0:2::1") not in hosts
