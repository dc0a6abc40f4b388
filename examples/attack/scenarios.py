"""The list of attacks, and for each who has to notice, and whether evidence has to convict the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.attack import gossip_attacks, history_attacks, honest_run, witness_attacks
from examples.attack.cast import ORIGIN
from examples.attack.lab import Lab

EVERYBODY_SPLIT = ("A1", "A2", "A3", "B1", "B2", "B3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Names an attack; `noticed_by` all have to notice, and evidence has to convict `convicts`, all of them.

    One that `is_honest` is no attack: nobody may notice anything.
    """

    name: str
    title: str
    play: Callable[[Lab], None]
    noticed_by: tuple[str, ...] = ()
    convicts: tuple[str, ...] = ()
    is_honest: bool = False


SCENARIOS = (
    Scenario(
        name="split-view",
        title="split view to two members",
        play=gossip_attacks.split_view,
        noticed_by=("member A", "member B"),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="rollback",
        title="rollback: yesterday's database restored",
        play=history_attacks.rollback,
        noticed_by=("member", "monitor"),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="rewrite",
        title="one old entry rewritten, tree recomputed",
        play=history_attacks.rewrite,
        noticed_by=("member", "monitor", "receipt holder"),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="drop",
        title="an acknowledged entry dropped",
        play=history_attacks.drop,
        noticed_by=("member", "monitor", "receipt holder"),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="reorder",
        title="two entries re-ordered",
        play=history_attacks.reorder,
        noticed_by=("member", "monitor", "receipt holder"),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="forged-signature",
        title="an entry with a forged member signature",
        play=history_attacks.forged_signature,
        noticed_by=("monitor",),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="forbidden-type",
        title="a type that the role may not issue",
        play=history_attacks.forbidden_type,
        noticed_by=("monitor",),
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="stale-view",
        title="stale view: frozen for one member",
        play=gossip_attacks.stale_view,
        noticed_by=("member B",),
    ),
    Scenario(
        name="withheld-updates",
        title="stale view: cosignatures that grow old",
        play=witness_attacks.withheld_updates,
        noticed_by=("monitor B",),
    ),
    Scenario(
        name="two-faced-witness",
        title="a witness cosigns two histories",
        play=witness_attacks.two_faced_witness,
        noticed_by=("member A", "member B", "member C", "honest witnesses"),
        convicts=(ORIGIN, witness_attacks.TRAITOR),
    ),
    Scenario(
        name="lying-peer",
        title="a peer gossips forged checkpoints",
        play=gossip_attacks.lying_peer,
        noticed_by=("member A", "member B"),
    ),
    Scenario(
        name="healed-partitions",
        title="equivocation hidden by partitions that heal",
        play=gossip_attacks.healed_partitions,
        noticed_by=EVERYBODY_SPLIT,
        convicts=(ORIGIN,),
    ),
    Scenario(
        name="honest",
        title="(no attack) kills, restarts, partitions",
        play=honest_run.honest_run,
        is_honest=True,
    ),
)
