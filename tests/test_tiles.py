"""Tiles. Sentences in quotation marks with a MUST are verbatim from C2SP tlog-tiles."""

import hashlib
from collections import Counter
from dataclasses import FrozenInstanceError
from itertools import islice

import pytest
from _support.mutations import any_text, damaged_text
from _support.naive_merkle import NaiveTree
from hypothesis import given, settings
from hypothesis import strategies as st

from tlog.encoding import MAX_SIZE
from tlog.errors import MalformedError, OutOfRangeError
from tlog.tiles import (
    ENTRIES_LEVEL,
    TILE_WIDTH,
    Tile,
    decode_entry_bundle,
    decode_hash_tile,
    encode_entry_bundle,
    entry_bundles_for_size,
    locate_node,
    parse_tile_path,
    partial_width,
    tile_at,
    tiles_for_size,
)

PATHS = {
    "tile/0/000": Tile(0, 0),
    "tile/0/001": Tile(0, 1),
    "tile/0/999": Tile(0, 999),
    "tile/0/x001/000": Tile(0, 1000),
    "tile/1/x001/234.p/255": Tile(1, 1234, 255),
    "tile/0/x001/x234/067": Tile(0, 1234067),
    "tile/0/x001/x234/067.p/5": Tile(0, 1234067, 5),
    "tile/63/000.p/1": Tile(63, 0, 1),
    "tile/10/010.p/10": Tile(10, 10, 10),
    "tile/entries/000": Tile(ENTRIES_LEVEL, 0),
    "tile/entries/x001/x234/067.p/112": Tile(-1, 1234067, 112),
    "tile/0/x009/x223/x372/x036/x854/x775/807": Tile(0, MAX_SIZE),
}


# ---- paths


@pytest.mark.parametrize(("path", "tile"), PATHS.items())
def test_a_path_is_formatted_and_parsed(path: str, tile: Tile) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "level",
    [
        "64",
        "99",
        "100",
        "00",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "٣",
        "",
        "x001",
        "entrie",
        "Entries",
        "data",
        "0x1",
    ],
)
def test_the_level_is_a_decimal_from_0_to_63(level: str) -> None:
    """ "`<L>` is the “level” of the tile, and MUST be a decimal ASCII integer between 0 and 63, with no
    additional leading zeroes."
    """
    with pytest.raises(MalformedError):
        parse_tile_path(f"tile/{level}/000")


def test_every_level_from_0_to_63_has_a_path() -> None:
    for level in range(64):
        assert parse_tile_path(f"tile/{level}/005") == Tile(level, 5)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "0",
        "00",
        "0000",
        "1",
        "-01",
        "+01",
        "٠٠٠",
        " 00",
        "0_0",
        "x000",
        "x001",
        "x000/001",
        "x000/x001/234",
        "001/234",
        "x001/x234",
        "x001/1",
        "x1/234",
        "x0001/234",
        "X001/234",
        "x001//234",
        "x001/234/",
        "/x001/234",
        "x001234",
        "001/x234",
        "x009/x223/x372/x036/x854/x775/808",
        "x999/x999/x999/x999/x999/x999/999",
        "x001/x000/x000/x000/x000/x000/x000/000",
        "x000/" * 1000 + "000",
    ],
)
def test_the_index_is_in_groups_of_three_digits_without_a_needless_group(index: str) -> None:
    """ "It MUST be a non-negative integer encoded into zero-padded 3-digit path elements. All but the last
    path element MUST begin with an `x`."
    """
    for path in (f"tile/0/{index}", f"tile/entries/{index}", f"tile/0/{index}.p/5"):
        with pytest.raises(MalformedError):
            parse_tile_path(path)


@pytest.mark.parametrize(
    "width", ["", "0", "00", "05", "256", "257", "999", "1000", "-1", "+5", " 5", "5 ", "٥", "5/", "5.p/5"]
)
def test_the_width_of_a_partial_tile_is_a_decimal_from_1_to_255(width: str) -> None:
    """`<W>` is the width of the tile, "a decimal ASCII integer between 1 and 255, with no additional leading
    zeroes."
    """
    with pytest.raises(MalformedError):
        parse_tile_path(f"tile/0/000.p/{width}")


def test_every_width_from_1_to_255_has_a_path() -> None:
    for width in range(1, 256):
        assert parse_tile_path(f"tile/0/000.p/{width}") == Tile(0, 0, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.P/5",
        "tile/0/000p/5",
        "tile/0/000/p/5",
        "tile/0/000.p5",
        "tile//000",
        "tile/8/0/000",
        "tiles/0/000",
        "TILE/0/000",
        "tile/0/../0/000",
        "tile/0/000?x",
        "checkpoint",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@pytest.mark.parametrize(
    ("level", "index", "width"),
    [
        (-2, 0, 1),
        (64, 0, 1),
        (0, -1, 1),
        (0, 2**63, 1),
        (0, 0, 0),
        (0, 0, 257),
        (0, 0, -1),
        (True, 0, 1),
        (0, 0, True),
        (0, 0.0, 1),
    ],
)
def test_a_tile_that_has_no_path_cannot_be_made(level: int, index: int, width: int) -> None:
    with pytest.raises(MalformedError):
        Tile(level, index, width)


def test_a_tile_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Tile(0, 0).width = 5  # type: ignore[misc]


def test_a_tile_spans_the_entries_of_its_full_width() -> None:
    """ "The tile's *start index* is defined to be `n * 256**(l+1)`. Its *end index* is defined to be
    `(n + 1) * 256**(l+1)`."
    """
    for level in (0, 1, 2, 7, 63):
        for index in (0, 1, 5, 1234067):
            tile = Tile(level, index, 3)
            assert (tile.start_index, tile.end_index) == (
                index * 256 ** (level + 1),
                (index + 1) * 256 ** (level + 1),
            )
    assert (Tile(ENTRIES_LEVEL, 5).start_index, Tile(ENTRIES_LEVEL, 5).end_index) == (1280, 1536)


# ---- which tiles a tree has


def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    """ "For example, a tree of size 70,000 will be represented by 273 full level 0 tiles, one partial level 0
    tile of width 112, one full level 1 tile, one partial level 1 tile of width 17, and one partial level 2
    tile of width 1."
    """
    tiles = list(tiles_for_size(70_000))
    assert Counter((tile.level, tile.width) for tile in tiles) == {
        (0, 256): 273,
        (0, 112): 1,
        (1, 256): 1,
        (1, 17): 1,
        (2, 1): 1,
    }
    assert tiles == [
        *(Tile(0, n) for n in range(273)),
        Tile(0, 273, 112),
        Tile(1, 0),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(entry_bundles_for_size(70_000)) == [
        *(Tile(ENTRIES_LEVEL, n) for n in range(273)),
        Tile(ENTRIES_LEVEL, 273, 112),
    ]


def test_a_tree_of_256_has_a_full_tile_and_one_above_it() -> None:
    """ "Note that a tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of
    width 1."
    """
    assert list(tiles_for_size(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(entry_bundles_for_size(256)) == [Tile(ENTRIES_LEVEL, 0)]


@pytest.mark.parametrize(
    "size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 131_072, 200_000]
)
def test_the_tiles_of_a_tree_hold_every_hash_of_every_level_once(size: int) -> None:
    """ "The partial tile at level *l* for a tree of size *s* has `floor(s / 256**l) mod 256` entries. Empty
    tiles MUST NOT be served."

    "A partial tile contains between 1 and 255 hashes, and MUST NOT be hashed into a tile at the level above."

    "Logs MUST serve partial tiles corresponding to tree sizes for which a checkpoint was produced"
    """
    tiles = list(tiles_for_size(size))
    for level in range(64):
        of_level = [tile for tile in tiles if tile.level == level]
        # Only full tiles below count, because what is partial is not hashed into the level above.
        hashes = size if level == 0 else sum(t.width == 256 for t in tiles if t.level == level - 1)
        assert sum(tile.width for tile in of_level) == hashes == size // 256**level
        assert [tile.index for tile in of_level] == list(range(len(of_level)))
        assert all(tile.width == 256 for tile in of_level[:-1])
        assert partial_width(level, size) == size // 256**level % 256
        if of_level and of_level[-1].width < 256:
            assert of_level[-1].width == partial_width(level, size)
        for tile in of_level[:2] + of_level[-2:]:
            assert tile_at(level, tile.index, size) == tile
        with pytest.raises(OutOfRangeError, match=f"no tile {len(of_level)} at level {level}"):
            tile_at(level, len(of_level), size)
    assert [(tile.index, tile.width) for tile in entry_bundles_for_size(size)] == [
        (tile.index, tile.width) for tile in tiles if tile.level == 0
    ]


def test_a_partial_tile_is_named_by_the_size_that_needs_it() -> None:
    """ "Clients MUST NOT fetch arbitrary partial tiles without verifying a checkpoint with a size that
    requires their existence, and MAY fetch the full tile in parallel as a fallback in case the partial tile
    is not available anymore."
    """
    assert tile_at(0, 273, 70_000).path == "tile/0/273.p/112"
    assert tile_at(ENTRIES_LEVEL, 273, 70_000).path == "tile/entries/273.p/112"
    assert tile_at(1, 1, 70_000).path == "tile/1/001.p/17"
    assert tile_at(0, 272, 70_000).path == "tile/0/272"


def test_the_tiles_of_a_huge_tree_are_listed_lazily() -> None:
    assert list(islice(tiles_for_size(MAX_SIZE), 3)) == [Tile(0, 0), Tile(0, 1), Tile(0, 2)]
    assert tile_at(7, 0, MAX_SIZE) == Tile(7, 0, 127)
    assert partial_width(8, MAX_SIZE) == 0
    assert partial_width(ENTRIES_LEVEL, MAX_SIZE) == 255


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_size_that_no_tree_has_is_out_of_range_at_once(size: int) -> None:
    for ask in (tiles_for_size, entry_bundles_for_size):
        with pytest.raises(OutOfRangeError):
            ask(size)
    with pytest.raises(OutOfRangeError):
        partial_width(0, size)
    with pytest.raises(OutOfRangeError):
        tile_at(0, 0, size)


def test_a_level_or_index_that_no_tile_has_is_out_of_range() -> None:
    for level in (-2, 64):
        with pytest.raises(OutOfRangeError):
            partial_width(level, 5)
        with pytest.raises(OutOfRangeError):
            tile_at(level, 0, 5)
    with pytest.raises(OutOfRangeError):
        tile_at(0, -1, 5)


# ---- where a node is


def naive_tiles(tree: NaiveTree, size: int) -> dict[tuple[int, int], list[bytes]]:
    """The tiles by the formula of the specification:

    `MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l])`
    """
    return {
        (tile.level, tile.index): [
            tree.mth((tile.index * 256 + i) * 256**tile.level, (tile.index * 256 + i + 1) * 256**tile.level)
            for i in range(tile.width)
        ]
        for tile in tiles_for_size(size)
    }


def test_every_complete_subtree_is_computed_from_the_hashes_of_one_tile() -> None:
    """ "Note that a tile represents the entire subtree of height 8 with its hashes as the leaves." """
    size = 1300
    tree = NaiveTree([b"%d" % index for index in range(size)])
    tiles = naive_tiles(tree, size)
    seen = 0
    for level in range(11):
        for index in range(size >> level):
            tile_level, tile_index, start, end = locate_node(level, index)
            hashes = tiles[tile_level, tile_index][start:end]
            assert len(hashes) == end - start == 1 << level % 8
            assert inner_root(hashes) == tree.mth(index << level, index + 1 << level)
            seen += 1
    assert seen == sum(size >> level for level in range(11))


def inner_root(hashes: list[bytes]) -> bytes:
    """The root over hashes of complete subtrees of one size."""
    while len(hashes) > 1:
        hashes = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(hashes[::2], hashes[1::2], strict=True)
        ]
    return hashes[0]


def test_nodes_of_the_largest_trees_are_located() -> None:
    assert locate_node(0, MAX_SIZE - 1) == (0, (MAX_SIZE - 1) // 256, 254, 255)
    assert locate_node(8, 5) == (1, 0, 5, 6)
    assert locate_node(62, 0) == (7, 0, 0, 64)
    for level, index in [(63, 0), (62, 1), (0, MAX_SIZE), (-1, 0), (0, -1), (10**9, 0)]:
        with pytest.raises(OutOfRangeError):
            locate_node(level, index)


# ---- hash tiles


def test_a_full_hash_tile_has_256_hashes_or_8192_bytes() -> None:
    """ "Full tiles MUST be exactly 256 hashes wide, or 8,192 bytes." """
    hashes = [bytes([number]) * 32 for number in range(256)]
    data = b"".join(hashes)
    assert len(data) == 8192
    assert decode_hash_tile(data, TILE_WIDTH) == hashes
    assert decode_hash_tile(data[:160], 5) == hashes[:5]
    for other in (b"", data[:-1], data[:-32], data + b"\x00", data + bytes(32)):
        with pytest.raises(MalformedError, match=f"not {len(other)}"):
            decode_hash_tile(other, TILE_WIDTH)
    for width in (0, 257, -1):
        with pytest.raises(MalformedError, match="width"):
            decode_hash_tile(bytes(32 * max(width, 0)), width)


# ---- entry bundles


def test_an_entry_bundle_is_length_prefixed_entries() -> None:
    """ "Entry bundles are sequences of big-endian uint16 length-prefixed log entries." """
    entries = [b"abc", b"", b"\x00" * 258]
    data = b"\x00\x03abc" + b"\x00\x00" + b"\x01\x02" + b"\x00" * 258
    assert encode_entry_bundle(entries) == data
    assert decode_entry_bundle(data) == entries
    assert decode_entry_bundle(data, 3) == entries


def test_an_entry_has_at_most_65535_bytes() -> None:
    longest = b"x" * 65_535
    assert decode_entry_bundle(encode_entry_bundle([longest, longest])) == [longest, longest]
    assert encode_entry_bundle([longest])[:2] == b"\xff\xff"
    with pytest.raises(MalformedError, match="entry 1 has 65536 bytes"):
        encode_entry_bundle([b"", longest + b"x"])


def test_a_bundle_has_at_most_256_entries() -> None:
    assert len(decode_entry_bundle(encode_entry_bundle([b"x"] * 256))) == 256
    with pytest.raises(MalformedError, match="not 257"):
        encode_entry_bundle([b"x"] * 257)
    with pytest.raises(MalformedError, match="more than 256"):
        decode_entry_bundle(b"\x00\x01x" * 257)
    with pytest.raises(MalformedError, match="more than 256"):
        decode_entry_bundle(bytes(2**20))


def test_a_truncated_bundle_and_trailing_bytes_are_refused() -> None:
    entries = [b"one", b"two", b"three"]
    data = encode_entry_bundle(entries)
    boundaries = {0: 0, 5: 1, 10: 2}
    for length in range(len(data)):
        if length in boundaries:
            # A whole, shorter bundle: nothing but its width tells.
            assert decode_entry_bundle(data[:length]) == entries[: boundaries[length]]
        else:
            with pytest.raises(MalformedError, match="cut off"):
                decode_entry_bundle(data[:length])
        with pytest.raises(MalformedError):
            decode_entry_bundle(data[:length], 3)
    for trailing in (b"\x00", b"\x01", b"\x00\x01", b"\xff\xff"):
        with pytest.raises(MalformedError, match="cut off in its entry 3, at byte 17"):
            decode_entry_bundle(data + trailing)
    with pytest.raises(MalformedError, match="4 entries where 3 are needed"):
        decode_entry_bundle(data + b"\x00\x00", 3)


# ---- anything


@settings(deadline=None, max_examples=200)
@given(any_text | damaged_text("tile/0/x001/x234/067.p/5") | damaged_text("tile/entries/x001/000"))
def test_any_text_is_a_path_that_formats_to_itself_or_malformed(text: str) -> None:
    try:
        tile = parse_tile_path(text)
    except MalformedError:
        return
    assert tile.path == text


@settings(deadline=None)
@given(st.integers(-1, 63), st.integers(0, MAX_SIZE), st.integers(1, 256))
def test_every_tile_has_a_path_that_is_parsed_again(level: int, index: int, width: int) -> None:
    assert parse_tile_path(Tile(level, index, width).path) == Tile(level, index, width)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_every_bundle_is_decoded_again(entries: list[bytes]) -> None:
    assert decode_entry_bundle(encode_entry_bundle(entries), len(entries)) == entries


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_bundle_that_encodes_to_itself_or_malformed(data: bytes) -> None:
    try:
        entries = decode_entry_bundle(data)
    except MalformedError:
        return
    assert encode_entry_bundle(entries) == data


@settings(deadline=None, max_examples=50)
@given(st.integers(0, MAX_SIZE), st.integers(0, 7), st.integers(0, MAX_SIZE))
def test_a_tile_of_a_tree_is_as_wide_as_the_tree_lets_it_be(size: int, level: int, index: int) -> None:
    count = size // 256**level
    try:
        tile = tile_at(level, index, size)
    except OutOfRangeError:
        assert index * 256 >= count
        return
    assert tile.width == min(256, count - 256 * index)
