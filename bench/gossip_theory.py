"""The formulas of docs/gossip.md, which the simulation is held against."""

from __future__ import annotations

from math import ceil, comb, log

from bench.gossip_simulation import Split


def chance_to_meet(split: Split) -> float:
    """Compute the chance that some member of one side and some of the other are in contact in a round.

    Every honest member draws `fan_out` different peers of all the others, the silent ones among them.
    """
    others = split.members - 1
    fan_out = min(split.fan_out, others)
    miss_minority = comb(others - split.minority, fan_out) / comb(others, fan_out)
    miss_majority = comb(others - split.majority, fan_out) / comb(others, fan_out)
    return 1.0 - miss_minority**split.majority * miss_majority**split.minority


def expected_rounds_to_meet(split: Split) -> float:
    """Compute the mean number of rounds until two sides meet: rounds are independent, so it is geometric."""
    return 1.0 / chance_to_meet(split)


def rounds_to_meet(split: Split, chance: float) -> int:
    """Compute after how many rounds the sides have met with at least this chance. 0 < chance < 1."""
    once = chance_to_meet(split)
    return 1 if once >= chance else ceil(log(1.0 - chance) / log(1.0 - once))


def rounds_to_spread(members: int, fan_out: int, silent: int = 0) -> int:
    """Compute rounds until less than a hundredth of a member is expected not to hold a piece of evidence.

    The mean of push-pull: a member stays without it when it asks nobody who has it, and nobody who has it
    asks it. Starts from the two who made it, and counts one exchange a contact: an upper estimate.
    """
    others = members + silent - 1
    without = float(max(0, members - 2))
    rounds = 0
    while without >= 0.01:
        holders = members - without
        pull = max(0.0, 1.0 - holders / others) ** fan_out
        push = max(0.0, 1.0 - fan_out / others) ** holders
        without *= pull * push
        rounds += 1
    return max(1, rounds)
