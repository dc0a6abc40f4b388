"""An entry that is asked for by its event's name: the log says where, and proves that it is that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from _support.alliance import Alliance
from _support.lying_log import LyingLog

from tlog.client import LogClient
from tlog.errors import MalformedError, NotFoundError, ProofError, RemoteError, RuleBrokenError
from tlog.receipt import verify_receipt

SOURCE = Alliance.source("exporter")


@pytest.fixture
def filled(log: LyingLog) -> LyingLog:
    alliance = Alliance(origin=log.origin, signer=log.signer)
    log.add(*alliance.governance, *alliance.entries(0, 20), b"no event")
    return log


def test_it_is_found_with_a_receipt_that_verifies(filled: LyingLog, client: LogClient, policy) -> None:
    for number in (0, 7, 19):
        found = client.find_entry(SOURCE, f"event-{number}")
        assert found.leaf_index == 4 + number
        assert found.entry == filled.tree.entries[4 + number]
        verify_receipt(found.entry, found.receipt, policy)


@pytest.mark.parametrize("name", [(SOURCE, "event-20"), ("urn:nobody", "event-1"), (SOURCE, "")])
def test_what_is_not_there_is_not_found(filled: LyingLog, client: LogClient, name: tuple[str, str]) -> None:
    with pytest.raises(NotFoundError):
        client.find_entry(*name)


def another_entry(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        reply.results[0].proof.CopyFrom(filled.inclusion(5, filled.size))

    return lie


def no_event(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        reply.results[0].proof.CopyFrom(filled.inclusion(filled.size - 1, filled.size))

    return lie


def beyond_the_tree(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        reply.results[0].proof.leaf_index = filled.size

    return lie


def beyond_every_tree(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        reply.results[0].proof.leaf_index = 2**63

    return lie


def wrong_proof(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        reply.results[0].proof.hashes[0] = bytes(32)

    return lie


def no_result(filled: LyingLog) -> Callable[[Any, Any], None]:
    def lie(reply: Any, request: Any) -> None:
        del reply.results[:]

    return lie


@pytest.mark.parametrize(
    "lie", [another_entry, no_event, beyond_the_tree, beyond_every_tree, wrong_proof, no_result]
)
def test_a_lie_about_where_it_is_is_found(
    filled: LyingLog, client: LogClient, lie: Callable[[LyingLog], Callable[[Any, Any], None]]
) -> None:
    filled.lies["GetInclusionProofs"] = lie(filled)
    with pytest.raises((ProofError, RemoteError, RuleBrokenError)) as caught:
        client.find_entry(SOURCE, "event-3")
    assert (caught.type is RemoteError) == (lie is beyond_every_tree)
    assert (caught.type is RuleBrokenError) == (lie is no_event)


def test_another_entry_in_its_place_is_found(filled: LyingLog, client: LogClient) -> None:
    def lie(reply: Any, request: Any) -> None:
        reply.entries[0] = filled.tree.entries[9]

    filled.lies["GetEntries"] = lie
    with pytest.raises(ProofError):
        client.find_entry(SOURCE, "event-3")


def test_a_lone_surrogate_is_refused_before_it_is_sent(filled: LyingLog, client: LogClient) -> None:
    with pytest.raises(MalformedError):
        client.find_entry("urn:\ud800", "1")
    with pytest.raises(MalformedError):
        client.find_entry("urn:a", "\ud800")
    with pytest.raises(MalformedError):
        client.lookup("invoice:\ud800")
