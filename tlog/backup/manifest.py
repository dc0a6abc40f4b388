"""What a backup holds beyond tiles: which key the store is bound to, what was published, how it stands. Pure.

The tiles and the signed checkpoint say what the log is, and prove it. This file beside them says what no
outsider has to know, and nothing that is believed without a signature but two things of the operator's own:
whether the log was frozen, and when the backup was made. Without it a copy of the tiles can be restored all
the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tlog.encoding import MAX_SIZE
from tlog.errors import MalformedError
from tlog.note import MAX_NOTE_BYTES
from tlog.strict_json import format_json, parse_json

MANIFEST_PATH: Final = "backup.json"
FORMAT: Final = "tlog-backup/1"
MAX_MANIFEST_BYTES: Final = 2 * MAX_NOTE_BYTES + 4096
"""The longest manifest: a note whose every character is escaped, and little else."""

_WHAT = "the backup's manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Describes the store that a backup was made of, as it was then.

    `published` is the note that was shown to members, of a size up to `tree_size`. `previous_size` is what
    the last commit built upon, None where the store did not say. `taken_s` is the operator's clock (Unix).
    """

    origin: str
    vkey: str
    tree_size: int
    published: bytes
    is_frozen: bool
    previous_size: int | None
    taken_s: int


def format_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as JSON. Raises MalformedError for a note that is no UTF-8."""
    try:
        published = manifest.published.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("the published checkpoint is no text") from error
    document = {
        "format": FORMAT,
        "origin": manifest.origin,
        "vkey": manifest.vkey,
        "tree_size": manifest.tree_size,
        "published": published,
        "frozen": manifest.is_frozen,
        "previous_size": manifest.previous_size,
        "taken_s": manifest.taken_s,
    }
    return format_json(document, _WHAT) + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest, strictly. Raises MalformedError."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise MalformedError(f"{_WHAT} is longer than {MAX_MANIFEST_BYTES} bytes, so it is something else")
    document = parse_json(data, _WHAT)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise MalformedError(f"{_WHAT} is not of the format {FORMAT}: another release wrote it")
    names = {"format", "origin", "vkey", "tree_size", "published", "frozen", "previous_size", "taken_s"}
    if document.keys() != names:
        wrong = ", ".join(sorted(names ^ document.keys()))
        raise MalformedError(f"{_WHAT} lacks these names, or has them too many: {wrong}")
    tree_size = _number(document["tree_size"], "tree_size")
    previous = document["previous_size"]
    previous_size = None if previous is None else _number(previous, "previous_size")
    if previous_size is not None and previous_size >= max(tree_size, 1):
        raise MalformedError(f"{_WHAT} says that size {tree_size} was built upon size {previous_size}")
    return Manifest(
        origin=_text(document["origin"], "origin"),
        vkey=_text(document["vkey"], "vkey"),
        tree_size=tree_size,
        published=_text(document["published"], "published").encode(),
        is_frozen=_flag(document["frozen"], "frozen"),
        previous_size=previous_size,
        taken_s=_number(document["taken_s"], "taken_s"),
    )


def _number(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise MalformedError(f"{name} in {_WHAT} is no number from 0 to 2**63 - 1")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{name} in {_WHAT} is no text")
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise MalformedError(f"{name} in {_WHAT} is neither true nor false")
    return value
