"""Ask a witness for cosignatures (C2SP tlog-witness), and believe nothing that it answers unverified.

For a log's publisher, or a monitor. The client keeps one connection alive and holds no state about the log:
whoever calls it knows the sizes and makes the proofs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tlog.cosignature import CosignerVerifier
from tlog.encoding import decode_utf8, parse_decimal, shown, split_lines
from tlog.errors import (
    ConfigError,
    MalformedError,
    RemoteError,
    SignatureError,
    WitnessConflictError,
    WitnessRefusedError,
)
from tlog.http_client import ANSWER_ERRORS, HttpClient, check_url, is_redirect
from tlog.note import MAX_SIGNATURES, Signature, parse_note, parse_signature_line
from tlog.tls import ClientTls
from tlog.witness.core import TREE_SIZE, origin_hash
from tlog.witness.request import format_add_checkpoint

MAX_RESPONSE_BYTES = 2**17
"""The largest answer that is read: dozens of ML-DSA-44 cosignatures."""


class WitnessClient:
    """Talks to one witness; belongs to one event loop. Close it with `aclose`, or use it in `async with`."""

    def __init__(
        self,
        url: str,
        verifiers: Sequence[CosignerVerifier],
        *,
        tls: ClientTls | None = None,
        http: HttpClient | None = None,
    ) -> None:
        """Take the witness's submission prefix and the keys that it is trusted to cosign with.

        `tls` says which authorities are trusted, and what the witness is shown. `http` is another HTTP client
        than the usual one (a proxy); it stays the caller's to close. Raises ConfigError when the URL is none,
        or there is no key.
        """
        try:
            check_url(url)
        except ValueError as error:
            raise ConfigError(f"the witness's URL {shown(url)} is none: {error}") from error
        if any(character in url for character in " ?#") or not url.isascii():
            raise ConfigError(
                f"the witness's URL is {shown(url)}: it has to be http(s)://host[:port][/prefix], no more"
            )
        if not verifiers:
            raise ConfigError(f"no key is given for the witness at {shown(url)}: none of its words counts")
        self.url = url.rstrip("/")
        self._verifiers = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
        self._owned = http is None
        self._http = http or HttpClient(url, max_connections=4, tls=tls)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, but not an HTTP client that was passed in."""
        if self._owned:
            await self._http.aclose()

    async def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, timeout_s: float = 5.0
    ) -> list[Signature]:
        """Submit a signed checkpoint, and return the verified cosignatures: at least one.

        `proof` is the consistency proof from `old_size`, the size that the witness cosigned last. Lines by
        unknown keys are ignored. The whole call takes at most `timeout_s`.

        Raises WitnessConflictError, with the size to prove from, when that is another one;
        WitnessRefusedError with the status when the witness does not cosign; SignatureError when a line by
        one of its keys does not verify or has no time, or when none of its keys has signed; MalformedError
        when the arguments are no request; RemoteError when it cannot be reached, is too slow, or breaks the
        protocol.
        """
        body = format_add_checkpoint(old_size, proof, note)
        text, _ = parse_note(note)
        status, content_type, answer = await self._post(body, timeout_s)
        if status == 200:
            return self._cosignatures(text, answer)
        if status == 409:
            raise self._conflict(content_type, answer)
        said = shown(answer.decode("utf-8", "backslashreplace").strip())
        raise WitnessRefusedError(f"the witness at {self.url} answered {status}: {said}", status=status)

    async def newest_checkpoint(self, origin: str, timeout_s: float = 5.0) -> bytes | None:
        """Ask for the note that the witness cosigned last of a log; None when it says that there is none.

        That is the specification's monitoring endpoint, below the same prefix. Nothing in the note is
        verified here. Raises WitnessRefusedError with the status, and RemoteError as `add_checkpoint` does.
        """
        path = f"{origin_hash(origin).hex()}/checkpoint"
        status, _, answer = await self._request("GET", path, b"", timeout_s)
        if status == 200:
            return answer
        if status == 404:
            return None
        raise WitnessRefusedError(f"the witness at {self.url} answered {status} for {path}", status=status)

    async def _post(self, body: bytes, timeout_s: float) -> tuple[int, str, bytes]:
        return await self._request("POST", "add-checkpoint", body, timeout_s)

    async def _request(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, str, bytes]:
        # Identity only: what arrives is what counts against the limit, and nothing unfolds.
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "tlog",
        }
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.request(
                    method,
                    f"{self.url}/{path}",
                    headers=headers,
                    timeout_s=timeout_s,
                    body=body,
                ) as response,
            ):
                if is_redirect(response.status) or "Content-Encoding" in response.headers:
                    raise RemoteError(
                        f"the witness at {self.url} answered {response.status} with a redirect or an "
                        "encoded body, which is never followed: give its own URL"
                    )
                answer = b""
                async for chunk in response.content.iter_any():
                    answer += chunk
                    if len(answer) > MAX_RESPONSE_BYTES:
                        raise RemoteError(
                            f"the witness at {self.url} answered more than {MAX_RESPONSE_BYTES} bytes"
                        )
                return response.status, response.headers.get("Content-Type", ""), answer
        except TimeoutError as error:
            raise RemoteError(f"the witness at {self.url} did not answer within {timeout_s} s") from error
        except ANSWER_ERRORS as error:
            raise RemoteError(
                f"the witness at {self.url} cannot be reached: {type(error).__name__} {error}".rstrip()
            ) from error

    def _cosignatures(self, text: str, answer: bytes) -> list[Signature]:
        try:
            signatures = _parse_signature_lines(answer)
        except MalformedError as error:
            raise RemoteError(
                f"the witness at {self.url} answered 200, but no signature lines: {error}"
            ) from error
        cosignatures: dict[tuple[str, bytes], Signature] = {}
        for signature in signatures:
            key = (signature.name, signature.key_id)
            if verifier := self._verifiers.get(key):
                verifier.verify(text.encode(), signature.signature)
                if verifier.timestamp_s(signature.signature) == 0:
                    raise SignatureError(f"the witness at {self.url} cosigned without a time")
                cosignatures.setdefault(key, signature)
        if not cosignatures:
            raise SignatureError(
                f"none of the {len(signatures)} lines that the witness at {self.url} answered is by a key of "
                f"{', '.join(sorted({shown(name) for name, _ in self._verifiers}))}"
            )
        return list(cosignatures.values())

    def _conflict(self, content_type: str, answer: bytes) -> RemoteError:
        try:
            tree_size = _parse_tree_size(content_type, answer)
        except MalformedError as error:
            return RemoteError(f"the witness at {self.url} answered 409, but no tree size: {error}")
        return WitnessConflictError(
            f"the witness at {self.url} cosigned size {tree_size} last: prove consistency from that one",
            tree_size=tree_size,
        )


def _parse_signature_lines(answer: bytes) -> list[Signature]:
    lines = split_lines(decode_utf8(answer, "the answer"), "the answer")
    if len(lines) > MAX_SIGNATURES:
        raise MalformedError(f"there are {len(lines)} lines; at most {MAX_SIGNATURES} are read")
    return [parse_signature_line(line) for line in lines]


def _parse_tree_size(content_type: str, answer: bytes) -> int:
    if content_type.partition(";")[0].strip().lower() != TREE_SIZE:
        raise MalformedError(f"its content type is {shown(content_type)}, not {TREE_SIZE}")
    (line, *more) = split_lines(decode_utf8(answer, "the tree size"), "the tree size")
    if more:
        raise MalformedError("there is more than one line")
    return parse_decimal(line, "the tree size")
