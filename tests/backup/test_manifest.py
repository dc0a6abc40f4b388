"""The manifest of a backup: what was written comes back, anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlog.backup.manifest import Manifest, format_manifest, parse_manifest
from tlog.errors import MalformedError

MANIFEST = Manifest(
    origin="log.example",
    vkey="log.example+0011",
    tree_size=7,
    published="log.example\n5\nAAAA\n\n— log.example xyz=\n".encode(),
    is_frozen=False,
    previous_size=5,
    taken_s=1_700_000_000,
)


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        replace(MANIFEST, previous_size=None, is_frozen=True),
        replace(MANIFEST, tree_size=0, previous_size=0),
    ],
)
def test_what_was_written_is_read(manifest: Manifest) -> None:
    assert parse_manifest(format_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "tlog-backup/2"),
        ("tree_size", -1),
        ("tree_size", 2**63),
        ("tree_size", True),
        ("tree_size", "7"),
        ("previous_size", 7),
        ("previous_size", 1.0),
        ("frozen", 0),
        ("origin", None),
        ("published", ["a"]),
        ("taken_s", -5),
        ("more", 1),
    ],
)
def test_what_is_none_is_refused(name: str, value: object) -> None:
    document = json.loads(format_manifest(MANIFEST)) | {name: value}
    with pytest.raises(MalformedError, match="the backup's manifest"):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize("name", json.loads(format_manifest(MANIFEST)))
def test_no_name_may_be_missing(name: str) -> None:
    document = json.loads(format_manifest(MANIFEST))
    del document[name]
    with pytest.raises(MalformedError, match="the backup's manifest"):
        parse_manifest(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_manifest(data)
