"""A live log from outside: one replay, with everything that breaks a rule, or does not lead to the root."""

from __future__ import annotations

import pytest
from _support.alliance import Alliance, key, log_signer
from _support.unchecked_log import UncheckedLog

from tlog.client.trusted_log import TrustedLog
from tlog.errors import SignatureError
from tlog.fsck.findings import Part, Report
from tlog.fsck.server_check import check_server
from tlog.merkle import leaf_hash
from tlog.policy import parse_policy


def check(log: UncheckedLog, alliance: Alliance, genesis: bytes | None = None) -> Report:
    policy = parse_policy(f"log {alliance.signer.vkey}\nquorum none\n".encode())
    trusted = TrustedLog.for_origin(policy, None)
    return check_server(log, trusted, genesis_leaf_hash=genesis)


def test_a_sound_log_is_sound_and_it_is_said_what_only_the_store_shows() -> None:
    alliance = Alliance()
    log = UncheckedLog.in_memory(alliance.signer, [*alliance.governance, *alliance.entries(0, 300)])
    report = check(log, alliance, leaf_hash(alliance.governance[0]))
    assert report.is_sound
    assert (report.tree_size, report.entries, report.governance_entries) == (304, 304, 4)
    assert "indexes" in report.unchecked[0]


def test_entries_that_break_rules_are_all_named() -> None:
    alliance = Alliance()
    log = UncheckedLog.in_memory(
        alliance.signer,
        [
            *alliance.governance,
            alliance.entry(1),
            alliance.entry(2, signer=key("a stranger")),
            alliance.entry(1, note="again"),
            alliance.entry(3),
        ],
    )
    report = check(log, alliance)
    assert [(finding.part, finding.leaf_index) for finding in report.findings] == [
        (Part.RULE, 5),
        (Part.RULE, 6),
    ]
    assert report.entries == 8


def test_entries_that_do_not_lead_to_the_signed_root_end_the_check_where_they_are() -> None:
    alliance = Alliance()
    log = UncheckedLog.in_memory(alliance.signer, [*alliance.governance, *alliance.entries(0, 300)])
    runs = log.runs

    def lying(start: int, under: object) -> object:
        for run in runs(start, under):  # type: ignore[arg-type]
            if run.start >= 200:
                run = type(run)(
                    start=run.start,
                    entries=[*run.entries[:-1], alliance.entry(999)],
                    right=run.right,
                    note=run.note,
                )
            yield run

    log.runs = lying  # type: ignore[assignment, method-assign]
    report = check(log, alliance)
    (finding,) = report.findings
    assert (finding.part, finding.leaf_index) == (Part.ENTRY, 200)
    assert report.entries == 200
    assert "everything from entry 200 on" in report.unchecked


def test_another_genesis_than_the_pinned_one_is_named() -> None:
    alliance = Alliance()
    log = UncheckedLog.in_memory(alliance.signer, alliance.governance)
    (finding,) = check(log, alliance, bytes(32)).findings
    assert "is pinned" in finding.message


def test_a_checkpoint_that_nobody_signed_is_an_error() -> None:
    alliance = Alliance()
    log = UncheckedLog.in_memory(alliance.signer, alliance.governance)
    other = Alliance(signer=log_signer(name="another key"))
    log.note = UncheckedLog.in_memory(other.signer, other.governance).note
    with pytest.raises(SignatureError):
        check(log, alliance)
