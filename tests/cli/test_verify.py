"""`tlog verify`: files only; every damage is found, and nothing is taken on trust."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from _support.alliance import ORIGIN, Alliance, key, log_signer
from _support.command_line import REPOSITORY, Ended, tlog
from _support.signers import cosigner

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cli.verify import check_files
from tlog.cosignature import CosignatureSigner
from tlog.ed25519 import PrivateKey
from tlog.envelope import decode_entry, encode_entry, sign_entry
from tlog.errors import MalformedError, VerificationError
from tlog.event import build_event
from tlog.log import Log
from tlog.merkle import leaf_hash
from tlog.note import Signature, add_signatures, sign_note
from tlog.policy import build_policy, format_policy, parse_policy
from tlog.receipt import Receipt, format_receipt, parse_receipt
from tlog.storage.memory import MemoryStore

ENTRY_COUNT = 9


@dataclass(frozen=True)
class Files:
    """Is a directory of entries with receipts, and the policy that they meet."""

    directory: Path
    policy: Path
    leaf_indices: Sequence[int]

    def entry(self, position: int = 0) -> Path:
        return self.directory / f"{position}.entry"

    def receipt(self, position: int = 0) -> Path:
        return self.directory / f"{position}.tlog-proof"

    def verify(self, *arguments: object) -> Ended:
        return tlog("verify", *(arguments or (self.entry(),)), "--policy", self.policy)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    alliance = Alliance()
    with Log(MemoryStore(ORIGIN, alliance.signer.vkey), alliance.signer) as log:
        log.append(alliance.governance)
        entries = alliance.entries(0, ENTRY_COUNT)
        leaf_indices = log.append(entries).leaf_indices
        receipts = [log.receipt(index) for index in leaf_indices]
    directory = tmp_path / "receipts"
    directory.mkdir()
    for position, (entry, receipt) in enumerate(zip(entries, receipts, strict=True)):
        (directory / f"{position}.entry").write_bytes(entry)
        (directory / f"{position}.tlog-proof").write_bytes(receipt)
    (tmp_path / "policy").write_bytes(format_policy(build_policy([alliance.signer.vkey])))
    return Files(directory, tmp_path / "policy", leaf_indices)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("verify opened a socket")

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, refuse)


def write_forged(
    tmp_path: Path, entry: bytes, *, origin: str = ORIGIN, signer: PrivateKey | None = None
) -> Path:
    """Write an entry with the receipt of a log that took it against all rules, as its only leaf."""
    note_signer = log_signer(origin)
    if signer is not None:
        note_signer = type(note_signer)(name=origin, private_key=signer)
    text = format_checkpoint(Checkpoint(origin, 1, leaf_hash(entry)))
    receipt = Receipt(leaf_index=0, proof=(), checkpoint=sign_note(text, [note_signer]))
    (tmp_path / "forged.entry").write_bytes(entry)
    (tmp_path / "forged.tlog-proof").write_bytes(format_receipt(receipt))
    return tmp_path / "forged.entry"


def test_a_receipt_verifies_without_network_and_says_what_was_checked(files: Files) -> None:
    ended = files.verify()

    assert ended.code == 0, ended
    for fact in (
        ORIGIN,
        log_signer().key_id.hex(),
        str(files.leaf_indices[0]),
        "tree size   13",
        str(files.policy),
    ):
        assert fact in ended.out
    assert key("exporter").public_key.hex() in ended.out
    assert "Not checked" in ended.out


def test_the_json_answer_has_every_fact(files: Files) -> None:
    ended = tlog("verify", files.entry(3), "--policy", files.policy, "--json")

    (result,) = ended.json["results"]
    assert ended.code == 0
    assert (ended.json["verified"], ended.json["failed"]) == (1, 0)
    assert result["ok"] is True
    assert result["origin"] == ORIGIN
    assert result["leaf_index"] == files.leaf_indices[3]
    assert result["tree_size"] == files.leaf_indices[-1] + 1
    assert result["leaf_hash"] == leaf_hash(files.entry(3).read_bytes()).hex()
    assert result["signers"] == [key("exporter").public_key.hex()]
    assert result["log_keys"] == [f"{ORIGIN}+{log_signer().key_id.hex()}"]
    assert result["event"]["id"] == "event-3"


def test_a_directory_is_verified_whole(files: Files) -> None:
    ended = files.verify(files.directory)
    assert ended.code == 0
    assert f"{ENTRY_COUNT} entries verified" in ended.out


def test_a_receipt_may_lie_elsewhere(files: Files) -> None:
    moved = files.receipt().rename(files.directory.parent / "elsewhere.txt")
    assert files.verify(files.entry(), "--receipt", moved).code == 0


def check(entry: bytes, receipt: bytes, policy: Path) -> None:
    check_files(entry, receipt, parse_policy(policy.read_bytes()))


def test_a_flipped_bit_ends_the_command_with_1(files: Files) -> None:
    for path in (files.entry(), files.receipt()):
        genuine = path.read_bytes()
        for position in range(0, len(genuine), 97):
            damaged = bytearray(genuine)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            assert files.verify().code == 1, (path, position)
        path.write_bytes(genuine)
    assert files.verify().code == 0


def test_every_flipped_bit_of_the_entry_is_found(files: Files) -> None:
    entry, receipt = files.entry().read_bytes(), files.receipt().read_bytes()
    for bit in range(8 * len(entry)):
        damaged = bytearray(entry)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(VerificationError):
            check(bytes(damaged), receipt, files.policy)


def test_every_flipped_bit_of_the_receipt_is_found(files: Files) -> None:
    entry, receipt = files.entry().read_bytes(), files.receipt().read_bytes()
    for bit in range(8 * len(receipt)):
        damaged = bytearray(receipt)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((VerificationError, MalformedError)):
            check(entry, bytes(damaged), files.policy)


def test_every_truncation_of_the_receipt_is_found(files: Files) -> None:
    entry, receipt = files.entry().read_bytes(), files.receipt().read_bytes()
    for length in range(len(receipt)):
        with pytest.raises((VerificationError, MalformedError)):
            check(entry, receipt[:length], files.policy)


def test_the_receipt_of_another_entry_is_refused(files: Files) -> None:
    ended = files.verify(files.entry(0), "--receipt", files.receipt(1))
    assert ended.code == 1
    assert f"leaf {files.leaf_indices[1]}" in ended.err
    assert "size 13" in ended.err


def test_a_failure_names_file_policy_claim_and_what_to_do(files: Files) -> None:
    files.receipt().write_bytes(files.receipt(1).read_bytes())
    ended = files.verify()
    for fact in (str(files.entry()), str(files.receipt()), str(files.policy), "do not rely on this entry"):
        assert fact in ended.err
    assert ended.out == ""


def test_one_bad_entry_among_many_is_named_and_fails_the_run(files: Files) -> None:
    files.receipt(4).write_bytes(files.receipt(5).read_bytes())

    ended = tlog("verify", files.directory, "--policy", files.policy, "--json")

    assert ended.code == 1
    assert (ended.json["verified"], ended.json["failed"]) == (ENTRY_COUNT - 1, 1)
    bad = [result for result in ended.json["results"] if not result["ok"]]
    assert [result["entry"] for result in bad] == [str(files.entry(4))]
    assert bad[0]["code"] == "proof"


def test_the_policy_of_another_log_is_a_failed_check(files: Files) -> None:
    files.policy.write_bytes(format_policy(build_policy([log_signer("other.example").vkey])))
    ended = files.verify()
    assert ended.code == 1
    assert "other.example" in ended.err


def test_another_key_under_the_same_origin_is_a_failed_check(files: Files) -> None:
    files.policy.write_bytes(format_policy(build_policy([log_signer(name="impostor").vkey])))
    assert files.verify().code == 1


def test_a_witness_quorum_has_to_be_met(files: Files) -> None:
    witness = cosigner("witness.example")
    files.policy.write_bytes(format_policy(build_policy([log_signer().vkey], [witness.vkey], threshold=1)))
    ended = files.verify()
    assert ended.code == 1
    assert "lacks cosignatures" in ended.err


def test_a_witness_that_cosigned_is_named(files: Files, tmp_path: Path) -> None:
    witness = cosigner("witness.example")
    entry = Alliance().entry(0)
    text = format_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(entry)))
    note = add_signatures(sign_note(text, [log_signer()]), [witness.cosign(text, 1_700_000_000)])
    (tmp_path / "x.entry").write_bytes(entry)
    (tmp_path / "x.tlog-proof").write_bytes(format_receipt(Receipt(leaf_index=0, proof=(), checkpoint=note)))
    files.policy.write_bytes(format_policy(build_policy([log_signer().vkey], [witness.vkey], threshold=1)))
    ended = tlog("verify", tmp_path / "x.entry", "--policy", files.policy, "--json")
    assert ended.code == 0
    assert ended.json["results"][0]["witnesses"] == ["witness-1"]


OWN = cosigner(ORIGIN, 105)
WITNESSES = [cosigner(f"w{number}.example", 101 + number) for number in range(3)]


def policy_of(*lines: str) -> str:
    return "\n".join([f"log {log_signer().vkey}", *lines, ""])


def write_cosigned(directory: Path, times_s: dict[CosignatureSigner, int]) -> Path:
    """Write an entry and a receipt whose checkpoint these have cosigned at these times."""
    entry = Alliance().entry(0)
    text = format_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(entry)))
    cosignatures = [signer.cosign(text, time_s) for signer, time_s in times_s.items()]
    note = add_signatures(sign_note(text, [log_signer()]), cosignatures)
    (directory / "x.entry").write_bytes(entry)
    (directory / "x.tlog-proof").write_bytes(format_receipt(Receipt(leaf_index=0, proof=(), checkpoint=note)))
    return directory / "x.entry"


def test_every_witness_that_counts_is_named_with_its_time_and_those_that_do_not_apart(
    files: Files, tmp_path: Path
) -> None:
    w0, w1, w2 = WITNESSES
    path = write_cosigned(tmp_path, {w0: 1_700_000_000, w1: 1_700_000_060, w2: 1_700_000_120})
    lines = [f"witness W{number} {witness.vkey}" for number, witness in enumerate(WITNESSES)]
    files.policy.write_text(policy_of(*lines, "group two 2 W0 W1", "group all all two", "quorum all"))
    ended = tlog("verify", path, "--policy", files.policy)
    assert ended.code == 0, ended
    assert re.search(
        r"^witnesses +W0 at 2023-11-14T22:13:20Z, W1 at 2023-11-14T22:14:20Z$", ended.out, re.M
    ), ended.out
    assert re.search(r"^not counted +W2 at 2023-11-14T22:15:20Z$", ended.out, re.M), ended.out
    assert "not later than" not in ended.out
    (result,) = tlog("verify", path, "--policy", files.policy, "--json").json["results"]
    assert result["witnesses"] == ["W0", "W1"]
    assert [(one["name"], one["cosigned_at_s"], one["in_quorum"]) for one in result["cosignatures"]] == [
        ("W0", 1_700_000_000, True),
        ("W1", 1_700_000_060, True),
        ("W2", 1_700_000_120, False),
    ]


def test_the_logs_own_cosigner_says_not_later_than_and_counts_to_nothing(
    files: Files, tmp_path: Path
) -> None:
    path = write_cosigned(tmp_path, {OWN: 1_700_000_000})
    files.policy.write_text(policy_of(f"witness log-cosigner {OWN.vkey}", "quorum none"))
    ended = tlog("verify", path, "--policy", files.policy)
    assert ended.code == 0
    assert re.search(r"^not later than +2023-11-14T22:13:20Z ", ended.out, re.M), ended.out
    assert re.search(r"^witnesses +none asked for, none counted$", ended.out, re.M), ended.out
    assert "not counted" not in ended.out
    lines = [f"witness log-cosigner {OWN.vkey}", f"witness W0 {WITNESSES[0].vkey}"]
    files.policy.write_text(policy_of(*lines, "quorum W0"))
    refused = tlog("verify", path, "--policy", files.policy)
    assert refused.code == 1
    assert "lacks cosignatures" in refused.err


def test_a_cosigner_that_the_policy_does_not_name_can_be_given_and_must_have_cosigned(
    files: Files, tmp_path: Path
) -> None:
    path = write_cosigned(tmp_path, {OWN: 1_700_000_000})
    assert "not later than" not in tlog("verify", path, "--policy", files.policy).out
    ended = tlog("verify", path, "--policy", files.policy, "--cosigner", OWN.vkey, "--json")
    assert ended.json["results"][0]["not_later_than_s"] == 1_700_000_000
    missing = tlog("verify", path, "--policy", files.policy, "--cosigner", WITNESSES[0].vkey)
    assert missing.code == 1
    assert WITNESSES[0].vkey in missing.err
    assert tlog("verify", path, "--policy", files.policy, "--cosigner", log_signer().vkey).code == 2


def test_a_forged_time_of_the_logs_own_cosigner_fails_the_whole_receipt(files: Files, tmp_path: Path) -> None:
    forger = CosignatureSigner(name=ORIGIN, private_key=key("forger"))
    forger_line = forger.cosign(format_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(Alliance().entry(0)))), 5)
    path = write_cosigned(tmp_path, {})
    receipt = path.with_suffix(".tlog-proof")
    forged = Signature(name=ORIGIN, key_id=OWN.key_id, signature=forger_line.signature)
    parsed = parse_receipt(receipt.read_bytes())
    note = add_signatures(parsed.checkpoint, [forged])
    receipt.write_bytes(format_receipt(Receipt(leaf_index=0, proof=(), checkpoint=note)))
    files.policy.write_text(policy_of(f"witness log-cosigner {OWN.vkey}", "quorum none"))
    assert tlog("verify", path, "--policy", files.policy).code == 1
    by_option = tlog("verify", path, "--policy", files.policy, "--cosigner", OWN.vkey)
    assert by_option.code == 1
    assert "not later than" not in by_option.out


def test_a_policy_whose_quorum_counts_the_log_itself_is_remarked_upon(files: Files, tmp_path: Path) -> None:
    path = write_cosigned(tmp_path, {OWN: 1_700_000_000})
    files.policy.write_text(policy_of(f"witness log-cosigner {OWN.vkey}", "quorum log-cosigner"))
    ended = tlog("verify", path, "--policy", files.policy)
    assert ended.code == 0
    assert "counts log-cosigner, which is the log's own" in ended.err


def test_a_time_beyond_the_calendar_is_shown_as_a_number(files: Files, tmp_path: Path) -> None:
    path = write_cosigned(tmp_path, {OWN: 2**62})
    ended = tlog("verify", path, "--policy", files.policy, "--cosigner", OWN.vkey)
    assert ended.code == 0
    assert f"{2**62} s since 1970" in ended.out


def test_several_entries_are_dated_by_the_latest_of_them(files: Files, tmp_path: Path) -> None:
    directory = tmp_path / "two"
    directory.mkdir()
    for name, time_s in (("a", 1_700_000_000), ("b", 1_700_000_060)):
        path = write_cosigned(directory, {OWN: time_s})
        path.rename(directory / f"{name}.entry")
        path.with_suffix(".tlog-proof").rename(directory / f"{name}.tlog-proof")
    files.policy.write_text(policy_of(f"witness log-cosigner {OWN.vkey}", "quorum none"))
    ended = tlog("verify", directory, "--policy", files.policy)
    assert "2 entries verified" in ended.out
    assert "not later than 2023-11-14T22:14:20Z, by its own cosigner" in ended.out


def test_an_event_made_for_another_log_is_refused_although_a_log_took_it(
    files: Files, tmp_path: Path
) -> None:
    path = write_forged(tmp_path, Alliance().entry(0, origin="other.example"))
    ended = tlog("verify", path, "--policy", files.policy, "--json")
    assert ended.code == 1
    assert ended.json["results"][0]["code"] == "wrong_origin"


def test_a_bad_event_signature_is_refused_although_a_log_took_it(files: Files, tmp_path: Path) -> None:
    envelope = decode_entry(Alliance().entry(0))
    ((public_key, signature),) = envelope.signatures
    damaged = encode_entry(envelope.payload, [(public_key, bytes([signature[0] ^ 1]) + signature[1:])])
    ended = tlog("verify", write_forged(tmp_path, damaged), "--policy", files.policy, "--json")
    assert ended.code == 1
    assert ended.json["results"][0]["code"] == "bad_signature"


def test_bytes_that_are_no_envelope_are_refused_although_a_log_took_them(
    files: Files, tmp_path: Path
) -> None:
    path = write_forged(tmp_path, b"anything at all")
    ended = tlog("verify", path, "--policy", files.policy, "--json")
    assert ended.code == 1
    assert ended.json["results"][0]["code"] == "malformed_envelope"


def test_a_forged_log_key_is_refused(files: Files, tmp_path: Path) -> None:
    path = write_forged(tmp_path, Alliance().entry(0), signer=key("impostor"))
    assert files.verify(path).code == 1


def test_a_missing_receipt_is_a_usage_error(files: Files) -> None:
    files.receipt().unlink()
    ended = files.verify()
    assert ended.code == 2
    assert str(files.receipt()) in ended.err


def test_a_missing_entry_is_a_usage_error(files: Files) -> None:
    assert files.verify(files.directory / "nothing.entry").code == 2


def test_a_directory_without_entries_is_a_usage_error(files: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = files.verify(tmp_path / "empty")
    assert ended.code == 2
    assert "no *.entry" in ended.err


def test_one_receipt_for_many_entries_is_a_usage_error(files: Files) -> None:
    assert files.verify(files.entry(0), files.entry(1), "--receipt", files.receipt()).code == 2
    assert files.verify(files.directory, "--receipt", files.receipt()).code == 2


@pytest.mark.parametrize("text", ["", "nonsense\n", "log x\nquorum none\n"])
def test_a_malformed_policy_is_a_usage_error(files: Files, text: str) -> None:
    files.policy.write_text(text)
    ended = files.verify()
    assert ended.code == 2
    assert str(files.policy) in ended.err


def test_a_policy_without_logs_trusts_nothing(files: Files) -> None:
    files.policy.write_text("quorum none\n")
    assert files.verify().code == 1


def test_without_a_policy_nothing_is_verified(files: Files) -> None:
    ended = tlog("verify", files.entry(), "--json")
    assert ended.code == 2
    assert ended.error["code"] == "usage"
    assert "--policy" in ended.error["message"]


def test_a_failed_check_outweighs_a_file_that_is_missing(files: Files) -> None:
    files.receipt(0).unlink()
    files.receipt(1).write_bytes(files.receipt(2).read_bytes())
    assert files.verify(files.directory).code == 1


def test_a_huge_file_is_refused_before_it_is_in_memory(files: Files) -> None:
    with files.receipt().open("wb") as file:
        file.truncate(2**40)
    ended = files.verify()
    assert ended.code == 1
    assert "longer than" in ended.err


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_538, 2**20, 2**20 + 2])
def test_an_entry_that_is_too_long_fails_the_check_however_long(files: Files, size: int) -> None:
    files.entry().write_bytes(b"x" * size)
    assert files.verify().code == 1


@pytest.mark.parametrize("size", [2**21 - 1, 2**21, 2**21 + 1])
def test_a_receipt_that_is_too_long_fails_the_check_however_long(files: Files, size: int) -> None:
    files.receipt().write_bytes(b"x" * size)
    assert files.verify().code == 1


def test_nothing_in_an_event_steers_the_terminal(tmp_path: Path, files: Files) -> None:
    hostile = "trade.\u202ev1"
    payload = build_event(
        **dict.fromkeys(("id", "type", "subject"), hostile),
        source="urn:a",
        time="2025-01-01T00:00:00Z",
        origin=ORIGIN,
    )
    entry = write_forged(tmp_path, sign_entry(payload, [key("exporter")]))
    ended = files.verify(entry)
    assert ended.code == 0
    assert ended.out.isascii()
    assert ended.out.count("trade.\\u202ev1") == 3


def test_verify_loads_neither_grpc_nor_the_store(files: Files) -> None:
    program = (
        "import sys; from tlog.cli import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'grpc', 'google.protobuf', 'lmdb', 'server', 'rich'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "verify", str(files.entry()), "--policy", str(files.policy)]
    ended = subprocess_run(command)
    assert ended.endswith("0 []\n"), ended


def subprocess_run(command: Sequence[str]) -> str:
    # subprocess needs the sockets of its own process only for `socketpair`, which it never calls.
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True)
    return ended.stdout
