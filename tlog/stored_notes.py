"""Look again at the stored checkpoints: their text has to be what was signed, to the last byte.

A flipped bit in a note's text leaves a checkpoint that parses, of the right size and root perhaps, under
another origin: only the signature tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from tlog.checkpoint import parse_checkpoint
from tlog.envelope import decode_entry
from tlog.errors import CorruptionError, MalformedError, NotFoundError, SignatureError
from tlog.event import parse_event
from tlog.governance import Genesis, Governance, parse_governance
from tlog.log_view import LogView, SignedCheckpoint
from tlog.note import Verifier, open_note


class StoredNotes:
    """Checks one log's committed and published note, again and again; for one thread."""

    def __init__(self, vkey: str) -> None:
        """Take the vkey that the log signs with now; keys before it are read from its governance."""
        self._vkey = vkey
        self._sound: frozenset[bytes] = frozenset()

    def check(self, view: LogView) -> None:
        """Check both notes of a snapshot; the same bytes as the last time cost next to nothing.

        Raises CorruptionError, which says which one is wrong, and StorageError when nothing can be read.
        """
        notes = set()
        for slot, read in (("committed", view.committed), ("published", view.published)):
            try:
                signed = read()
                notes.add(signed.note)
                if signed.note not in self._sound:
                    self._check_one(view, signed)
            except (MalformedError, SignatureError, NotFoundError) as error:
                raise CorruptionError(
                    f"the stored {slot} checkpoint is not as it was signed: {error}"
                ) from error
        self._sound = frozenset(notes)

    def _check_one(self, view: LogView, signed: SignedCheckpoint) -> None:
        checkpoint = signed.checkpoint
        self._check_signature(view, signed.note)
        if checkpoint.tree_size > view.tree_size:
            raise CorruptionError(
                f"a stored checkpoint is of {checkpoint.tree_size} entries, and {view.tree_size} are there"
            )
        root_hash = view.root_hash(checkpoint.tree_size)
        if checkpoint.root_hash != root_hash:
            raise CorruptionError(
                f"the stored checkpoint of size {checkpoint.tree_size} has root "
                f"{checkpoint.root_hash.hex()}, and the stored tree {root_hash.hex()}"
            )

    def _check_signature(self, view: LogView, note: bytes) -> None:
        """Check that one of the log's keys has signed; the one of now first, which it nearly always is."""
        try:
            _open(note, self._vkey)
        except SignatureError:
            for vkey in _named_keys(view):
                try:
                    _open(note, vkey)
                except SignatureError:
                    continue
                return
            raise


def _open(note: bytes, vkey: str) -> None:
    verifier = Verifier.from_vkey(vkey)
    checkpoint = parse_checkpoint(open_note(note, [verifier]).text)
    if checkpoint.origin != verifier.name:
        raise SignatureError(f"{verifier.name} has signed a checkpoint of origin {checkpoint.origin}")


def _named_keys(view: LogView) -> Iterator[str]:
    """Yield the vkeys that governance has ever named: an older key may have signed what is still shown."""
    for index in view.governance_indices():
        (entry,) = view.entries(index, index + 1)
        body = parse_governance(parse_event(decode_entry(entry).payload)).body
        if isinstance(body, Genesis):
            yield from body.governance.log_vkeys
        elif isinstance(body, Governance):
            yield from body.log_vkeys
