"""A signing key in another process, asked over its Unix socket: looks like a signer, holds no key.

Every signature is verified before it is used. Asking twice for the same is harmless, so a connection that
broke is opened once more. A signer that is away raises SignerAwayError, quickly for a while after a time-out,
and is found again by the next question after that.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey
from tlog.errors import ConfigError, MalformedError, SignatureError, SignerAwayError, SignerRefusedError
from tlog.note import Signature, Verifier
from tlog.signer.protocol import (
    LENGTH_BYTES,
    Answer,
    Cosign,
    Keys,
    ListKeys,
    Question,
    Refused,
    Sign,
    Signed,
    check_frame_length,
    decode_answer,
    encode_frame,
    encode_question,
)
from tlog.vkey import ED25519_NOTE, parse_vkey

_LOGGER = logging.getLogger("tlog.signer")

DEFAULT_TIMEOUT_S = 2.0
PAUSE_S = 0.5
"""How long nobody is asked after a time-out: whoever asks next would only wait as well."""


class SignerLine:
    """Asks one signer over one connection, a question at a time; for any thread."""

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        on_change: Callable[[bool, str], None] = lambda is_there, reason: None,
    ) -> None:
        """Ask on `path`; `timeout_s` is for a question with its answer.

        `on_change` is told, from the thread that asks, when the signer is away, and why, and when it is there
        again.
        """
        self._path = path
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._asked_again_at_s = 0.0
        self._answered_at_s = 0.0
        self._is_there: bool | None = None

    def __repr__(self) -> str:
        return f"SignerLine({str(self._path)!r})"

    def ask(self, question: Question) -> Answer:
        """Ask a question. Raises SignerAwayError when there is no answer, or none that is one."""
        with self._lock:
            if monotonic() < self._asked_again_at_s:
                raise SignerAwayError(self._away("it did not answer in time just now"))
            try:
                answer = decode_answer(self._exchange(encode_frame(encode_question(question))))
            except (OSError, EOFError, MalformedError) as error:
                self._hang_up()
                if isinstance(error, TimeoutError):
                    self._asked_again_at_s = monotonic() + PAUSE_S
                reason = "it did not answer in time" if isinstance(error, TimeoutError) else str(error)
                self._note(is_there=False, reason=self._away(reason))
                raise SignerAwayError(self._away(reason)) from error
            if isinstance(answer, Keys | Signed):
                self._answered_at_s = monotonic()
            self._note(is_there=True)
            return answer

    def quiet_s(self) -> float:
        """Return how long ago the signer last signed or told its keys, in seconds; a "no" does not count."""
        return monotonic() - self._answered_at_s

    def close(self) -> None:
        """Close the connection; the next question opens one again."""
        with self._lock:
            self._hang_up()

    def vkeys(self) -> tuple[str, ...]:
        """Return the vkeys of all keys. Raises SignerAwayError."""
        answer = self.ask(ListKeys())
        if not isinstance(answer, Keys):
            raise SignerAwayError(self._away("it does not tell its keys"))
        return answer.vkeys

    def signature(self, question: Sign | Cosign) -> bytes:
        """Return a signature, unverified. Raises SignerRefusedError, and SignerAwayError."""
        answer = self.ask(question)
        if isinstance(answer, Signed):
            return answer.signature
        if isinstance(answer, Refused):
            raise SignerRefusedError(f"the signer at {self._path} refuses to sign: {answer.reason}")
        reason = "it answers another question" if isinstance(answer, Keys) else answer.reason
        raise SignerAwayError(self._away(reason))

    def _away(self, reason: str) -> str:
        return f"the signer at {self._path} cannot be asked ({reason}): nothing new is signed until it can"

    def _note(self, *, is_there: bool, reason: str = "") -> None:
        if is_there == self._is_there:
            return
        if not is_there:
            _LOGGER.error("%s", reason)
        elif self._is_there is False:
            _LOGGER.info("the signer at %s is there again", self._path)
        self._is_there = is_there
        self._on_change(is_there, reason)

    def _exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the body of the answer's, over a new connection where the old one broke."""
        deadline_s = monotonic() + self._timeout_s
        if self._socket is not None:
            try:
                return self._exchange_on(self._socket, frame, deadline_s)
            except TimeoutError:
                raise
            except (OSError, EOFError):
                self._hang_up()
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = fresh
        fresh.settimeout(self._timeout_s)
        fresh.connect(str(self._path))
        return self._exchange_on(fresh, frame, deadline_s)

    def _exchange_on(self, connection: socket.socket, frame: bytes, deadline_s: float) -> bytes:
        connection.settimeout(max(0.001, deadline_s - monotonic()))
        connection.sendall(frame)
        head = _receive(connection, LENGTH_BYTES, deadline_s)
        return _receive(connection, check_frame_length(int.from_bytes(head, "big")), deadline_s)

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


class RemoteSigner:
    """Signs as a log with a key that a signer holds; it is a `tlog.note.LogSigner`."""

    def __init__(
        self, line: SignerLine, vkey: str, *, on_refused: Callable[[str], None] = lambda reason: None
    ) -> None:
        """Sign with the key of this vkey; `on_refused` is told why it will not. Raises MalformedError."""
        self._line = line
        self._on_refused = on_refused
        self._verifier = Verifier.from_vkey(vkey)

    @property
    def name(self) -> str:
        """The key name."""
        return self._verifier.name

    @property
    def key_id(self) -> bytes:
        """The key ID, 4 bytes."""
        return self._verifier.key_id

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._verifier.public_key

    @property
    def vkey(self) -> str:
        """The public half as a vkey."""
        return self._verifier.vkey

    def sign(self, message: bytes) -> bytes:
        """Have a checkpoint's text signed. Raises SignerRefusedError, and SignerAwayError."""
        try:
            signature = self._line.signature(Sign(vkey=self.vkey, text=message.decode()))
        except SignerRefusedError as error:
            self._on_refused(str(error))
            raise
        try:
            self._verifier.verify(message, signature)
        except SignatureError as error:
            raise SignerAwayError(f"{self._line!r} gives signatures that do not verify: {error}") from error
        return signature


class RemoteCosigner:
    """Cosigns with a key that a signer holds, and that it is asked for when it is first needed."""

    def __init__(self, line: SignerLine, name: str | None = None) -> None:
        """Cosign with the signer's cosignature key of this name; None: with the only one that it holds."""
        self._line = line
        self._name = name
        self._known: CosignerVerifier | None = None

    @property
    def verifier(self) -> CosignerVerifier:
        """The public half. Raises SignerAwayError; ConfigError when the signer has no such key, or two."""
        if self._known is None:
            vkeys = [vkey for vkey in self._line.vkeys() if parse_vkey(vkey).key_type != ED25519_NOTE]
            verifiers = [parse_cosigner_vkey(vkey) for vkey in vkeys]
            found = [one for one in verifiers if self._name in {None, one.name}]
            if len(found) != 1:
                whose = "" if self._name is None else f" named {self._name}"
                raise ConfigError(
                    f"{self._line!r} holds {len(found)} cosignature keys{whose}, and one is needed: give "
                    "it one with `tlog signer serve --cosigner-key`"
                )
            self._known = found[0]
        return self._known

    @property
    def name(self) -> str:
        """The key name."""
        return self.verifier.name

    @property
    def key_id(self) -> bytes:
        """The key ID, 4 bytes."""
        return self.verifier.key_id

    @property
    def public_key(self) -> bytes:
        """The raw public key."""
        return self.verifier.public_key

    @property
    def vkey(self) -> str:
        """The public half as a vkey."""
        return self.verifier.vkey

    def close(self) -> None:
        """Close the line to the signer."""
        self._line.close()

    def cosign(self, checkpoint_text: str, timestamp_s: int) -> Signature:
        """Have a checkpoint's text cosigned. Raises SignerRefusedError, and SignerAwayError."""
        verifier = self.verifier
        question = Cosign(vkey=verifier.vkey, text=checkpoint_text, timestamp_s=timestamp_s)
        signature = self._line.signature(question)
        try:
            verifier.verify(checkpoint_text.encode(), signature)
            stated_s = verifier.timestamp_s(signature)
        except SignatureError as error:
            raise SignerAwayError(f"{self._line!r} gives cosignatures that do not verify: {error}") from error
        if stated_s != timestamp_s:
            raise SignerAwayError(f"{self._line!r} cosigns as of {stated_s}, and was asked for {timestamp_s}")
        return Signature(verifier.name, verifier.key_id, signature)


def log_key_of(line: SignerLine, origin: str) -> str:
    """Ask a signer for the vkey that it signs with for a log.

    Raises SignerAwayError, and ConfigError when it has none or several.
    """
    found: list[str] = []
    for vkey in line.vkeys():
        try:
            key = parse_vkey(vkey)
        except MalformedError as error:
            raise ConfigError(f"{line!r} names a key that is none: {error}") from error
        if key.key_type == ED25519_NOTE and key.name == origin:
            found.append(vkey)
    if len(found) != 1:
        raise ConfigError(
            f"{line!r} holds {len(found)} keys that sign for {origin}, and one is needed: start it with "
            "`tlog signer serve --key`"
        )
    return found[0]


def _receive(connection: socket.socket, length: int, deadline_s: float) -> bytes:
    data = b""
    while len(data) < length:
        connection.settimeout(max(0.001, deadline_s - monotonic()))
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError("it closed the connection")
        data += part
    return data
