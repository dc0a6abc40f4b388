"""The contract of a witness's store: one record a log, replaced as a whole, and never by mistake.

A witness that forgets what it has cosigned, or that writes an older record over a newer one, cosigns two
histories. So a record is only ever replaced by somebody who names the record that he has checked against, the
replacement is durable before `replace` returns, and there is no way to remove a record.
"""

from __future__ import annotations

from typing import Protocol

from tlog.errors import MalformedError

ORIGIN_HASH_BYTES = 32


class WitnessStore(Protocol):
    """Holds the records of many logs, each under the SHA-256 hash of its log's origin.

    To the store a record is bytes. Its methods may be called from any thread of the process that opened it,
    and all of them raise StorageError when the store cannot be read, or is closed.
    """

    def load(self, origin_hash: bytes) -> bytes | None:
        """Return the record of a log, or None before the first.

        Raises MalformedError for a hash that is not 32 bytes long.
        """
        ...

    def replace(self, origin_hash: bytes, *, expected: bytes | None, new: bytes) -> None:
        """Put `new` in the place of `expected`, the record that it was checked against; None for no record.

        Comparing and writing is one step, and durable when this returns. Raises ConflictError when the record
        is another one by now; StateUnknownError when nobody can say whether the new one is on the disk: the
        store then takes nothing more until it is opened anew; and StorageError on anything else. Except after
        StateUnknownError, nothing was written. Raises MalformedError for a hash that is not 32 bytes long,
        and for an empty record.
        """
        ...

    def origin_hashes(self) -> list[bytes]:
        """Return the origin hashes of all records, ascending."""
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        ...


def check_origin_hash(origin_hash: bytes) -> None:
    """Check that a key of a record has 32 bytes. Raises MalformedError."""
    if len(origin_hash) != ORIGIN_HASH_BYTES:
        raise MalformedError(f"an origin hash has {ORIGIN_HASH_BYTES} bytes, not {len(origin_hash)}")


def check_record(record: bytes) -> None:
    """Check that a record is not empty, which would be no record. Raises MalformedError."""
    if not record:
        raise MalformedError("a record cannot be empty: nothing takes a log's record away")
