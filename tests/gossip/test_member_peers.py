"""The membership names the nodes to ask: every active member's, nobody else's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from tlog.governance import Member, MemberKey
from tlog.governance_schema import MemberStatus
from tlog.node.member_peers import addresses_to_ask, member_addresses


def member(name: str, *sources: str, status: MemberStatus = MemberStatus.ACTIVE) -> Member:
    return Member(
        id=name,
        name=name,
        sources=sources,
        roles=("exporter",),
        keys=(MemberKey(public_key=bytes(32), revoked=False),),
        status=status,
    )


def addresses(*members: Member) -> tuple[str, ...]:
    registry = SimpleNamespace(members={one.id: one for one in members})
    return member_addresses(registry, 8655)


def test_every_active_member_is_asked_at_the_hosts_of_its_sources() -> None:
    bank = member(
        "bank", "https://bank.example/trade", "https://BANK.example", "https://node.bank.example:99/x"
    )
    port = member("port", "https://[2001:db8::1]/terminal")
    assert addresses(bank, port) == ("bank.example:8655", "node.bank.example:8655", "[2001:db8::1]:8655")


def test_who_is_suspended_or_names_no_host_is_not_asked() -> None:
    bank = member("bank", "https://bank.example")
    gone = replace(bank, id="gone", sources=("https://gone.example",), status=MemberStatus.SUSPENDED)
    other = member("other", "urn:example:meter", "http://plain.example", "https://", "https://[bad")
    assert addresses(gone, other) == ()


def test_the_static_list_comes_first_and_nobody_is_asked_twice_nor_oneself() -> None:
    of_members = [("bank.example:8655", "me.example:8655"), ("port.example:8655", "bank.example:8655")]
    assert addresses_to_ask(
        ["node.bank.example:9000", "port.example:8655"], of_members, "me.example:8655"
    ) == (
        "node.bank.example:9000",
        "port.example:8655",
        "bank.example:8655",
    )
    assert addresses_to_ask(["me.example:8655"], [], "me.example:8655") == ()
    assert addresses_to_ask(["a:1"], [], "") == ("a:1",)
