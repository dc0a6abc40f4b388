"""`tlog evidence make`: two files that contradict each other become one that convicts, and no others do."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from _support.command_line import Ended, tlog
from _support.signed_tree import SignedTree
from _support.signers import cosigner, signer
from _support.tiled_log import resources, write_resources

from tlog.checkpoint import Checkpoint
from tlog.evidence import EvidenceKind, parse_evidence, verify_evidence
from tlog.policy import Policy, build_policy, format_policy

ALLIANCE = Alliance()
LOG = ALLIANCE.signer
WITNESS = cosigner("w.example/1", 101)
POLICY = build_policy([LOG.vkey], [WITNESS.vkey], 1)
ENTRIES = [*ALLIANCE.governance, *ALLIANCE.entries(0, 8)]
OTHERS = [*ENTRIES[:5], ALLIANCE.entry(100), ALLIANCE.entry(1, signer=key("else")), *ENTRIES[7:]]
ONE = SignedTree(ENTRIES, LOG, cosigners=[WITNESS])
OTHER = SignedTree(OTHERS, LOG)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything happens in a folder with a policy in it."""
    (tmp_path / "policy").write_bytes(format_policy(POLICY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def note_file(name: str, tree: SignedTree, size: int) -> str:
    Path(name).write_bytes(tree.note(size))
    return name


def receipt_file(name: str, tree: SignedTree, index: int, size: int | None = None) -> str:
    Path(f"{name}.entry").write_bytes(tree.tree.entries[index])
    Path(f"{name}.tlog-proof").write_bytes(tree.receipt(index, size, extra=b"what nobody signed"))
    return f"{name}.tlog-proof"


def tiles_of(tree: SignedTree, *, damaged: bool = False) -> str:
    made = resources(tree.tree.entries) | {"checkpoint": tree.note(tree.size)}
    if damaged:
        made = {path: data if path == "checkpoint" else bytes(len(data)) for path, data in made.items()}
    write_resources(Path("tiles"), made)
    return "tiles"


def make(*arguments: object, policy: str = "policy") -> Ended:
    return tlog("evidence", "make", *arguments, "--policy", policy, "--out", "found.evidence")


def convicted(ended: Ended, policy: Policy = POLICY) -> tuple[EvidenceKind, list[str]]:
    """Judge the file that was written as a third party does, and by the command as well."""
    assert ended.code == 0, ended.err
    evidence = parse_evidence(Path("found.evidence").read_bytes())
    verdict = verify_evidence(evidence, policy)
    assert tlog("evidence", "verify", "found.evidence", "--policy", "policy").code == 0
    return verdict.kind, [key.name for key in verdict.convicted]


def nothing(ended: Ended) -> str:
    assert (ended.code, ended.out) == (1, "")
    assert not Path("found.evidence").exists()
    return ended.err


def test_two_checkpoints_of_one_size_convict() -> None:
    ended = make(note_file("a", ONE, 9), note_file("b", OTHER, 9))
    assert convicted(ended) == (EvidenceKind.SAME_SIZE, [LOG.name])
    assert f"convicted log key: '{LOG.name}'" in ended.out
    assert "found.evidence" in ended.out


def test_a_checkpoint_and_the_one_in_a_receipt_convict_as_well() -> None:
    assert convicted(make(note_file("a", ONE, 9), receipt_file("b", OTHER, 2, 9)))[0] == "same-size"


def test_two_receipts_of_one_index_convict_whatever_their_sizes() -> None:
    # Size 8 is a power of two; the path between the sizes is known to nobody here.
    ended = make(receipt_file("a", ONE, 5, 8), receipt_file("b", OTHER, 5, 12))
    assert convicted(ended) == (EvidenceKind.LEAF, [LOG.name])


def test_an_entry_names_the_receipt_beside_it() -> None:
    receipt_file("a", ONE, 5, 8)
    assert convicted(make("a.entry", receipt_file("b", OTHER, 5, 12)))[0] == "leaf"


def test_an_empty_tree_with_a_root_convicts_alone() -> None:
    from _support.signed_tree import signed_checkpoint

    Path("a").write_bytes(signed_checkpoint(Checkpoint(LOG.name, 0, bytes(32)), [LOG]))
    assert convicted(make("a"))[0] == "empty"


@pytest.mark.parametrize("size", [7, 8])
def test_two_sizes_convict_with_the_tiles_of_the_larger_tree(size: int) -> None:
    files = note_file("a", ONE, size), note_file("b", OTHER, 12)
    assert "--tiles" in nothing(make(*files))
    assert convicted(make(*files, "--tiles", tiles_of(OTHER)))[0] == "sizes"


def test_a_checkpoint_alone_is_held_against_what_the_log_shows_now() -> None:
    assert convicted(make(note_file("a", ONE, 8), "--tiles", tiles_of(OTHER)))[0] == "sizes"


def test_a_receipt_alone_is_held_against_what_the_log_shows_now() -> None:
    """An acknowledged entry that was dropped, or put elsewhere."""
    file = receipt_file("a", ONE, 5, 7)
    ended = make(file, "--tiles", tiles_of(OTHER))
    assert convicted(ended)[0] == "leaf"
    Path("found.evidence").unlink()
    nothing(make(receipt_file("kept", ONE, 4, 5), "--tiles", "tiles"))


def test_the_most_keys_are_convicted() -> None:
    """The witness that cosigned both sizes is named, where the equal sizes convict the log alone."""
    traitor = SignedTree(OTHERS, LOG, cosigners=[WITNESS])
    files = (note_file("a", ONE, 8), note_file("b", OTHER, 8), note_file("c", traitor, 12))
    ended = make(*files, "--tiles", tiles_of(traitor))
    assert convicted(ended) == (EvidenceKind.SIZES, [LOG.name, "w.example/1"])


def test_an_entry_that_no_log_may_take_convicts_by_itself_or_with_its_namesake() -> None:
    bad = SignedTree([*ENTRIES, ALLIANCE.entry(50, origin="log.example/else"), ENTRIES[6]], LOG)
    assert convicted(make(receipt_file("a", bad, 12)))[0] == "rule"
    assert convicted(make(receipt_file("b", bad, 6), receipt_file("c", bad, 13)))[0] == "rule"
    Path("found.evidence").unlink()
    nothing(make(receipt_file("d", bad, 6), receipt_file("e", bad, 7)))


def test_the_verdict_as_json_and_a_name_of_its_own() -> None:
    files = note_file("a", ONE, 9), note_file("b", OTHER, 9)
    ended = tlog("evidence", "make", *files, "--policy", "policy", "--json")
    assert ended.code == 0
    assert (ended.json["convicts"], ended.json["kind"], ended.json["tree_sizes"]) == (
        True,
        "same-size",
        [9, 9],
    )
    (file,) = Path().glob("same-size-*.evidence")
    assert ended.json["evidence"] == str(file)
    again = tlog("evidence", "make", "a", "a", "--policy", "policy", "--json")
    assert (again.code, again.json["convicts"]) == (1, False)
    assert again.json["reasons"]


def test_a_log_whose_origin_is_not_its_keys_name_is_convicted_by_key_and_origin() -> None:
    """As the example of tlog-checkpoint has it; no policy file can list such a log."""
    origin = "a log with spaces"
    stranger = signer("key.example")
    one, other = (SignedTree(entries, stranger) for entries in (ENTRIES, OTHERS))
    one.origin = other.origin = origin
    files = note_file("a", one, 9), note_file("b", other, 9)
    trust = ("--log-key", stranger.vkey, "--origin", origin)
    for number, (command, expected) in enumerate(
        (
            (("make", *files, *trust, "--out", "found.evidence"), 0),
            (("verify", "found.evidence", *trust), 0),
            (("verify", "found.evidence", *trust[:2]), 1),
            (("verify", "found.evidence", "--log-key", signer("key.example", 7).vkey, *trust[2:]), 1),
            (("verify", "found.evidence", "--policy", "policy"), 1),
            (("verify", "found.evidence", "--policy", "policy", *trust[2:]), 2),
            (("verify", "found.evidence", "--log-key", "nonsense"), 2),
            (("verify", "found.evidence"), 2),
        )
    ):
        ended = tlog("evidence", *command)
        assert ended.code == expected, (number, ended.err)


# ----- what convicts nobody


def test_statements_that_agree_convict_nobody() -> None:
    assert "goes together" in nothing(
        make(note_file("a", ONE, 4), note_file("b", ONE, 9), "--tiles", tiles_of(ONE))
    )
    nothing(make(receipt_file("c", ONE, 4, 6), receipt_file("d", ONE, 4, 12), "--tiles", "tiles"))


def test_statements_of_two_logs_convict_nobody() -> None:
    stranger = SignedTree(OTHERS, signer("log.example/else"))
    assert "different logs" in nothing(make(note_file("a", ONE, 9), note_file("b", stranger, 9)))


def test_a_forged_signature_convicts_nobody() -> None:
    Path("forged").write_bytes(ONE.note(9).replace(b"\n9\n", b"\n8\n"))
    assert "signature" in nothing(make("forged", note_file("b", OTHER, 8)))


def test_signatures_of_strangers_convict_nobody() -> None:
    mallory = SignedTree(OTHERS, signer(LOG.name, 66))
    assert "no key that this policy lists" in nothing(
        make(note_file("a", ONE, 9), note_file("b", mallory, 9))
    )


def test_a_receipt_with_another_entry_beside_it_convicts_nobody() -> None:
    file = receipt_file("a", ONE, 5, 8)
    Path("a.entry").write_bytes(ALLIANCE.entry(9_999))
    assert "leaf" in nothing(make(file, receipt_file("b", OTHER, 5, 12)))


def test_tiles_that_lead_to_no_signed_root_convict_nobody() -> None:
    ended = make(note_file("a", ONE, 8), "--tiles", tiles_of(OTHER, damaged=True))
    assert ended.code == 1
    assert not Path("found.evidence").exists()


@pytest.mark.parametrize("data", [b"", b"nonsense\n", b"c2sp.org/tlog-proof@v1\nindex x\n"])
def test_a_file_that_is_no_statement_is_named(data: bytes) -> None:
    Path("a.tlog-proof").write_bytes(data)
    Path("a.entry").write_bytes(b"entry")
    nothing(make("a.tlog-proof", note_file("b", ONE, 9)))
    assert make("missing", "b").code == 2


def test_a_receipt_without_its_entry_is_a_usage_error() -> None:
    file = receipt_file("a", ONE, 5)
    Path("a.entry").unlink()
    ended = make(file)
    assert ended.code == 2
    assert "a.entry" in ended.err
