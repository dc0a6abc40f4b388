"""Receipts. Sentences in quotation marks with a MUST are verbatim from C2SP tlog-proof."""

from dataclasses import FrozenInstanceError, replace

import pytest
from _support.hostile import flipped
from _support.mutations import damaged
from _support.naive_merkle import NaiveTree, path
from _support.signers import cosigner, signer
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.encoding import MAX_SIZE, format_base64
from tlog.errors import MalformedError, PolicyError, ProofError, SignatureError, VerificationError
from tlog.note import add_signatures, sign_note
from tlog.policy import build_policy
from tlog.receipt import MAX_RECEIPT_BYTES, Receipt, format_receipt, parse_receipt, verify_receipt

ORIGIN = "example.com/log"
LOG = signer(ORIGIN)
WITNESS = cosigner("witness.example/w1")
POLICY = build_policy([LOG.vkey])
POLICY_WITH_WITNESS = build_policy([LOG.vkey], [WITNESS.vkey], 1)

SIZE = 7
ENTRIES = [b"entry %d" % index for index in range(SIZE)]
TREE = NaiveTree(ENTRIES)
TEXT = format_checkpoint(Checkpoint(ORIGIN, SIZE, TREE.mth(0, SIZE)))
CHECKPOINT = sign_note(TEXT, [LOG])


def receipt_for(index: int, size: int = SIZE, *, extra: bytes | None = None) -> Receipt:
    text = format_checkpoint(Checkpoint(ORIGIN, size, TREE.mth(0, size)))
    return Receipt(
        leaf_index=index,
        proof=tuple(path(TREE.mth, index, 0, size)),
        checkpoint=sign_note(text, [LOG]),
        extra=extra,
    )


def text_of(*lines: str, checkpoint: bytes = CHECKPOINT) -> bytes:
    """A receipt put together by hand from its lines before the empty one."""
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint


HEADER = "c2sp.org/tlog-proof@v1"
PROOF = [format_base64(node) for node in path(TREE.mth, 3, 0, SIZE)]


# ---- verifying


@pytest.mark.parametrize("size", range(1, SIZE + 1))
def test_every_entry_of_every_tree_has_a_receipt_that_verifies(size: int) -> None:
    for index in range(size):
        data = format_receipt(receipt_for(index, size))
        assert verify_receipt(ENTRIES[index], data, POLICY) == Checkpoint(ORIGIN, size, TREE.mth(0, size))


def test_a_receipt_is_exactly_the_text_of_the_specification() -> None:
    assert format_receipt(receipt_for(3)) == text_of(HEADER, "index 3", *PROOF)
    assert format_receipt(receipt_for(3, extra=b"extra data")) == text_of(
        HEADER, "extra ZXh0cmEgZGF0YQ==", "index 3", *PROOF
    )
    assert len(PROOF) == 3
    assert format_receipt(receipt_for(0, 1)).startswith(
        b"c2sp.org/tlog-proof@v1\nindex 0\n\nexample.com/log\n1\n"
    )


def test_another_entry_index_size_or_root_is_a_proof_error() -> None:
    good = receipt_for(3)
    with pytest.raises(ProofError):
        verify_receipt(ENTRIES[2], format_receipt(good), POLICY)
    with pytest.raises(ProofError):
        verify_receipt(ENTRIES[3] + b"\n", format_receipt(good), POLICY)
    with pytest.raises(ProofError):
        verify_receipt(b"", format_receipt(good), POLICY)
    for index in (0, 1, 2, 4, 5, 6, 7, MAX_SIZE, *(3 + 2**bit for bit in range(2, 63))):
        with pytest.raises(ProofError):
            verify_receipt(ENTRIES[3], format_receipt(replace(good, leaf_index=index)), POLICY)
    for other in (receipt_for(3, 4).checkpoint, receipt_for(3, 6).checkpoint):
        with pytest.raises(ProofError):
            verify_receipt(ENTRIES[3], format_receipt(replace(good, checkpoint=other)), POLICY)


def test_a_changed_shortened_or_lengthened_proof_is_a_proof_error() -> None:
    good = receipt_for(3)
    hashes = good.proof
    others = [
        (),
        hashes[:-1],
        hashes[1:],
        hashes[::-1],
        (*hashes, bytes(32)),
        (bytes(32), *hashes),
        *((*hashes[:at], flipped(hashes[at], bit), *hashes[at + 1 :]) for at in range(3) for bit in (0, 255)),
    ]
    for other in others:
        with pytest.raises(ProofError):
            verify_receipt(ENTRIES[3], format_receipt(replace(good, proof=other)), POLICY)


def test_an_empty_tree_contains_nothing() -> None:
    text = format_checkpoint(Checkpoint(ORIGIN, 0, TREE.mth(0, 0)))
    receipt = Receipt(leaf_index=0, proof=(), checkpoint=sign_note(text, [LOG]))
    with pytest.raises(ProofError):
        verify_receipt(b"", format_receipt(receipt), POLICY)


def test_the_checkpoint_has_to_be_signed_by_a_log_of_the_policy() -> None:
    """ "Check that the checkpoint origin line is acceptable, and that the checkpoint is signed by a log
    public key configured for that origin line."
    """
    data = format_receipt(receipt_for(3))
    with pytest.raises(PolicyError, match="does not list"):
        verify_receipt(ENTRIES[3], data, build_policy([signer("other.example/log").vkey]))
    with pytest.raises(SignatureError, match="none of the 1 keys"):
        verify_receipt(ENTRIES[3], data, build_policy([signer(ORIGIN, 2).vkey]))
    forged = sign_note(TEXT, [signer(ORIGIN, 2)])
    with pytest.raises(SignatureError):
        verify_receipt(ENTRIES[3], format_receipt(replace(receipt_for(3), checkpoint=forged)), POLICY)
    with pytest.raises(PolicyError, match="lists no log"):
        verify_receipt(ENTRIES[3], data, build_policy([]))


def test_a_receipt_made_at_commit_does_not_meet_a_quorum_and_says_so() -> None:
    """ "Verify all cosignatures for witnesses known to the verifier." """
    early = receipt_for(3)
    with pytest.raises(PolicyError, match="lacks cosignatures: group 'witnesses' has 0 of the 1 it needs"):
        verify_receipt(ENTRIES[3], format_receipt(early), POLICY_WITH_WITNESS)
    later = replace(early, checkpoint=add_signatures(CHECKPOINT, [WITNESS.cosign(TEXT, 5)]))
    assert verify_receipt(ENTRIES[3], format_receipt(later), POLICY_WITH_WITNESS).tree_size == SIZE
    # Who does not know the witness is not troubled by its line.
    assert verify_receipt(ENTRIES[3], format_receipt(later), POLICY).tree_size == SIZE


def test_the_checks_run_in_order_format_then_policy_then_proof() -> None:
    wrong_proof = replace(receipt_for(3), proof=())
    with pytest.raises(PolicyError):
        verify_receipt(ENTRIES[3], format_receipt(wrong_proof), POLICY_WITH_WITNESS)
    with pytest.raises(MalformedError):
        verify_receipt(ENTRIES[3], format_receipt(wrong_proof)[:-1], POLICY_WITH_WITNESS)
    with pytest.raises(ProofError):
        verify_receipt(ENTRIES[3], format_receipt(wrong_proof), POLICY)


def test_the_extra_data_proves_nothing_and_spoils_nothing() -> None:
    """ "Appications MUST NOT implicitly trust the extra data, as it is not authenticated." """
    expected = verify_receipt(ENTRIES[3], format_receipt(receipt_for(3)), POLICY)
    for extra in (b"one", b"other", bytes(1000)):
        data = format_receipt(receipt_for(3, extra=extra))
        # What verification returns is the checkpoint alone; nothing of the extra data is in it.
        assert verify_receipt(ENTRIES[3], data, POLICY) == expected
        assert parse_receipt(data).extra == extra


# ---- the format


def test_a_receipt_is_parsed() -> None:
    receipt = parse_receipt(text_of(HEADER, "extra AAEC", "index 3", *PROOF))
    assert receipt == receipt_for(3, extra=b"\x00\x01\x02")
    assert parse_receipt(text_of(HEADER, "index 3", *PROOF)).extra is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "c2sp.org/tlog-proof@v2",
        "c2sp.org/tlog-proof@v1 ",
        " c2sp.org/tlog-proof@v1",
        "C2SP.org/tlog-proof@v1",
    ],
)
def test_the_first_line_is_the_header(header: str) -> None:
    """ "The first line MUST be the string `c2sp.org/tlog-proof@v1`." """
    with pytest.raises(MalformedError):
        parse_receipt(text_of(header, "index 3", *PROOF))
    with pytest.raises(MalformedError):
        parse_receipt(text_of("index 3", *PROOF))


@pytest.mark.parametrize(
    "index",
    [
        "index 03",
        "index 00",
        "index +3",
        "index -3",
        "index  3",
        "index 3 ",
        "index 3.0",
        "index ٣",
        "index ",
        "index",
        "index\t3",
        "Index 3",
        "3",
        "index 9223372036854775808",
        f"index {'9' * 5000}",
    ],
)
def test_the_index_line_is_a_plain_decimal(index: str) -> None:
    """ "The next line MUST start with the string `index` followed by a space (U+0020) and the zero-based
    index of the entry in the log, represented as an ASCII decimal with no leading zeroes (unless the index is
    `0`)."
    """
    with pytest.raises(MalformedError):
        parse_receipt(text_of(HEADER, index, *PROOF))


def test_the_index_line_has_its_place() -> None:
    """ "The next line MUST start with the string `index` followed by a space (U+0020) and the zero-based
    index of the entry in the log, represented as an ASCII decimal with no leading zeroes (unless the index is
    `0`)."
    """
    for lines in (
        [],
        PROOF,
        [*PROOF, "index 3"],
        ["extra AAEC"],
        ["extra AAEC", *PROOF],
        ["index 3", "index 3", *PROOF],
        ["index 3", "extra AAEC", *PROOF],
        ["extra AAEC", "extra AAEC", "index 3", *PROOF],
        ["", "index 3", *PROOF],
        ["comment", "index 3", *PROOF],
    ):
        with pytest.raises(MalformedError):
            parse_receipt(text_of(HEADER, *lines))


@pytest.mark.parametrize(
    "extra",
    ["extra ", "extra", "extra AA", "extra AB==", "extra  AAEC", "extra AAEC ", "Extra AAEC", "extra\tAAEC"],
)
def test_the_extra_line_is_canonical_base64_of_something(extra: str) -> None:
    """ "If no extra data is present, this line is omitted." """
    with pytest.raises(MalformedError):
        parse_receipt(text_of(HEADER, extra, "index 3", *PROOF))


def test_the_index_may_be_as_large_as_any() -> None:
    assert parse_receipt(text_of(HEADER, f"index {MAX_SIZE}")).leaf_index == MAX_SIZE
    assert parse_receipt(text_of(HEADER, "index 0")).leaf_index == 0


def test_at_most_63_hashes_are_accepted() -> None:
    node = format_base64(bytes(32))
    assert len(parse_receipt(text_of(HEADER, "index 3", *[node] * 63)).proof) == 63
    with pytest.raises(MalformedError, match="64 hashes"):
        parse_receipt(text_of(HEADER, "index 3", *[node] * 64))


@pytest.mark.parametrize(
    "node",
    [
        format_base64(bytes(31)),
        format_base64(bytes(33)),
        PROOF[0][:-1],
        PROOF[0] + " ",
        "hash",
        bytes(32).hex(),
    ],
)
def test_every_proof_line_is_one_hash(node: str) -> None:
    """ "the base64-encoded Merkle inclusion proof for the entry at the specified index in the checkpointed
    tree, one SHA-256 hash per line"
    """
    for lines in ([node, *PROOF], [*PROOF, node]):
        with pytest.raises(MalformedError):
            parse_receipt(text_of(HEADER, "index 3", *lines))


@pytest.mark.parametrize(
    "checkpoint",
    [
        b"",
        b"\n",
        b"\n" + CHECKPOINT,
        CHECKPOINT[:-1],
        CHECKPOINT + b"\n",
        TEXT.encode(),
        sign_note("not a checkpoint\n", [LOG]),
        sign_note(TEXT + "\n", [LOG]),
        CHECKPOINT.replace(b"\n7\n", b"\n07\n"),
    ],
)
def test_the_checkpoint_is_a_checkpoint(checkpoint: bytes) -> None:
    """ "After the inclusion proof lines and an empty line, the checkpoint issued by the log is included
    verbatim, according to [tlog-checkpoint][]."
    """
    with pytest.raises(MalformedError):
        parse_receipt(text_of(HEADER, "index 3", *PROOF, checkpoint=checkpoint))
    with pytest.raises(MalformedError):
        replace(receipt_for(3), checkpoint=checkpoint)


def test_the_checkpoint_is_kept_byte_for_byte() -> None:
    extended = sign_note(TEXT + "extension line\n", [LOG, signer("other.example")])
    extended = add_signatures(extended, [WITNESS.cosign(TEXT, 5)])
    assert parse_receipt(text_of(HEADER, "index 3", *PROOF, checkpoint=extended)).checkpoint == extended


def test_other_line_ends_are_refused() -> None:
    data = format_receipt(receipt_for(3))
    for other in (
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        data.replace(b"index", b"index\x00"),
    ):
        with pytest.raises(MalformedError):
            parse_receipt(other)


def test_a_receipt_cut_off_anywhere_is_malformed() -> None:
    data = format_receipt(receipt_for(3, extra=b"extra"))
    for length in range(len(data)):
        with pytest.raises(MalformedError):
            parse_receipt(data[:length])


def test_a_receipt_above_two_mebibytes_is_refused() -> None:
    overhead = len(format_receipt(receipt_for(3, extra=b"xxx"))) - 4
    largest = receipt_for(3, extra=bytes((MAX_RECEIPT_BYTES - overhead) // 4 * 3))
    data = format_receipt(largest)
    assert MAX_RECEIPT_BYTES - 4 < len(data) <= MAX_RECEIPT_BYTES == 2**21
    assert parse_receipt(data) == largest
    with pytest.raises(MalformedError, match="2097152 are allowed"):
        format_receipt(replace(largest, extra=bytes(MAX_RECEIPT_BYTES)))
    with pytest.raises(MalformedError, match="at most 2097152 are read"):
        parse_receipt(data + b"xxxx")


@pytest.mark.parametrize(
    "change",
    [
        {"leaf_index": -1},
        {"leaf_index": 2**63},
        {"leaf_index": True},
        {"proof": (bytes(31),)},
        {"proof": (bytes(32),) * 64},
        {"extra": b""},
        {"checkpoint": b""},
    ],
)
def test_a_receipt_that_cannot_be_written_down_cannot_be_made(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        replace(receipt_for(3), **change)  # type: ignore[arg-type]


def test_a_receipt_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        receipt_for(3).leaf_index = 4  # type: ignore[misc]


# ---- anything


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | damaged(format_receipt(receipt_for(3, extra=b"extra"))))
def test_any_bytes_are_a_receipt_that_formats_to_itself_or_malformed(data: bytes) -> None:
    try:
        receipt = parse_receipt(data)
    except MalformedError:
        return
    assert format_receipt(receipt) == data


@settings(deadline=None, max_examples=200)
@given(damaged(format_receipt(receipt_for(3, extra=b"extra"))))
def test_a_damaged_receipt_never_proves_anything_else(data: bytes) -> None:
    for index, entry in enumerate(ENTRIES):
        try:
            checkpoint = verify_receipt(entry, data, POLICY)
        except (MalformedError, VerificationError):
            continue
        assert checkpoint == Checkpoint(ORIGIN, SIZE, TREE.mth(0, SIZE))
        assert parse_receipt(data).leaf_index == index == 3


@settings(deadline=None)
@given(
    st.integers(0, MAX_SIZE),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(min_size=1),
)
def test_every_receipt_that_can_be_made_is_parsed_again(
    index: int, proof: list[bytes], extra: bytes | None
) -> None:
    receipt = Receipt(leaf_index=index, proof=tuple(proof), checkpoint=CHECKPOINT, extra=extra)
    assert parse_receipt(format_receipt(receipt)) == receipt
