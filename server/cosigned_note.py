"""How the cosignatures of one checkpoint add up, over rounds and late answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tlog.cosignature import CosignerVerifier
from tlog.note import Signature, add_signatures, parse_note


def add_newer_signatures(
    note: bytes, signatures: Sequence[Signature], verifiers: Iterable[CosignerVerifier], *, not_after_s: int
) -> bytes:
    """Add signatures to a note, each in the place of the one by the same key, if that is not a newer one.

    An answer that was held back, or is given again, so takes no newer one away. What says that it was made
    after `not_after_s`, in seconds since 1970, is not taken for newer: the clock that says so runs ahead.
    Both have to be verified before. Raises MalformedError.
    """
    timestamp_s = {(verifier.name, verifier.key_id): verifier.timestamp_s for verifier in verifiers}
    held_s = {
        (held.name, held.key_id): timestamp_s[held.name, held.key_id](held.signature)
        for held in parse_note(note)[1]
        if (held.name, held.key_id) in timestamp_s
    }

    def is_newest(signature: Signature) -> bool:
        key = (signature.name, signature.key_id)
        return key not in held_s or not timestamp_s[key](signature.signature) < held_s[key] <= not_after_s

    return add_signatures(note, [signature for signature in signatures if is_newest(signature)])
