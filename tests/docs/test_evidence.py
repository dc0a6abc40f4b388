"""The worked example of docs/evidence.md, run as it stands there, and its tables against the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from _support.command_line import tlog

from tlog.errors import RefusalReason
from tlog.evidence import (
    EvidenceKind,
    KeyRole,
    SizesEvidence,
    format_evidence,
    parse_evidence,
    verify_evidence,
)
from tlog.evidence.kinds import WITH_MEMBERSHIP, WITHOUT_CONTEXT
from tlog.policy import parse_policy

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the one block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.M | re.S)
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "found.evidence").write_text(block("evidence"))
    (tmp_path / "policy").write_text(block("policy"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_of_the_example_says_what_the_page_says(folder: Path) -> None:
    prompt, _, expected = block("console").partition("\n")
    command = prompt.removeprefix("$ tlog ").split(" ")
    ended = tlog(*command)
    assert (ended.code, ended.out, ended.err) == (0, expected, "")


def test_the_command_that_makes_evidence_says_what_the_page_says(folder: Path) -> None:
    for name in ("kept", "shown"):
        (folder / f"{name}.checkpoint").write_text(block(name))
    prompt, _, expected = block("making").partition("\n")
    command = prompt.removeprefix("$ tlog ").split(" ")
    ended = tlog(*command)
    assert (ended.code, ended.out, ended.err) == (0, expected, "")
    assert tlog("evidence", "verify", "made.evidence", "--policy", "policy").out == expected
    # The same with what agrees convicts nobody.
    (folder / "shown.checkpoint").write_text(block("kept"))
    (folder / "made.evidence").unlink()
    assert tlog(*command).code == 1
    assert not (folder / "made.evidence").exists()


def test_the_program_of_the_example_finds_the_two_roots_by_hand(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", block("python")],
        cwd=folder, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == block("output")


def test_the_example_convicts_log_and_witness_at_a_power_of_two() -> None:
    evidence = parse_evidence(block("evidence").encode())
    assert isinstance(evidence, SizesEvidence)
    assert format_evidence(evidence).decode() == block("evidence")
    verdict = verify_evidence(evidence, parse_policy(block("policy").encode()))
    assert verdict.tree_sizes == (4, 6)
    assert [key.role for key in verdict.convicted] == [KeyRole.LOG, KeyRole.WITNESS]
    assert len(evidence.path) == 2  # RFC 9162 would leave the first one out


def test_the_tables_name_every_kind_and_every_reason() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = [set(re.findall(r"`([a-z_-]+)`", row.split("|")[1])) for row in rows]
    assert set(EvidenceKind) <= set.union(*named)
    reasons = named[len(EvidenceKind) :]
    assert reasons == [WITHOUT_CONTEXT, {RefusalReason.SOURCE_ID_CONFLICT}, WITH_MEMBERSHIP]


def test_the_grammar_names_every_keyword() -> None:
    grammar = block("abnf")
    for keyword in ("kind", "reason", "checkpoint", "hash", "leaf", "proof", "entry", "governance"):
        assert re.search(rf'"{keyword}[" ]', grammar)
    for kind in EvidenceKind:
        assert f'"kind {kind}" LF' in grammar
