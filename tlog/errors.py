"""Every exception that tlog raises, in one tree.

::

    TlogError
    ├── MalformedError              bytes or text that break a format (also a ValueError)
    ├── OutOfRangeError             an index or size that this tree does not have
    ├── VerificationError           something was checked and is not true
    │   ├── ProofError                a Merkle proof does not lead to the root
    │   ├── SignatureError            a signature is missing, or does not verify
    │   ├── PolicyError               signed, but not by those whom the policy asks for
    │   ├── StaleCheckpointError      signed and cosigned, but too long ago for the reader's rule
    │   ├── ConsistencyUnprovenError  nobody could show that two checkpoints agree: trust neither
    │   ├── SplitViewError            two checkpoints of one log contradict each other
    │   ├── RuleBrokenError           an entry is proven to be in a log that had to refuse it
    │   └── ConvictedError            evidence against this log is held: it is refused from then on
    ├── StorageError                the store could not do what was asked
    │   ├── NotFoundError             nothing is stored under that name
    │   ├── ConflictError             somebody else committed first
    │   ├── CorruptionError           what is stored is not what was written
    │   ├── StoreInUseError           another writer holds this store
    │   ├── StateUnknownError         a commit may or may not have reached the disk: stop, recover
    │   ├── StoreFullError            there is no room for more: nothing was written, reading goes on
    │   ├── ReadOnlyError             the log signs nothing until its operator acts; reading goes on
    │   ├── NotCheckedError           the log has not yet heard from enough others, since its start, to sign
    │   ├── SignerAwayError           whoever holds the key cannot be asked: nothing is signed until it can
    │   └── SignerRefusedError        whoever holds the key will not sign this tree
    ├── SubmitError                 the log did not take what was sent
    │   ├── RefusedError              one entry, with the reason
    │   ├── BatchRefusedError         a batch, with a RefusedError for every bad position
    │   └── PushbackError             not now: try again after `retry_after_s`
    │       └── QuotaError              this caller or member has had its share, for now
    ├── AccessError                 this caller may not read this log
    ├── ConfigError                 a configuration, a key file or an argument cannot be used
    └── RemoteError                 the other side could not be reached, or broke the protocol
        ├── WitnessConflictError      a witness holds another size of this log: prove from that one
        └── WitnessRefusedError       a witness answered, and cosigns this checkpoint not

A message says what was wrong, with which value, and what to do. Only `server.status` maps these to gRPC
status codes, and only `tlog.exit_codes` maps them to exit codes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class TlogError(Exception):
    """Is the root of everything that tlog raises on purpose."""


class MalformedError(TlogError, ValueError):
    """Says that bytes or text do not follow their format."""


class OutOfRangeError(TlogError):
    """Says that an index or a size lies outside the tree that was asked about."""


class VerificationError(TlogError):
    """Says that a claim was checked and does not hold."""


class ProofError(VerificationError):
    """Says that a Merkle proof has the wrong shape or leads to another root."""


class SignatureError(VerificationError):
    """Says that a signature that had to be there is missing or does not verify."""


class PolicyError(VerificationError):
    """Says that a checkpoint is signed, but not by those whom the policy asks for."""


class StaleCheckpointError(VerificationError):
    """Says that the quorum's newest cosignature is older than the reader allows; it convicts nobody."""


class ConsistencyUnprovenError(VerificationError):
    """Says that nobody could prove two checkpoints consistent; it is an alarm, and convicts nobody.

    `checkpoints` holds the signed notes of both views, byte for byte, for whoever asks peers for the path.
    """

    def __init__(self, message: str, *, checkpoints: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.checkpoints = checkpoints


class SplitViewError(VerificationError):
    """Says that two validly signed checkpoints of one log contradict each other.

    `checkpoints` holds the signed notes, byte for byte: keep them, evidence is made of them. `evidence` is
    the text that convicts, where that takes more than the notes.
    """

    def __init__(
        self, message: str, *, checkpoints: tuple[bytes, ...] = (), evidence: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.checkpoints = checkpoints
        self.evidence = evidence


class RuleBrokenError(VerificationError):
    """Says that an entry is proven to be in a log that had to refuse it; `evidence` is the text of that."""

    def __init__(self, message: str, *, evidence: bytes) -> None:
        super().__init__(message)
        self.evidence = evidence


class ConvictedError(VerificationError):
    """Says that evidence convicts a log, and that nothing it says is believed any more."""


class StorageError(TlogError):
    """Says that the store could not do what was asked."""


class NotFoundError(StorageError):
    """Says that nothing is stored under that name."""


class ConflictError(StorageError):
    """Says that the store's last commit is not the one that the caller built upon."""


class CorruptionError(StorageError):
    """Says that stored bytes are not the bytes that were written."""


class StoreInUseError(StorageError):
    """Says that another writer, here or in another process, holds the store."""


class StateUnknownError(StorageError):
    """Says that a commit failed half way: whoever sees it stops, and recovers at the next start."""


class StoreFullError(StorageError):
    """Says that disk or address space do not suffice for more: nothing was written, and reading goes on."""


class ReadOnlyError(StorageError):
    """Says that the log signs nothing, and takes no new entries, until its operator has acted."""


class NotCheckedError(StorageError):
    """Says that the log has not yet asked enough others what it signed last: it goes on asking."""


class SignerAwayError(StorageError):
    """Says that the process that holds the key cannot be asked now; what it was to sign is kept for later."""


class SignerRefusedError(StorageError):
    """Says that the process that holds the key refuses to sign: it has signed more, or something else."""


class RefusalReason(enum.StrEnum):
    """Names why the log refuses one entry; the values are the wire names in lower case."""

    MALFORMED_ENVELOPE = "malformed_envelope"
    MALFORMED_EVENT = "malformed_event"
    TOO_LARGE = "too_large"
    WRONG_ORIGIN = "wrong_origin"
    BAD_SIGNATURE = "bad_signature"
    WRONG_SIGNATURE_COUNT = "wrong_signature_count"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    KEY_OF_ANOTHER_MEMBER = "key_of_another_member"
    UNKNOWN_SOURCE = "unknown_source"
    MEMBER_NOT_ACTIVE = "member_not_active"
    TYPE_NOT_ALLOWED = "type_not_allowed"
    GOVERNANCE_REFUSED = "governance_refused"
    SOURCE_ID_CONFLICT = "source_id_conflict"
    LOG_FROZEN = "log_frozen"


class SubmitError(TlogError):
    """Says that the log did not take what was sent."""


class RefusedError(SubmitError):
    """Says why one entry is refused; on a conflict `existing_leaf_index` names the entry that was first."""

    def __init__(
        self, reason: RefusalReason, message: str, *, existing_leaf_index: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.existing_leaf_index = existing_leaf_index


class BatchRefusedError(SubmitError):
    """Says that nothing of a batch was taken, and why, for every bad position (from 0)."""

    def __init__(self, refusals: Mapping[int, RefusedError]) -> None:
        first = min(refusals)
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(
            f"nothing was appended: entry {first} is refused: {refusals[first].message}{more}; "
            "mend or leave out the named entries and send the batch again"
        )
        self.refusals = dict(sorted(refusals.items()))


class PushbackError(SubmitError):
    """Says that the log cannot take more now; the same call may be sent again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(PushbackError):
    """Says which limit of a caller or a member is reached; the same call may be sent again later.

    For the server's own counts `limit` names it, as in `events_per_s`, and `member` is whose it is, "" for a
    caller's; a client learns both from the message alone.
    """

    def __init__(self, message: str, *, retry_after_s: float, limit: str = "", member: str = "") -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit
        self.member = member


class AccessError(TlogError):
    """Says that whoever called may not read this log, and who may."""


class ConfigError(TlogError):
    """Says that a configuration, a key file or a command's argument cannot be used, and how to mend it."""


class RemoteError(TlogError):
    """Says that the other side could not be reached, or did not keep to the protocol."""


class WitnessConflictError(RemoteError):
    """Says that the old size is not the one that the witness cosigned last; `tree_size` is that one."""

    def __init__(self, message: str, *, tree_size: int) -> None:
        super().__init__(message)
        self.tree_size = tree_size


class WitnessRefusedError(RemoteError):
    """Says that a witness refused to cosign a checkpoint; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
