"""Checkpoints. Sentences in quotation marks with a MUST are verbatim from C2SP tlog-checkpoint."""

from dataclasses import FrozenInstanceError

import pytest
from _support.mutations import any_text, damaged_text
from _support.signers import CT_CHECKPOINT, GO_SUM_DATABASE_CHECKPOINT, signer
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from tlog.encoding import MAX_SIZE
from tlog.errors import MalformedError
from tlog.note import Verifier, open_note, parse_note, sign_note

# The example at the beginning of tlog-checkpoint; its key is not published.
EXAMPLE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""".encode()  # noqa: E501 — as it was published
ROOT_HASH = bytes.fromhex("0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62")
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


def test_the_example_of_the_specification_is_parsed() -> None:
    text, _ = parse_note(EXAMPLE)
    checkpoint = parse_checkpoint(text)
    assert checkpoint == Checkpoint("example.com/behind-the-sofa", 20852163, ROOT_HASH)
    assert checkpoint.extensions == ()
    assert format_checkpoint(checkpoint) == text


@pytest.mark.parametrize("data", [GO_SUM_DATABASE_CHECKPOINT, CT_CHECKPOINT])
def test_published_checkpoints_are_parsed_and_written_again(data: bytes) -> None:
    text, _ = parse_note(data)
    assert format_checkpoint(parse_checkpoint(text)) == text


@pytest.mark.parametrize(
    "origin",
    [
        "example.com/log42",
        "go.sum database tree",
        "https://example.com/log?a=b#c",
        " leading and trailing ",
        "a+b",
        "+",
        "—",
        "— example.com/log AAAA",
        "日本",
        "a\u2028b\u0085c\u00a0d",
        "\x7f",
        "20852163",
        "a" * 255,
        "é" * 127 + "a",
        "a" * 5000,
    ],
)
def test_any_origin_is_parsed(origin: str) -> None:
    """ "This is only a recommendation to avoid collisions, and clients MUST NOT assume that the origin is
    following this format or that the URL corresponds to a reachable endpoint."
    """
    text = f"{origin}\n5\n{ROOT}\n"
    assert parse_checkpoint(text) == Checkpoint(origin, 5, ROOT_HASH)
    assert format_checkpoint(Checkpoint(origin, 5, ROOT_HASH)) == text


def test_the_origin_is_not_empty() -> None:
    """ "The origin MUST be non-empty, and it SHOULD be a schema-less URL containing neither Unicode spaces
    nor plus (U+002B), such as `example.com/log42`."
    """
    with pytest.raises(MalformedError, match="origin of the checkpoint is empty"):
        parse_checkpoint(f"\n5\n{ROOT}\n")
    with pytest.raises(MalformedError, match="origin of the checkpoint is empty"):
        Checkpoint("", 5, ROOT_HASH)


@pytest.mark.parametrize(
    "extensions", [("one",), ("one", "two 2"), (" ",), (ROOT,), ("5",), ("— a b",), ("+",)]
)
def test_extension_lines_are_kept(extensions: tuple[str, ...]) -> None:
    text = f"origin\n5\n{ROOT}\n" + "".join(f"{line}\n" for line in extensions)
    assert parse_checkpoint(text) == Checkpoint("origin", 5, ROOT_HASH, extensions)
    assert format_checkpoint(parse_checkpoint(text)) == text


@pytest.mark.parametrize("after", ["\n", "\n\n", "one\n\n", "\none\n", "one\n\ntwo\n"])
def test_an_empty_extension_line_is_refused(after: str) -> None:
    """ "Extension lines, if any, MUST be non-empty." """
    with pytest.raises(MalformedError, match="an extension line of the checkpoint is empty"):
        parse_checkpoint(f"origin\n5\n{ROOT}\n{after}")
    with pytest.raises(MalformedError, match="an extension line of the checkpoint is empty"):
        Checkpoint("origin", 5, ROOT_HASH, ("one", ""))


@pytest.mark.parametrize(
    "text", ["", "\n", "origin\n", "origin\n5\n", f"origin\n{ROOT}\n", f"5\n{ROOT}\n", "\n\n\n"]
)
def test_fewer_than_three_lines_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text", [f"origin\n5\n{ROOT}", f"origin\n5\n{ROOT}\nmore", f"origin\r\n5\r\n{ROOT}\r\n"]
)
def test_every_line_ends_in_a_newline_and_in_nothing_else(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "size",
    [
        "",
        "05",
        "00",
        "+5",
        "-5",
        " 5",
        "5 ",
        "5.0",
        "5_0",
        "٥",
        "0x5",
        "five",
        "9223372036854775808",
        "9" * 5000,
    ],
)
def test_the_tree_size_is_a_plain_decimal_below_two_to_the_63(size: str) -> None:
    """The ASCII decimal representation of the number of leaves, "with no leading zeroes (unless the tree is
    empty, in which case the tree size is `0`)."
    """
    with pytest.raises(MalformedError, match="the tree size"):
        parse_checkpoint(f"origin\n{size}\n{ROOT}\n")


def test_sizes_from_0_to_the_largest_are_parsed() -> None:
    for size in (0, 1, 10, 2**53 + 1, MAX_SIZE):
        assert parse_checkpoint(f"origin\n{size}\n{ROOT}\n").tree_size == size


@pytest.mark.parametrize(
    "root",
    [
        "",
        ROOT.removesuffix("="),
        ROOT + "=",
        ROOT.replace("2I=", "2J="),  # non-zero trailing bits
        ROOT.replace("+", "-").replace("/", "_"),
        ROOT[:-4],
        "AAAA" + ROOT,
        " " + ROOT,
        ROOT + " ",
        ROOT_HASH.hex(),
    ],
)
def test_the_root_hash_is_canonical_base64_of_32_bytes(root: str) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(f"origin\n5\n{root}\n")


@pytest.mark.parametrize("character", ["\x00", "\t", "\r", "\x0b", "\x1f", "\ud800"])
def test_a_line_with_a_control_character_or_a_lone_surrogate_is_refused(character: str) -> None:
    for text in (f"ori{character}gin\n5\n{ROOT}\n", f"origin\n5\n{ROOT}\nmore{character}\n"):
        with pytest.raises(MalformedError):
            parse_checkpoint(text)


@pytest.mark.parametrize(
    ("origin", "tree_size", "root_hash", "extensions"),
    [
        ("a\nb", 5, ROOT_HASH, ()),
        ("origin", -1, ROOT_HASH, ()),
        ("origin", 2**63, ROOT_HASH, ()),
        ("origin", True, ROOT_HASH, ()),
        ("origin", 5.0, ROOT_HASH, ()),
        ("origin", 5, ROOT_HASH[:31], ()),
        ("origin", 5, ROOT_HASH + b"\x00", ()),
        ("origin", 5, ROOT_HASH, ("a\nb",)),
        ("origin", 5, ROOT_HASH, ("a\x00b",)),
    ],
)
def test_a_checkpoint_that_cannot_be_written_down_cannot_be_made(
    origin: str, tree_size: int, root_hash: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(MalformedError):
        Checkpoint(origin, tree_size, root_hash, extensions)


def test_a_checkpoint_that_lies_about_an_empty_tree_can_be_parsed_because_it_is_evidence() -> None:
    assert parse_checkpoint(f"origin\n0\n{ROOT}\n").root_hash == ROOT_HASH


def test_a_checkpoint_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Checkpoint("origin", 5, ROOT_HASH).tree_size = 6  # type: ignore[misc]


def test_signatures_by_unknown_keys_are_ignored() -> None:
    """ "According to the note specification, clients MUST ignore unknown signatures." """
    log, next_log = signer("example.com/log", 1), signer("example.com/log", 2)
    text = format_checkpoint(Checkpoint("example.com/log", 5, ROOT_HASH))
    note = open_note(sign_note(text, [next_log, log]), [Verifier.from_vkey(log.vkey)])
    assert parse_checkpoint(note.text).tree_size == 5
    assert [signature.key_id for signature in note.signatures] == [log.key_id]


@settings(deadline=None, max_examples=200)
@given(any_text | damaged_text(f"origin\n20852163\n{ROOT}\nextension\n"))
def test_any_text_is_a_checkpoint_that_formats_to_itself_or_malformed(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except MalformedError:
        return
    assert format_checkpoint(checkpoint) == text


@settings(deadline=None)
@given(any_text, st.integers(-5, 2**64), st.binary(min_size=32, max_size=32), st.lists(any_text, max_size=3))
def test_every_checkpoint_that_can_be_made_is_parsed_again(
    origin: str, size: int, root: bytes, extensions: list[str]
) -> None:
    try:
        checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    except MalformedError:
        return
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint
