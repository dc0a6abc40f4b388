"""The registry of a log, folded from proven governance entries. Pure: values in, values or an error out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tlog.client.proven_entries import ProvenEntry
from tlog.client.scrutiny import logged
from tlog.client.trusted_log import VerifiedCheckpoint
from tlog.client.wire import decode_inclusion_proof
from tlog.errors import (
    MalformedError,
    NotFoundError,
    ProofError,
    RefusalReason,
    RefusedError,
    RuleBrokenError,
    VerificationError,
)
from tlog.evidence import LoggedEntry, format_evidence, make_rule
from tlog.membership import Registry
from tlog.merkle import leaf_hash, verify_inclusion
from tlog.v1 import log_pb2
from tlog.validate import verify_entry


def verify_genesis(entry: bytes, pinned: bytes | None) -> None:
    """Verify that entry 0 is the one whose leaf hash was pinned, if one was. Raises VerificationError."""
    if pinned is not None and leaf_hash(entry) != pinned:
        raise VerificationError(
            f"entry 0 has leaf hash {leaf_hash(entry).hex()}, and {pinned.hex()} is pinned: this is another "
            "log under the same origin, or the pinned hash is wrong"
        )


def verify_pinned_genesis(
    message: log_pb2.InclusionResult, pinned: bytes, checkpoint: VerifiedCheckpoint
) -> None:
    """Verify by an inclusion proof that leaf 0 of a checkpoint's tree has the pinned leaf hash.

    The entry itself is not needed for that. Raises VerificationError.
    """
    if message.proof.leaf_index != 0:
        raise ProofError(f"entry 0 was asked for, and the log proves entry {message.proof.leaf_index}")
    try:
        proof = decode_inclusion_proof(message.proof)
        verify_inclusion(pinned, 0, checkpoint.tree_size, proof.hashes, checkpoint.root_hash)
    except ProofError as error:
        raise VerificationError(
            f"the log does not prove that entry 0 has the pinned leaf hash {pinned.hex()} ({error}): this is "
            "another log under the same origin, or the pinned hash is wrong"
        ) from error


def verify_registry(origin: str, pinned: bytes | None, entries: Iterable[ProvenEntry]) -> Registry:
    """Fold a log's governance entries, from entry 0 on, under the log's own rules.

    A gap in their chain is an error, as `seq` and `prev` show it. Raises NotFoundError when there is none,
    and VerificationError for another genesis or an entry that the rules refuse: RuleBrokenError where the
    entries shown may be enough to convict the log of it.
    """
    registry = Registry.EMPTY
    before: list[LoggedEntry] = []
    for found in entries:
        if not before:
            if found.leaf_index != 0:
                raise VerificationError(
                    f"the first governance entry shown is entry {found.leaf_index}; genesis is entry 0"
                )
            verify_genesis(found.entry, pinned)
        try:
            verified = verify_entry(found.entry, origin)
            registry = registry.apply(verified.event, verified.public_keys, verified.leaf_hash)
        except RefusedError as error:
            message = (
                f"entry {found.leaf_index} is in the log of {origin} against the rules, or one before it is "
                f"held back: {error}"
            )
            evidence = _evidence(error.reason, found, before)
            if evidence is None:
                raise VerificationError(message) from error
            raise RuleBrokenError(message, evidence=evidence) from error
        before.append(logged(found))
    if not before:
        raise NotFoundError(f"{origin} shows no governance entry, not even its genesis: is the log empty?")
    return registry


def _evidence(reason: RefusalReason, found: ProvenEntry, before: Sequence[LoggedEntry]) -> bytes | None:
    """Make the text that may show the rule to be broken; None where it has no form, or is too long."""
    try:
        return format_evidence(make_rule(reason, logged(found), governance=before))
    except MalformedError:
        return None
