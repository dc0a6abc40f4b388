"""Who cosigned a checkpoint, when, and whether the quorum counts it. Pure.

A policy may list cosigners that no quorum needs: other witnesses, and the log's own cosigner, whose key has
the log's origin for its name. What that one says, "not later than", is the log's word, and no witness's: a
policy that counted it to its quorum would let the log vouch for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from tlog.cosignature import CosignerVerifier
from tlog.note import Note
from tlog.policy import Policy, PolicyWitness


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """Says that a cosigner of a policy has cosigned, at `time_s` seconds since 1970 by its own clock."""

    witness: PolicyWitness
    time_s: int
    in_quorum: bool
    by_the_log: bool

    @property
    def name(self) -> str:
        """Return the cosigner's name in the policy, as text."""
        return self.witness.name.decode("utf-8", "backslashreplace")


def read_cosigned(opened: Note, policy: Policy) -> tuple[Cosigned, ...]:
    """Read which cosigners of a policy have cosigned a note, in the policy's order.

    Requires a note that was opened with `policy.verifiers`: its signatures are verified.
    """
    needed = quorum_witnesses(policy)
    return tuple(
        Cosigned(
            witness=witness,
            time_s=time_s,
            in_quorum=witness.name in needed,
            by_the_log=is_by_the_log(witness, policy),
        )
        for witness in policy.witnesses
        if (time_s := cosigned_at_s(opened, witness.verifier)) is not None
    )


def cosigned_at_s(opened: Note, verifier: CosignerVerifier) -> int | None:
    """Return when a key cosigned an opened note, in seconds since 1970; None when it has not."""
    for signature in opened.signatures:
        if (signature.name, signature.key_id) == (verifier.name, verifier.key_id):
            return verifier.timestamp_s(signature.signature)
    return None


def quorum_witnesses(policy: Policy) -> frozenset[bytes]:
    """Return the names of the witnesses that a policy's quorum is made of, through all of its groups."""
    members = {group.name: group.members for group in policy.groups}
    names = [] if policy.quorum is None else [policy.quorum]
    for name in names:
        names.extend(members.get(name, ()))
    return frozenset(names) - members.keys()


def is_by_the_log(witness: PolicyWitness, policy: Policy) -> bool:
    """Return whether a policy's cosigner is one of its logs itself: its key has the origin for a name."""
    return any(witness.verifier.name == log.origin for log in policy.logs)
