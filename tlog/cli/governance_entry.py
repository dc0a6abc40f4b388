"""Governance from the command line: build on the newest registry, collect signatures, append at threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from tlog.cli.files import write_file
from tlog.cli.passphrase import passphrase_from
from tlog.cli.report import Json, plural, say, say_document
from tlog.envelope import sign_entry
from tlog.errors import BatchRefusedError, ConfigError, MalformedError
from tlog.event import parse_event
from tlog.governance import Genesis, Governance, GovernanceEvent, parse_governance
from tlog.key_file import AsksPassphrase, read_key_file
from tlog.membership import Registry
from tlog.note import Signer

if TYPE_CHECKING:
    from tlog.client import LogClient

SignOption = Annotated[
    list[Path] | None,
    typer.Option("--sign", help="Governance key to sign with; once for each key.", show_default=False),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File for the signed entry, instead of appending it; `tlog governance sign` goes on from it.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Says how many of the signatures that a governance event needs from one set of keys are there."""

    keys: str
    present: int
    needed: int

    @property
    def missing(self) -> int:
        """Return how many signatures are still to come."""
        return max(0, self.needed - self.present)

    def __str__(self) -> str:
        """Return `1 of 2 governance signatures`."""
        return f"{self.present} of {self.needed} {self.keys} signatures"


class BuildsPayload(Protocol):
    """Builds a governance event's payload; a `build_*` of `tlog.governance` with its body given."""

    def __call__(self, *, origin: str, time: str, seq: int, prev: str) -> bytes:
        """Build the payload. Raises MalformedError for a body that no entry can say."""
        ...


def next_payload(client: LogClient, registry: Registry, build: BuildsPayload, *, refused: str) -> bytes:
    """Build the governance event that follows a registry's newest one, dated now.

    `registry` is what the log has proven just now. Raises ConfigError, which begins with `refused`, for a
    body that no entry can say.
    """
    try:
        return build(origin=client.origin, time=_present_time(), seq=registry.seq + 1, prev=registry.prev)
    except MalformedError as error:
        raise ConfigError(f"{refused}: {error}") from error


def _present_time() -> str:
    """Return the present time as an event's `time`; it decides nothing."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_governance_keys(
    paths: Sequence[Path] | None,
    registry: Registry,
    passphrase: AsksPassphrase | None = None,
    *,
    new_keys: Sequence[bytes] = (),
) -> list[Signer]:
    """Read keys to sign governance with; `new_keys` are those that a change brings, which sign it as well.

    Raises ConfigError for one that is no governance key of this log.
    """
    signers = {}
    known = dict.fromkeys((*registry.governance_keys, *new_keys))
    for path in paths or ():
        signer = read_key_file(path, passphrase)
        if signer.public_key not in known:
            raise ConfigError(
                f"{path} holds {signer.public_key.hex()}, which is no governance key of {registry.origin}: "
                "sign with one of " + ", ".join(f"{key.hex()[:16]}…" for key in known)
            )
        signers[signer.public_key] = signer
    return list(signers.values())


def thresholds(
    event: GovernanceEvent, registry: Registry | None, public_keys: Sequence[bytes]
) -> list[Threshold]:
    """Count the signatures of a governance event; without a registry, only against keys that it brings."""
    signed = set(public_keys)
    counted: list[Threshold] = []
    if registry is not None and not isinstance(event.body, Genesis):
        old = "old governance" if isinstance(event.body, Governance) else "governance"
        counted.append(
            Threshold(
                keys=old, present=len(signed & set(registry.governance_keys)), needed=registry.threshold
            )
        )
    match event.body:
        case Genesis(governance=body):
            counted.append(_threshold_of(body, "governance", signed))
        case Governance() as body:
            counted.append(_threshold_of(body, "new governance", signed))
        case _:
            pass
    return counted


def sign_and_append(
    client: LogClient,
    registry: Registry,
    payload: bytes,
    *,
    sign: Sequence[Path] | None,
    passphrase_fd: int | None,
    out: Path | None,
    what: str,
    as_json: bool,
) -> None:
    """Sign a governance event with the given keys; append it when that is enough, else write it down.

    Raises ConfigError when it can be neither appended nor written, RefusedError for what a log would refuse.
    """
    event = parse_governance(parse_event(payload))
    new_keys = event.body.governance_keys if isinstance(event.body, Governance) else ()
    signers = read_governance_keys(sign, registry, passphrase_from(passphrase_fd), new_keys=new_keys)
    check_acceptable(registry, payload)
    counted = thresholds(event, registry, [signer.public_key for signer in signers])
    missing = max(threshold.missing for threshold in counted)
    counts = ", ".join(map(str, counted))
    if missing and out is None:
        raise ConfigError(
            f"{what} has {counts}: sign with {missing} more, or give --out FILE for others to sign "
            "(`tlog governance sign`)"
        )
    if out is not None:
        write_file(out, sign_entry(payload, signers) if signers else payload)
        _tell(as_json, what, event, counted, out=out)
        return
    leaf_index = append_governance(client, sign_entry(payload, signers))
    _tell(as_json, what, event, counted, leaf_index=leaf_index)


def append_governance(client: LogClient, entry: bytes) -> int:
    """Append one governance entry; returns its leaf index. Raises RefusedError with the log's reason."""
    try:
        (appended,) = client.append([entry])
    except BatchRefusedError as error:
        refused = error.refusals[0]
        refused.add_note(
            "if another change came first, this one is void: build it anew on the newest registry"
        )
        raise refused from error
    return appended.leaf_index


def check_acceptable(registry: Registry, payload: bytes) -> None:
    """Judge a governance event as if all keys had signed, before anybody does. Raises RefusedError."""
    event = parse_event(payload)
    body = parse_governance(event).body
    keys = set(registry.governance_keys)
    if isinstance(body, Governance):
        keys |= set(body.governance_keys)
    registry.apply(event, sorted(keys), b"\0" * 32)


def check_signers(event: GovernanceEvent, registry: Registry, public_keys: Sequence[bytes]) -> None:
    """Check that nobody signed who does not govern: a log refuses that. Raises ConfigError."""
    known = set(registry.governance_keys)
    match event.body:
        case Genesis(governance=body):
            known = set(body.governance_keys)
        case Governance() as body:
            known |= set(body.governance_keys)
        case _:
            pass
    for key in public_keys:
        if key not in known:
            raise ConfigError(
                f"it is signed by {key.hex()}, which is no governance key of {registry.origin}: begin again "
                "from the event's JSON, or from entries without that signature"
            )


def _threshold_of(governance: Governance, keys: str, signed: set[bytes]) -> Threshold:
    return Threshold(
        keys=keys, present=len(signed & set(governance.governance_keys)), needed=governance.threshold
    )


def _tell(
    as_json: bool,
    what: str,
    event: GovernanceEvent,
    counted: Sequence[Threshold],
    *,
    leaf_index: int | None = None,
    out: Path | None = None,
) -> None:
    if as_json:
        say_document(
            {
                "appended": leaf_index is not None,
                "leaf_index": leaf_index,
                "seq": event.seq,
                "prev": event.prev,
                "out": None if out is None else str(out),
                "thresholds": threshold_documents(counted),
            }
        )
    elif leaf_index is not None:
        say(f"{what}: appended as governance entry {event.seq}, leaf {leaf_index}")
    else:
        missing = max(threshold.missing for threshold in counted)
        say(f"{what}: written to {out}, NOT appended; it has {', '.join(map(str, counted))}")
        if missing:
            still = plural(missing, "signature is", "signatures are")
            say(f"{still} missing: tlog governance sign {out} --key KEY --out …")
        else:
            say(f"complete: tlog governance sign {out} --append")


def threshold_documents(counted: Sequence[Threshold]) -> list[Json]:
    """Return thresholds as JSON."""
    return [{"keys": one.keys, "present": one.present, "needed": one.needed} for one in counted]
