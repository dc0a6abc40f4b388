"""What a store says about itself: its log, its size, its checkpoints; and which signature of it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.errors import ConfigError, MalformedError, VerificationError
from tlog.fsck.findings import Finding, Findings, Fix, Part
from tlog.fsck.tree_check import TreeVerdict
from tlog.note import Verifier, open_note
from tlog.storage.lmdb_layout import ENTRIES, FORMAT, FROZEN, MARKED, META, NUMBER, PREVIOUS_SIZE, RESTORED
from tlog.storage.lmdb_pages import DataFile, Row

COMMITTED = b"committed"
COMMITTED_SIZE = b"committed_size"
PUBLISHED = b"published"
GOVERNANCE_HEAD_NAME = b"governance_head"
_FORMAT_NAME, _ORIGIN, _VKEY = b"format", b"origin", b"vkey"
_NAMES = frozenset({
    _FORMAT_NAME, _ORIGIN, _VKEY, COMMITTED, COMMITTED_SIZE, PUBLISHED, GOVERNANCE_HEAD_NAME,
    PREVIOUS_SIZE, FROZEN, RESTORED, MARKED,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMeta:
    """Holds the rows, and what of them can be believed.

    `tree_size` and `root_hash` are those of the committed checkpoint; without a valid signature on it, of the
    published one where that has the same size, else the stored size, and no root.
    """

    file: str
    rows: dict[bytes, Row]
    origin: str
    vkey: str
    tree_size: int
    root_hash: bytes | None
    note: bytes | None
    """The signed note that `root_hash` is from."""
    committed_is_valid: bool
    published_size: int | None

    @property
    def is_frozen(self) -> bool:
        """Return whether the log is marked as frozen."""
        return FROZEN in self.rows

    @property
    def published(self) -> bytes | None:
        """Return the published note as it is stored."""
        row = self.rows.get(PUBLISHED)
        return None if row is None else row.value

    def check_checkpoints(
        self,
        findings: Findings,
        verdict: TreeVerdict,
        *,
        published_root: bytes | None,
        log_vkeys: Sequence[str],
    ) -> None:
        """Hold the checkpoints against the tree; `published_root` is the entries' at the published size."""
        if self.root_hash is not None and not verdict.leads_to_root:
            findings.add(
                self._finding(
                    Part.CHECKPOINT,
                    COMMITTED,
                    f"neither the {self.tree_size} entries nor the stored tiles lead to the root that was "
                    "signed",
                    {"entries": verdict.entries_root.hex(), "signed": self.root_hash.hex()},
                )
            )
        self._check_published(findings, verdict, published_root, log_vkeys)

    def check_verified(self, findings: Findings, verdict: TreeVerdict, verified: Checkpoint) -> None:
        """Hold the entries against a tree of which the caller has verified every signature.

        Where both have one root, they are the same to the bit (else SHA-256 is broken), signatures as well.
        """
        if verdict.entries_root != verified.root_hash:
            findings.add(
                self._finding(
                    Part.CHECKPOINT,
                    COMMITTED,
                    "the entries are not those whose signatures were verified",
                    {"entries": verdict.entries_root.hex(), "verified": verified.root_hash.hex()},
                )
            )

    def check_governance_head(self, findings: Findings, head: bytes | None) -> None:
        """Hold the head of the governance list against the one that the entries make."""
        row = self.rows.get(GOVERNANCE_HEAD_NAME)
        if (None if row is None else row.value) != head:
            findings.add(
                self._finding(
                    Part.GOVERNANCE,
                    GOVERNANCE_HEAD_NAME,
                    "the head of the governance list is not that of the governance entries",
                ),
                Fix(table=META, key=GOVERNANCE_HEAD_NAME, value=head),
            )

    def _check_published(
        self,
        findings: Findings,
        verdict: TreeVerdict,
        published_root: bytes | None,
        log_vkeys: Sequence[str],
    ) -> None:
        published = self.published
        if published is None:
            if self.rows.get(COMMITTED) is not None:
                findings.add(
                    self._finding(Part.CHECKPOINT, PUBLISHED, "there is no published checkpoint"),
                    self._publish_committed(),
                )
            return
        # An older key of the log may have signed what its witnesses have not replaced yet.
        checkpoint = open_signed(published, self.origin, {self.vkey, *log_vkeys})
        if checkpoint is None:
            message = "the published checkpoint is not signed by this log's key"
        elif checkpoint.tree_size > self.tree_size:
            message = (
                f"the published checkpoint is of size {checkpoint.tree_size}, and {self.tree_size} entries "
                "are committed: the store is older than what was shown; do not sign with it"
            )
        elif not verdict.wrong_entries and checkpoint.root_hash != published_root:
            message = (
                f"the published checkpoint, of size {checkpoint.tree_size}, has root "
                f"{checkpoint.root_hash.hex()}, and the entries lead to another one"
            )
        else:
            return
        fix = self._publish_committed() if checkpoint is None else None
        findings.add(self._finding(Part.CHECKPOINT, PUBLISHED, message), fix)

    def _publish_committed(self) -> Fix | None:
        """Mend the published note with the committed one; the server has it cosigned when it starts."""
        return None if self.note is None else Fix(table=META, key=PUBLISHED, value=self.note)

    def _finding(
        self, part: Part, name: bytes, message: str, copies: dict[str, str] | None = None
    ) -> Finding:
        row = self.rows.get(name)
        return Finding(
            part=part,
            message=message,
            place=f"meta {name.decode()}",
            file=self.file,
            byte_range=None if row is None else (row.start, row.start + len(row.value)),
            copies=copies or {},
        )


def read_meta_rows(
    file: DataFile, logs: Sequence[tuple[str, str]], findings: Findings, other_note: bytes | None = None
) -> StoredMeta:
    """Read what a store says about itself, and report what cannot be so.

    `logs` are the (origin, vkey) that it may be of; `other_note` is a checkpoint to go by where the committed
    one has no valid signature, if it has one and is of the stored size. Raises ConfigError when the store is
    another log's.
    """
    rows = {row.key: row for row in file.scan(META.decode())}
    name = str(file.path)

    def report(part: Part, key: bytes, message: str, value: bytes | None) -> None:
        row = rows.get(key)
        byte_range = None if row is None else (row.start, row.start + len(row.value))
        place = f"meta {key.decode('ascii', 'backslashreplace')}"
        finding = Finding(part=part, message=message, place=place, file=name, byte_range=byte_range)
        findings.add(finding, Fix(table=META, key=key, value=value))

    def stored(key: bytes) -> bytes | None:
        return rows[key].value if key in rows else None

    origin, vkey = _whose(stored(_ORIGIN), stored(_VKEY), stored(COMMITTED), logs, name)
    for key, wanted in ((_FORMAT_NAME, FORMAT), (_ORIGIN, origin.encode()), (_VKEY, vkey.encode())):
        if stored(key) != wanted:
            report(Part.META, key, f"the store's {key.decode()} is not {wanted.decode()!r}", wanted)
    for key in rows.keys() - _NAMES:
        report(Part.META, key, f"the store has a row {key!r}, which means nothing", None)
    for key in (FROZEN, RESTORED, MARKED):
        if stored(key):
            report(Part.META, key, f"the mark {key.decode()!r} holds something", b"")
    committed = _open(stored(COMMITTED), origin, {vkey})
    published = _open(stored(PUBLISHED), origin, {vkey})
    size_row = stored(COMMITTED_SIZE)
    # Where that row is lost, there are as many entries as LMDB says that the table has.
    has_size = size_row is not None and len(size_row) == NUMBER.size
    stored_size = NUMBER.unpack(size_row)[0] if has_size and size_row else file.rows_in(ENTRIES.decode())
    believed, note = committed, stored(COMMITTED)
    if committed is None and (stored(COMMITTED) is not None or stored_size or has_size):
        believed = note = None
        for other in (stored(PUBLISHED), other_note):
            opened = _open(other, origin, {vkey})
            if believed is None and opened is not None and opened.tree_size == stored_size:
                believed, note = opened, other
        is_there = stored(COMMITTED) is not None
        message = f"the committed checkpoint is {'not signed by this log' if is_there else 'missing'}"
        if note is None:
            finding = Finding(part=Part.CHECKPOINT, message=message, place="meta committed", file=name)
            findings.add(finding)
        else:
            report(Part.CHECKPOINT, COMMITTED, message, note)
    size = believed.tree_size if believed is not None else stored_size
    if (believed is not None or has_size) and (stored_size != size or not has_size):
        report(
            Part.META,
            COMMITTED_SIZE,
            f"the store says that it holds {stored_size if has_size else 'no number of'} entries, and {size} "
            "are signed",
            NUMBER.pack(size),
        )
    before = stored(PREVIOUS_SIZE)
    if before is not None and not (len(before) == NUMBER.size and NUMBER.unpack(before)[0] < max(size, 1)):
        # Without it, nobody knows: that is what it was like before it was recorded.
        report(Part.META, PREVIOUS_SIZE, "the size before the last commit is not below the size", None)
    return StoredMeta(
        file=name,
        rows=rows,
        origin=origin,
        vkey=vkey,
        tree_size=size,
        root_hash=None if believed is None else believed.root_hash,
        note=note,
        committed_is_valid=committed is not None,
        published_size=None if published is None else published.tree_size,
    )


def open_signed(note: bytes, origin: str, vkeys: Iterable[str]) -> Checkpoint | None:
    """Open a checkpoint of a log that one of these keys has signed, or return None."""
    for vkey in vkeys:
        try:
            checkpoint = parse_checkpoint(open_note(note, [Verifier.from_vkey(vkey)]).text)
        except (MalformedError, VerificationError):
            continue
        if checkpoint.origin == origin:
            return checkpoint
    return None


def _open(note: bytes | None, origin: str, vkeys: Iterable[str]) -> Checkpoint | None:
    return None if note is None else open_signed(note, origin, vkeys)


def _whose(
    origin: bytes | None,
    vkey: bytes | None,
    committed: bytes | None,
    logs: Sequence[tuple[str, str]],
    name: str,
) -> tuple[str, str]:
    """Decide which of the logs a store is of: the one that it says, else whose checkpoint it holds."""
    for one in logs:
        if (one[0].encode(), one[1].encode()) == (origin, vkey):
            return one
    for one in logs:
        if _open(committed, one[0], {one[1]}) is not None:
            return one
    if origin is None and vkey is None and len(logs) == 1:
        return logs[0]
    said = (origin or b"").decode(errors="replace"), (vkey or b"").decode(errors="replace")
    raise ConfigError(
        f"{name} holds the log with origin {said[0]!r} and key {said[1]!r}, which is not the one to check "
        f"({', '.join(one[1] for one in logs)}): name that log's directory, or give that log's key"
    )
