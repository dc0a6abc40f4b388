"""Keys, trees and signed values that seeds are made of, and how a target is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from _support.alliance import Alliance, key
from _support.signed_tree import COSIGNED_AT_S, SignedTree
from _support.signers import (
    cosigner,
)
from fuzz.engine import Target

from tlog.policy import build_policy

ALLIANCE = Alliance()

LOG = ALLIANCE.signer

WITNESS = cosigner("witness.example")

NOW_S = COSIGNED_AT_S + 60

POLICY = build_policy([LOG.vkey], [WITNESS.vkey], 1)


def text_of(data: bytes) -> str:
    """Every text there is, also one with lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


@cache
def trees() -> tuple[SignedTree, SignedTree]:
    """Two histories of one log over the alliance's entries, some of them bad, under one key."""
    later = Alliance()
    later.add_member("later", [])
    entries = [
        *ALLIANCE.governance,
        ALLIANCE.entry(1),
        ALLIANCE.entry(2, signer=key("stranger")),
        ALLIANCE.entry(1, note="again"),
        later.governance[-1],
    ]
    one = SignedTree(entries, LOG, cosigners=[WITNESS])
    return one, SignedTree([b"fork", *entries], LOG, cosigners=[WITNESS])


def make_target(
    name: str,
    run: Callable[[bytes], object],
    seeds: Sequence[bytes | str],
    *allowed: type[Exception],
    nasty: Sequence[bytes] = (),
    max_bytes: int = 2**16,
) -> Target:
    encoded = tuple(seed.encode() if isinstance(seed, str) else seed for seed in seeds)
    return Target(
        name=name,
        run=run,
        seeds=encoded,
        allowed=allowed,
        nasty=tuple(nasty),
        max_bytes=max_bytes,
    )
