"""The witness itself: a store, the keys, the logs it knows, a clock. No HTTP.

It cosigns first, records then, and hands the cosignatures out last. Two requests for one log may be checked
at the same time; only one of them can replace the record that both were checked against, the other is checked
again. A cosignature whose record was not written never leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tlog.errors import ConfigError, ConflictError
from tlog.storage.witness_base import WitnessStore
from tlog.witness.core import (
    Cosigned,
    Cosigner,
    Record,
    Refusal,
    SignedContradiction,
    WitnessedLog,
    decide,
    decode_record,
    encode_record,
    open_request,
    origin_hash,
)


class Witness:
    """Cosigns the checkpoints of the logs that it knows; its methods may be called from any thread."""

    def __init__(
        self,
        store: WitnessStore,
        cosigners: Sequence[Cosigner],
        logs: Iterable[WitnessedLog],
        *,
        now_s: Callable[[], int],
        on_evidence: Callable[[WitnessedLog, SignedContradiction], None] = lambda log, evidence: None,
    ) -> None:
        """Take a store, at least one key, the logs, and a clock that gives seconds since 1970.

        `on_evidence` is called, from the thread of the request, when a log has signed against itself; what it
        raises ends that request. Raises ConfigError without a key or when two are the same,
        and as `set_logs` does.
        """
        if not cosigners:
            raise ConfigError("a witness needs at least one key to cosign with")
        if len({(cosigner.name, cosigner.key_id) for cosigner in cosigners}) < len(cosigners):
            raise ConfigError("two of the witness's keys are the same one")
        self._store = store
        self._cosigners = tuple(cosigners)
        self._now_s = now_s
        self._on_evidence = on_evidence
        self._logs: dict[str, WitnessedLog] = {}
        self.set_logs(logs)

    @property
    def logs(self) -> tuple[WitnessedLog, ...]:
        """Return the logs whose checkpoints are cosigned."""
        return tuple(self._logs.values())

    def set_logs(self, logs: Iterable[WitnessedLog]) -> None:
        """Put a new list of logs in the place of the old one, which it has to continue.

        Raises ConfigError, and changes nothing, when it names an origin twice or lacks one that was known: a
        witness does not forget a log.
        """
        by_origin: dict[str, WitnessedLog] = {}
        for log in logs:
            if log.origin in by_origin:
                raise ConfigError(f"the log {log.origin!a} is listed twice: list it once, with all its keys")
            if not log.verifiers:
                raise ConfigError(f"the log {log.origin!a} is listed without a key")
            by_origin[log.origin] = log
        if missing := sorted(self._logs.keys() - by_origin.keys()):
            raise ConfigError(f"the log {missing[0]!a} is not listed any more: a witness forgets no log")
        self._logs = by_origin

    def add_checkpoint(self, body: bytes) -> Cosigned | Refusal:
        """Answer the body of an `add-checkpoint` call; what was cosigned is durably recorded by then.

        Raises StorageError, StateUnknownError and CorruptionError when the record cannot be read or written:
        then nothing was cosigned, as far as anybody outside can tell.
        """
        submitted = open_request(body, self._logs)
        if isinstance(submitted, Refusal):
            return submitted
        key = origin_hash(submitted.checkpoint.origin)
        while True:
            stored = self._store.load(key)
            recorded = None if stored is None else decode_record(stored, key)
            decision = decide(submitted, recorded, self._cosigners, self._now_s())
            if isinstance(decision, Refusal):
                if decision.evidence is not None:
                    self._on_evidence(self._logs[submitted.checkpoint.origin], decision.evidence)
                return decision
            if decision.record is None:
                return decision
            try:
                self._store.replace(key, expected=stored, new=encode_record(decision.record))
            except ConflictError:
                # Somebody else's checkpoint was recorded meanwhile: this one is judged against it. Every
                # turn of the loop stands for a request that was answered, so it ends.
                continue
            return decision

    def latest(self, key: bytes) -> Record | None:
        """Return the record of the log with that origin hash, or None when none was ever cosigned.

        Raises MalformedError when the hash is not 32 bytes long, and StorageError.
        """
        stored = self._store.load(key)
        return None if stored is None else decode_record(stored, key)
