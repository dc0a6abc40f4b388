"""How old the quorum behind a checkpoint is: exhaustive over small policies, against the definition."""

from __future__ import annotations

from itertools import product

import pytest
from _support.alliance import ORIGIN, key, log_signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.cosignature import CosignatureSigner
from tlog.errors import ConfigError, PolicyError, SignatureError, StaleCheckpointError
from tlog.freshness import FreshnessRule, quorum_time_s
from tlog.merkle import EMPTY_ROOT
from tlog.note import add_signatures, sign_note
from tlog.policy import Policy, open_checkpoint, parse_policy

TEXT = format_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT))
LOG = log_signer()
WITNESSES = [CosignatureSigner(name=f"w{n}.example", private_key=key(f"w{n}")) for n in range(4)]


def policy(*rules: str) -> Policy:
    lines = [f"log {LOG.vkey}"]
    lines += [f"witness W{n} {witness.vkey}" for n, witness in enumerate(WITNESSES)]
    return parse_policy(("\n".join([*lines, *rules]) + "\n").encode())


POLICIES = [
    policy("quorum W1"),
    policy("group g any W0 W1 W2 W3", "quorum g"),
    policy("group g all W0 W1 W2 W3", "quorum g"),
    policy("group g 3 W0 W1 W2 W3", "quorum g"),
    policy("group a 1 W0 W1", "group b 2 W2 W3", "group g 2 a b", "quorum g"),
    policy("group a 2 W0 W1", "group g 2 a W2 W3", "quorum g"),
]


def note(times: tuple[int, ...]) -> bytes:
    """Cosign by every witness whose time is not 0."""
    cosignatures = [
        witness.cosign(TEXT, time_s) for witness, time_s in zip(WITNESSES, times, strict=True) if time_s
    ]
    return add_signatures(sign_note(TEXT, [LOG]), cosignatures)


def is_met(times: tuple[int, ...], rule: Policy) -> bool:
    try:
        open_checkpoint(note(times), rule)
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize("rule", POLICIES)
def test_the_time_is_the_largest_from_which_on_the_cosignatures_still_meet_the_policy(
    rule: Policy,
) -> None:
    for times in product((0, 100, 200, 300), repeat=4):
        by_definition = [
            t
            for t in (100, 200, 300)
            if is_met(tuple(time_s if time_s >= t else 0 for time_s in times), rule)
        ]
        assert quorum_time_s(note(times), rule) == (max(by_definition) if by_definition else None)


def test_a_rule_passes_up_to_its_age_and_fails_beyond_it() -> None:
    rule = policy("group g 2 W0 W1 W2 W3", "quorum g")
    fresh = note((1_000, 900, 0, 0))
    FreshnessRule(max_age_s=100, now_s=lambda: 1_000).verify(fresh, rule)
    with pytest.raises(StaleCheckpointError, match="101 s ago"):
        FreshnessRule(max_age_s=100, now_s=lambda: 1_001).verify(fresh, rule)
    with pytest.raises(StaleCheckpointError, match="no quorum"):
        FreshnessRule(max_age_s=100, now_s=lambda: 1_000).verify(note((1_000, 0, 0, 0)), rule)


def test_a_forged_time_is_no_time() -> None:
    rule = policy("quorum W0")
    # The time stands in the signature's first 8 bytes; another one does not verify.
    forged = WITNESSES[0].cosign(TEXT, 100)
    later = type(forged)(forged.name, forged.key_id, (500).to_bytes(8, "big") + forged.signature[8:])
    with pytest.raises(SignatureError):
        quorum_time_s(add_signatures(note((0, 0, 0, 0)), [later]), rule)


def test_a_policy_without_a_quorum_has_no_age_and_a_rule_needs_one() -> None:
    assert quorum_time_s(note((1, 1, 1, 1)), policy("quorum none")) is None
    with pytest.raises(ConfigError, match="no quorum"):
        FreshnessRule(max_age_s=1, now_s=lambda: 0).verify(note((1, 1, 1, 1)), policy("quorum none"))
    for bad in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="above 0"):
            FreshnessRule(max_age_s=bad, now_s=lambda: 0)


def test_a_witness_clock_that_runs_ahead_makes_no_frozen_view_fresh() -> None:
    rule = policy("group g 2 W0 W1 W2 W3", "quorum g")
    freshness = FreshnessRule(max_age_s=100, now_s=lambda: 1_000)
    freshness.verify(note((1_060, 1_060, 0, 0)), rule)
    with pytest.raises(StaleCheckpointError, match="no quorum"):
        freshness.verify(note((9_999_999_999, 1_000, 0, 0)), rule)
    freshness.verify(note((9_999_999_999, 1_000, 950, 0)), rule)
    with pytest.raises(StaleCheckpointError, match="200 s ago"):
        freshness.verify(note((9_999_999_999, 1_000, 800, 0)), rule)
