"""The committed inputs of every target: valid ones, nasty ones, and whatever once made a target fail.

A file is one input. Its name begins with what it is: `valid-`, `nasty-`, `more-` or `crash-`; the rest is a
part of its SHA-256 hash. `python -m tests.fuzz --write-corpus` writes the first two anew, which the targets
make; the others are added with a fix, or because the code would not make the same bytes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from fuzz.engine import Target

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 4_096
"""The longest input that is committed; longer nasty ones are made by the targets each time."""


def name_of(kind: str, data: bytes) -> str:
    """Name a file after what it is and holds."""
    return f"{kind}-{sha256(data).hexdigest()[:12]}"


def read(target: str) -> dict[str, bytes]:
    """Read the committed inputs of a target, by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).glob("*-*"))}


def inputs(target: Target) -> list[bytes]:
    """Return all that a run begins with: valid input, nasty input, and what is committed."""
    return list(dict.fromkeys([*target.seeds, *target.nasty, *read(target.name).values()]))


def keep(directory: Path, target: str, kind: str, data: bytes) -> Path:
    """Write one input as a file."""
    path = directory / target / name_of(kind, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write(targets: Iterable[Target]) -> None:
    """Write valid and nasty input anew; all else stays."""
    for target in targets:
        if not target.is_repeatable:
            continue
        for name in read(target.name):
            if name.startswith(("valid-", "nasty-")):
                (CORPUS / target.name / name).unlink()
        for kind, every in (("valid", target.seeds), ("nasty", target.nasty)):
            for data in every:
                if len(data) <= MAX_BYTES:
                    keep(CORPUS, target.name, kind, data)
