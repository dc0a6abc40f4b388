"""Trust policies: whose signatures make a checkpoint good enough (C2SP tlog-policy), and the check itself.

A policy file lists the keys of logs, the keys of witnesses, groups of witnesses, and one quorum: which
witness or group has to have cosigned. Logs are accepted when the key's name is the checkpoint's origin. Names
and URLs in the file are octets without any encoding, as the specification asks, so they are `bytes` here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tlog.checkpoint import Checkpoint, parse_checkpoint
from tlog.cosignature import CosignerVerifier, parse_cosigner_vkey
from tlog.encoding import check_bytes, decode_utf8, encode_utf8, parse_decimal, shown
from tlog.errors import MalformedError, PolicyError, SignatureError
from tlog.note import Note, Verifier, open_parsed_note, parse_note
from tlog.vkey import (
    ED25519_COSIGNATURE,
    ED25519_NOTE,
    ML_DSA_COSIGNATURE,
    describe_key_type,
    parse_vkey,
)

MAX_POLICY_BYTES = 2**20
"""The largest policy file that is read: 1 MiB."""

_NO_QUORUM = b"none"
_ALLOWED_OCTETS = bytes([0x09, 0x0A, *range(0x20, 0x7F), *range(0x80, 0x100)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLog:
    """Holds one log key; its name is the origin of the checkpoints that it may sign.

    `signs_for` is the origin of a log that is not named like its key. No policy file can say so
    (tlog-policy: the key name "MUST correspond" to the origin), only whoever builds a policy.
    """

    verifier: Verifier | CosignerVerifier
    url: bytes | None = None
    signs_for: str | None = None

    @property
    def origin(self) -> str:
        """The origin that this key signs for."""
        return self.verifier.name if self.signs_for is None else self.signs_for


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWitness:
    """Holds one witness key; `name` has a meaning in the policy only, the key's own name is in the vkey."""

    name: bytes
    verifier: CosignerVerifier
    url: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGroup:
    """Holds a group: it counts as a witness when `threshold` of its members do; 1 <= threshold <= members."""

    name: bytes
    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Holds a policy as `parse_policy` has checked it; `quorum` is None where no cosignature is needed.

    Every group comes after its members. Without logs it is a policy, but no checkpoint can be trusted by it.
    """

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: bytes | None

    @property
    def verifiers(self) -> tuple[Verifier | CosignerVerifier, ...]:
        """Every key of the policy, logs first, to open a note with."""
        return (*(log.verifier for log in self.logs), *(witness.verifier for witness in self.witnesses))


def open_checkpoint(data: bytes, policy: Policy) -> Checkpoint:
    """Parse a checkpoint note and check it against a policy: the right log signed, and the quorum cosigned.

    Raises MalformedError; SignatureError when any signature by a key of the policy does not verify, or when
    the log's own is missing; PolicyError when the policy has no logs, or none of this origin, or when the
    quorum is not met: it then names what is missing.
    """
    if not policy.logs:
        raise PolicyError("this policy lists no log, so no checkpoint can be trusted by it: add a `log` line")
    text, signatures = parse_note(data)
    checkpoint = parse_checkpoint(text)
    logs = [log for log in policy.logs if log.origin == checkpoint.origin]
    if not logs:
        origins = ", ".join(sorted({shown(log.origin) for log in policy.logs})[:5])
        raise PolicyError(
            f"the checkpoint is of origin {shown(checkpoint.origin)}, which the policy does not list; "
            f"it accepts {origins}"
        )
    note = open_parsed_note(text, signatures, policy.verifiers)
    if not any(_has_signed(log.verifier, note) for log in logs):
        raise SignatureError(
            f"the checkpoint of origin {shown(checkpoint.origin)} and size {checkpoint.tree_size} is not "
            f"signed by the log itself: the policy asks for key ID {_alternatives(logs)}"
        )
    if missing := _missing_for_quorum(policy, note):
        raise PolicyError(
            f"the checkpoint of origin {shown(checkpoint.origin)} and size {checkpoint.tree_size} is signed "
            f"by the log, but lacks cosignatures: {missing}; get one that the witnesses have cosigned"
        )
    return checkpoint


def can_form_quorum(policy: Policy, witnesses: Iterable[bytes]) -> bool:
    """Return whether these witnesses, by their names in the policy, would meet its quorum by themselves."""
    return policy.quorum is None or policy.quorum in _reached(policy, witnesses)


def parse_policy(data: bytes) -> Policy:
    """Parse a policy file; a key of a type that cannot be verified is an error, never skipped.

    Only the newline at the very end may be missing. Raises MalformedError, which names the line.
    """
    check_bytes(data, "the policy")
    if len(data) > MAX_POLICY_BYTES:
        raise MalformedError(f"the policy has {len(data)} bytes; at most {MAX_POLICY_BYTES} are read")
    definitions = _Definitions()
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            definitions.add_line(_split_items(line))
        except MalformedError as error:
            raise MalformedError(f"line {number} of the policy: {error}") from error
    return definitions.policy()


def format_policy(policy: Policy) -> bytes:
    """Format a policy: logs, witnesses, groups, quorum, one space between items.

    Raises MalformedError when the policy is not one that `parse_policy` would give back.
    """
    lines = [
        *([b"log", log.verifier.vkey.encode(), *_optional(log.url)] for log in policy.logs),
        *(
            [b"witness", witness.name, witness.verifier.vkey.encode(), *_optional(witness.url)]
            for witness in policy.witnesses
        ),
        *([b"group", group.name, b"%d" % group.threshold, *group.members] for group in policy.groups),
        [b"quorum", _NO_QUORUM if policy.quorum is None else policy.quorum],
    ]
    data = b"".join(b" ".join(items) + b"\n" for items in lines)
    if parse_policy(data) != policy:
        raise MalformedError(
            "this policy holds names, origins or URLs that cannot be written into a policy file"
        )
    return data


def build_log_policy(verifiers: Iterable[Verifier | CosignerVerifier], origin: str) -> Policy:
    """Build the policy that trusts these keys for the log of this origin, whatever names the keys have.

    It asks for no cosignatures. Only where every key has the origin as its name can it be written down.
    """
    return Policy(
        logs=tuple(
            PolicyLog(verifier=verifier, signs_for=None if verifier.name == origin else origin)
            for verifier in verifiers
        ),
        witnesses=(),
        groups=(),
        quorum=None,
    )


def build_policy(log_vkeys: Iterable[str], witness_vkeys: Iterable[str] = (), threshold: int = 0) -> Policy:
    """Build the simple policy: any of these logs, cosigned by at least `threshold` of these witnesses.

    Requires 0 <= threshold <= number of witnesses; 0 asks for no cosignature. Raises MalformedError.
    """
    # Items, not text that is split again: a vkey with a space or a newline must not become a URL or a line.
    definitions = _Definitions()
    for vkey in log_vkeys:
        definitions.add_line([b"log", encode_utf8(vkey, "the vkey")])
    names = []
    for number, vkey in enumerate(witness_vkeys, start=1):
        names.append(b"witness-%d" % number)
        definitions.add_line([b"witness", names[-1], encode_utf8(vkey, "the vkey")])
    if threshold:
        definitions.add_line([b"group", b"witnesses", str(threshold).encode(), *names])
    definitions.add_line([b"quorum", b"witnesses" if threshold else _NO_QUORUM])
    return definitions.policy()


@dataclass(slots=True)
class _Definitions:
    """Collects the lines of a policy file, and checks each against those before it."""

    logs: dict[bytes, PolicyLog] = field(default_factory=dict)  # by public key, as duplicates are judged
    witnesses: dict[bytes, PolicyWitness] = field(default_factory=dict)  # by public key
    groups: list[PolicyGroup] = field(default_factory=list)
    names: set[bytes] = field(default_factory=set)
    names_in_groups: set[bytes] = field(default_factory=set)
    quorum: bytes | None = None  # `none` until `policy`

    def add_line(self, items: Sequence[bytes]) -> None:
        match items:
            case []:
                pass
            case [first, *_] if first.startswith(b"#"):
                pass
            case [b"log", vkey, *url] if len(url) <= 1:
                self._add_log(vkey, url)
            case [b"witness", name, vkey, *url] if len(url) <= 1:
                self._add_witness(name, vkey, url)
            case [b"group", name, threshold, *members] if members:
                self._add_group(name, threshold, members)
            case [b"quorum", name]:
                self._set_quorum(name)
            case _:
                raise MalformedError(
                    "not one of `log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, "
                    "`group <name> all|any|<k> <name>...`, `quorum <name>|none`"
                )

    def policy(self) -> Policy:
        if self.quorum is None:
            raise MalformedError(
                "the policy has no quorum line; write `quorum none` to ask for no cosignatures"
            )
        return Policy(
            logs=tuple(self.logs.values()),
            witnesses=tuple(self.witnesses.values()),
            groups=tuple(self.groups),
            quorum=None if self.quorum == _NO_QUORUM else self.quorum,
        )

    def _add_log(self, vkey: bytes, url: Sequence[bytes]) -> None:
        verifier = _log_verifier(decode_utf8(vkey, "the vkey"))
        if verifier.public_key in self.logs:
            raise MalformedError(f"an earlier log line has the public key of log {shown(verifier.name)}")
        self.logs[verifier.public_key] = PolicyLog(verifier=verifier, url=url[0] if url else None)

    def _add_witness(self, name: bytes, vkey: bytes, url: Sequence[bytes]) -> None:
        verifier = parse_cosigner_vkey(decode_utf8(vkey, "the vkey"))
        if verifier.public_key in self.witnesses:
            raise MalformedError(f"an earlier witness line has the public key of witness {_quoted(name)}")
        self._define(name)
        self.witnesses[verifier.public_key] = PolicyWitness(
            name=name, verifier=verifier, url=url[0] if url else None
        )

    def _add_group(self, name: bytes, threshold: bytes, members: Sequence[bytes]) -> None:
        for member in members:
            if member not in self.names:
                raise MalformedError(f"member {_quoted(member)} is not defined on a line before this one")
            if member in self.names_in_groups:
                raise MalformedError(f"{_quoted(member)} is a member already; a name can be one only once")
            self.names_in_groups.add(member)
        self._define(name)
        count = _parse_threshold(threshold, len(members))
        self.groups.append(PolicyGroup(name=name, threshold=count, members=tuple(members)))

    def _set_quorum(self, name: bytes) -> None:
        if self.quorum is not None:
            raise MalformedError("this is a second quorum line; a policy has exactly one")
        if name != _NO_QUORUM and name not in self.names:
            raise MalformedError(f"the quorum {_quoted(name)} is not defined on a line before this one")
        self.quorum = name

    def _define(self, name: bytes) -> None:
        if name == _NO_QUORUM:
            raise MalformedError("`none` is predefined and cannot name a witness or a group")
        if name in self.names:
            raise MalformedError(
                f"{_quoted(name)} is defined already; witnesses and groups share their names"
            )
        self.names.add(name)


def _split_items(line: bytes) -> list[bytes]:
    if unwanted := line.translate(None, _ALLOWED_OCTETS):
        raise MalformedError(f"octet 0x{unwanted[0]:02x} is not allowed in a policy")
    # bytes.split() also splits at other ASCII controls than tab, but none of those is left.
    return line.split()


def _log_verifier(vkey: str) -> Verifier | CosignerVerifier:
    key = parse_vkey(vkey)
    if key.key_type == ED25519_NOTE:
        return Verifier.from_vkey(vkey)
    if key.key_type in {ED25519_COSIGNATURE, ML_DSA_COSIGNATURE}:
        return parse_cosigner_vkey(vkey)
    usable = map(describe_key_type, (ED25519_NOTE, ED25519_COSIGNATURE, ML_DSA_COSIGNATURE))
    raise MalformedError(
        f"the vkey of log {shown(key.name)} is of signature type {describe_key_type(key.key_type)}, which "
        f"cannot be verified here; use {' or '.join(usable)}"
    )


def _parse_threshold(text: bytes, members: int) -> int:
    if text == b"all":
        return members
    if text == b"any":
        return 1
    threshold = parse_decimal(decode_utf8(text, "the threshold"), "the threshold", maximum=members)
    if threshold == 0:
        raise MalformedError("the threshold is 0; it has to be at least 1")
    return threshold


def _has_signed(verifier: Verifier | CosignerVerifier, note: Note) -> bool:
    # Within one opened note, name and key ID stand for one key: open_note refuses two that share them.
    return any(
        (signature.name, signature.key_id) == (verifier.name, verifier.key_id)
        for signature in note.signatures
    )


def _reached(policy: Policy, witnesses: Iterable[bytes]) -> set[bytes]:
    """Return these witnesses, and every group that counts when they do."""
    reached = set(witnesses)
    # A group only has members from lines before it, so one pass settles all of them, however deep.
    for group in policy.groups:
        if sum(member in reached for member in group.members) >= group.threshold:
            reached.add(group.name)
    return reached


def _missing_for_quorum(policy: Policy, note: Note) -> str:
    """Say what the quorum lacks, from the quorum down; empty when it is met."""
    reached = _reached(
        policy, (witness.name for witness in policy.witnesses if _has_signed(witness.verifier, note))
    )
    if policy.quorum is None or policy.quorum in reached:
        return ""
    groups = {group.name: group for group in policy.groups}
    lacking = [policy.quorum]
    reasons: list[str] = []
    for name in lacking:
        group_lacking = groups.get(name)
        if group_lacking is None:
            reasons.append(f"witness {_quoted(name)} has not cosigned")
            continue
        absent = [member for member in group_lacking.members if member not in reached]
        present = len(group_lacking.members) - len(absent)
        reasons.append(
            f"group {_quoted(name)} has {present} of the {group_lacking.threshold} it needs "
            f"(out of {len(group_lacking.members)})"
        )
        lacking.extend(absent)
    more = [f"and {len(reasons) - 10} more"] if len(reasons) > 10 else []
    return "; ".join([*reasons[:10], *more])


def _alternatives(logs: Sequence[PolicyLog]) -> str:
    return " or ".join(log.verifier.key_id.hex() for log in logs)


def _optional(url: bytes | None) -> list[bytes]:
    return [] if url is None else [url]


def _quoted(name: bytes) -> str:
    """Quote a policy name for a message: octets outside printable ASCII are escaped."""
    return shown(name.decode("ascii", "backslashreplace"))
