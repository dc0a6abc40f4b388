"""Who may read: the rule, against the membership as it is."""

from __future__ import annotations

import pytest
from _support.alliance import Alliance

from tlog.errors import AccessError
from tlog.governance import MemberStatus
from tlog.log_state import fold_governance
from tlog.membership import Registry
from tlog.merkle import leaf_hash
from tlog.reading import member_of, parse_reading_rule

EXPORTER, FORWARDER = Alliance.source("exporter"), Alliance.source("forwarder")


def registry(alliance: Alliance) -> Registry:
    entries = [(index, entry, leaf_hash(entry)) for index, entry in enumerate(alliance.governance)]
    return fold_governance(Registry.EMPTY, alliance.origin, entries)


def test_a_public_log_is_read_by_anybody() -> None:
    parse_reading_rule("public").require(Registry.EMPTY, ())


def test_a_caller_is_the_member_whose_registered_source_its_certificate_names() -> None:
    known = registry(Alliance())
    found = member_of(known, [EXPORTER])
    assert found is not None
    assert found.id == "exporter"
    assert member_of(known, ["urn:other", EXPORTER]) == found
    assert member_of(known, [EXPORTER, EXPORTER]) == found


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["https://stranger.example"],
        [EXPORTER + "/"],
        [EXPORTER + "/below"],
        [EXPORTER.upper()],
        [EXPORTER[:-1]],
        ["exporter"],
        ["urn:tlog:governance"],
        [EXPORTER, FORWARDER],
    ],
)
def test_no_source_another_spelling_or_two_members_at_once_is_nobody(uris: list[str]) -> None:
    known = registry(Alliance())
    assert member_of(known, uris) is None
    with pytest.raises(AccessError, match="members"):
        parse_reading_rule("members").require(known, uris)


def test_members_read_whatever_their_role() -> None:
    known, rule = registry(Alliance()), parse_reading_rule("members")
    rule.require(known, [EXPORTER])
    rule.require(known, [FORWARDER])


def test_a_role_lets_in_those_who_have_it_and_nobody_else() -> None:
    known = registry(Alliance())
    parse_reading_rule(["customs", "exporter"]).require(known, [EXPORTER])
    with pytest.raises(AccessError, match="customs or exporter"):
        parse_reading_rule(["customs", "exporter"]).require(known, [FORWARDER])


def test_a_member_that_is_suspended_reads_no_more_and_later_again() -> None:
    alliance = Alliance()
    rule = parse_reading_rule("members")
    alliance.add_member("exporter", ["exporter"], status=MemberStatus.SUSPENDED)
    with pytest.raises(AccessError, match="suspended"):
        rule.require(registry(alliance), [EXPORTER])
    alliance.add_member("exporter", ["exporter"])
    rule.require(registry(alliance), [EXPORTER])


def test_before_the_first_member_nobody_reads_a_log_of_members() -> None:
    with pytest.raises(AccessError):
        parse_reading_rule("members").require(Registry.EMPTY, [EXPORTER])
