"""Answers a signer's questions: keys and marks in, signatures out, one question at a time."""

from __future__ import annotations

from collections.abc import Sequence

from tlog.cosignature import CosignerSigner
from tlog.errors import ConfigError, MalformedError, SignerRefusedError, StorageError
from tlog.note import Signer
from tlog.signer.duty import Mark, check_duty
from tlog.signer.protocol import Answer, Cosign, Failed, Keys, ListKeys, Question, Refused, Sign, Signed
from tlog.signer.state import SignerState


class SignerDesk:
    """Signs with the keys that it was given, within what `tlog.signer.duty` allows. Belongs to one thread."""

    def __init__(
        self, keys: Sequence[Signer | CosignerSigner], state: SignerState, *, cosigns_any_origin: bool
    ) -> None:
        """Sign for the origin that is a key's name; a witness's keys cosign any.

        Raises ConfigError when there is no key, or a key is there twice.
        """
        self._keys = {key.vkey: key for key in keys}
        if not keys or len(self._keys) < len(keys):
            raise ConfigError("a signer holds one key or more, and none of them twice")
        self._state = state
        self._cosigns_any_origin = cosigns_any_origin

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return the public halves of the keys."""
        return tuple(self._keys)

    def answer(self, question: Question) -> Answer:
        """Answer one question; whatever is signed is marked durably before."""
        if isinstance(question, ListKeys):
            return Keys(vkeys=self.vkeys)
        try:
            return Signed(signature=self._sign(question))
        except (SignerRefusedError, MalformedError) as error:
            return Refused(reason=str(error))
        except StorageError as error:
            return Failed(reason=str(error))

    def _sign(self, question: Sign | Cosign) -> bytes:
        key = self._keys.get(question.vkey)
        if key is None:
            # No refusal, which would end the server's signing for good: it may get the right signer yet.
            raise StorageError("this signer does not hold the key that is asked for")
        if isinstance(question, Sign) != isinstance(key, Signer):
            raise SignerRefusedError("a log's key signs, and a cosigner's cosigns: this key does the other")
        is_bound = isinstance(key, Signer) or not self._cosigns_any_origin
        origin = question.text.split("\n", 1)[0]
        mark = self._state.mark(question.vkey, origin)
        checkpoint = check_duty(question.text, mark, key.name if is_bound else None)
        # Made before the mark, given out after it: a time that cannot be cosigned leaves no mark.
        if isinstance(key, Signer):
            signature = key.sign(question.text.encode())
        else:
            assert isinstance(question, Cosign)
            signature = key.cosign(question.text, question.timestamp_s).signature
        self._state.raise_mark(
            Mark(
                vkey=question.vkey,
                origin=checkpoint.origin,
                tree_size=checkpoint.tree_size,
                root_hash=checkpoint.root_hash,
            )
        )
        return signature
