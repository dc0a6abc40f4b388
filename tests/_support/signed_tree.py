"""A tree of any entries, good or bad, that signs whatever is asked: what a lying log has in its hands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from _support.naive_merkle import NaiveTree, path

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignerSigner
from tlog.evidence import LoggedEntry
from tlog.merkle import prove_consistency_path
from tlog.note import Signer, add_signatures, sign_note
from tlog.receipt import Receipt, format_receipt

COSIGNED_AT_S = 1_700_000_000


def signed_checkpoint(
    checkpoint: Checkpoint, signers: Sequence[Signer], cosigners: Iterable[CosignerSigner] = ()
) -> bytes:
    text = format_checkpoint(checkpoint)
    cosignatures = [cosigner.cosign(text, COSIGNED_AT_S) for cosigner in cosigners]
    return add_signatures(sign_note(text, signers), cosignatures)


class SignedTree:
    """Signs the trees over the first entries of a list, one note for each size."""

    def __init__(
        self,
        entries: Iterable[bytes],
        signer: Signer,
        *,
        cosigners: Sequence[CosignerSigner] = (),
        also_signed_by: Sequence[Signer] = (),
    ) -> None:
        self.tree = NaiveTree(list(entries))
        self.origin = signer.name
        self.signers = [signer, *also_signed_by]
        self.cosigners = list(cosigners)
        self._notes: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        return len(self.tree.entries)

    def root(self, size: int) -> bytes:
        return self.tree.mth(0, size)

    def note(self, size: int) -> bytes:
        if size not in self._notes:
            checkpoint = Checkpoint(self.origin, size, self.root(size))
            self._notes[size] = signed_checkpoint(checkpoint, self.signers, self.cosigners)
        return self._notes[size]

    def path(self, size1: int, size2: int) -> list[bytes]:
        return prove_consistency_path(
            lambda level, index: self.tree.mth(index << level, (index + 1) << level), size1, size2
        )

    def leaf_hash(self, index: int) -> bytes:
        return self.tree.mth(index, index + 1)

    def receipt(self, index: int, size: int | None = None, *, extra: bytes | None = None) -> bytes:
        size = self.size if size is None else size
        proof = tuple(path(self.tree.mth, index, 0, size))
        return format_receipt(Receipt(leaf_index=index, proof=proof, checkpoint=self.note(size), extra=extra))

    def logged(self, index: int, size: int | None = None) -> LoggedEntry:
        return LoggedEntry.from_receipt(self.tree.entries[index], self.receipt(index, size))
