"""`tlog evidence`: the exit code is the verdict, and nothing but files is needed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.command_line import Ended, tlog
from _support.signed_tree import SignedTree
from _support.signers import cosigner, ml_dsa_cosigner, signer

from tlog.errors import RefusalReason
from tlog.evidence import Evidence, format_evidence, make_leaf, make_rule, make_same_size, make_sizes
from tlog.policy import build_policy, format_policy

ALLIANCE = Alliance()
LOG = ALLIANCE.signer
WITNESS, QUANTUM = cosigner("w.example/1", 101), ml_dsa_cosigner("q.example")
ENTRIES = [*ALLIANCE.governance, ALLIANCE.entry(1), ALLIANCE.entry(2, signer=key("stranger"))]
ONE = SignedTree(ENTRIES, LOG, cosigners=[WITNESS, QUANTUM])
OTHER = SignedTree([b"fork", *ENTRIES], LOG, cosigners=[WITNESS])


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("evidence opened a socket")

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.write_bytes(format_policy(build_policy([LOG.vkey], [WITNESS.vkey, QUANTUM.vkey], 2)))
    return path


def run(tmp_path: Path, evidence: Evidence | bytes, *arguments: object) -> Ended:
    file = tmp_path / "found.evidence"
    file.write_bytes(evidence if isinstance(evidence, bytes) else format_evidence(evidence))
    return tlog("evidence", arguments[0], file, *arguments[1:])


SIZES = make_sizes(OTHER.note(4), ONE.note(6), ONE.path(4, 6))
LEAF = make_leaf(ONE.leaf_hash(2), ONE.receipt(2), OTHER.leaf_hash(2), OTHER.receipt(2))
GAP = make_rule(
    RefusalReason.UNKNOWN_KEY, ONE.logged(5), governance=[ONE.logged(index) for index in range(4)]
)


@pytest.mark.parametrize("evidence", [SIZES, LEAF, make_same_size(ONE.note(5), OTHER.note(5))])
def test_evidence_that_convicts_ends_with_0_and_says_whom(
    tmp_path: Path, policy: Path, evidence: Evidence
) -> None:
    ended = run(tmp_path, evidence, "verify", "--policy", policy)
    assert ended.code == 0
    assert f"convicted log key: '{LOG.name}' (key ID {LOG.key_id.hex()})" in ended.out
    assert "convicted witness key: 'w.example/1'" in ended.out
    assert "q.example" not in ended.out
    assert evidence.kind in ended.out
    assert ended.err == ""


def test_the_verdict_as_json(tmp_path: Path, policy: Path) -> None:
    verdict = run(tmp_path, SIZES, "verify", "--policy", policy, "--json").json
    assert verdict["convicts"] is True
    assert verdict["unproven"] is False
    assert (verdict["kind"], verdict["origin"], verdict["tree_sizes"]) == ("sizes", LOG.name, [4, 6])
    assert [(key["role"], key["name"], key["vkey"]) for key in verdict["convicted"]] == [
        ("log", LOG.name, LOG.vkey),
        ("witness", WITNESS.name, WITNESS.vkey),
    ]
    assert verdict["convicted"][0]["key_id"] == LOG.key_id.hex()
    assert "does not begin with" in verdict["finding"]


def test_evidence_that_leaves_a_gap_ends_with_1(tmp_path: Path, policy: Path) -> None:
    ended = run(tmp_path, GAP, "verify", "--policy", policy)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("UNPROVEN ")
    assert "convicts nobody" in ended.err
    document = run(tmp_path, GAP, "verify", "--policy", policy, "--json")
    assert document.code == 1
    assert (document.json["convicts"], document.json["unproven"]) == (False, True)
    assert document.json["convicted"] == []


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (make_sizes(ONE.note(4), ONE.note(6), ONE.path(4, 6)), "proof"),
        (make_sizes(OTHER.note(4), ONE.note(6), OTHER.path(4, 6)), "proof"),
        (b"tlog-evidence/v1\nkind empty\n", "malformed"),
        (b"", "malformed"),
        (ONE.note(5), "malformed"),
    ],
)
def test_what_convicts_nobody_ends_with_1(
    tmp_path: Path, policy: Path, evidence: Evidence | bytes, code: str
) -> None:
    ended = run(tmp_path, evidence, "verify", "--policy", policy, "--json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error["code"] == code
    plain = run(tmp_path, evidence, "verify", "--policy", policy)
    assert plain.code == 1
    assert plain.err.startswith("tlog: ")


def test_a_policy_of_strangers_ends_with_1(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_bytes(format_policy(build_policy([signer(LOG.name, 66).vkey])))
    ended = run(tmp_path, SIZES, "verify", "--policy", policy, "--json")
    assert (ended.code, ended.error["code"]) == (1, "policy")


def test_files_that_are_missing_are_a_usage_error(tmp_path: Path, policy: Path) -> None:
    assert tlog("evidence", "verify", tmp_path / "none", "--policy", policy).code == 2
    assert run(tmp_path, SIZES, "verify", "--policy", tmp_path / "none").code == 2
    assert run(tmp_path, SIZES, "verify").code == 2
    assert tlog("evidence", "show", tmp_path / "none").code == 2


def test_show_reads_out_every_kind_and_says_that_nothing_is_verified(tmp_path: Path) -> None:
    conflict = make_rule(RefusalReason.SOURCE_ID_CONFLICT, ONE.logged(5), other=ONE.logged(4))
    for evidence, said in (
        (SIZES, "consistency path of 2 hashes"),
        (LEAF, f"leaf 2 of the tree of size 6 is {ONE.leaf_hash(2).hex()}"),
        (GAP, "membership proof: governance entries 0, 1, 2, 3"),
        (conflict, "with the same name"),
    ):
        ended = run(tmp_path, evidence, "show")
        assert ended.code == 0
        assert said in ended.out
        assert f"'{LOG.name}' (key ID {LOG.key_id.hex()})" in ended.out
        assert "Nothing of this is verified" in ended.out
        document = run(tmp_path, evidence, "show", "--json").json
        assert document["verified"] is False
        assert (document["kind"], document["origin"]) == (evidence.kind, LOG.name)
        assert [checkpoint["note"].encode() for checkpoint in document["checkpoints"]] == list(
            evidence.checkpoints
        )
    document = run(tmp_path, GAP, "show", "--json").json
    assert document["reason"] == "unknown_key"
    assert document["entries"] == [{"leaf_index": 5, "entry_hex": ENTRIES[5].hex()}]
    assert document["governance"] == [0, 1, 2, 3]
    assert run(tmp_path, SIZES, "show", "--json").json["path"] == [node.hex() for node in SIZES.path]
    assert run(tmp_path, LEAF, "show", "--json").json["leaf_index"] == 2
    assert run(tmp_path, b"nonsense\n", "show").code == 1
