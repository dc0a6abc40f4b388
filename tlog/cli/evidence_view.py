"""What the `tlog evidence` commands have in common: whom to believe, and how a verdict is said."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tlog.cli.options import load_policy
from tlog.cli.report import Json, say, say_facts
from tlog.encoding import shown
from tlog.errors import ConfigError, MalformedError
from tlog.evidence import ConvictedKey, Verdict
from tlog.policy import Policy, build_log_policy, build_policy

PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", envvar="TLOG_POLICY", help="C2SP policy file: whose keys can be convicted."),
]
LogKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log-key", metavar="VKEY", help="The log's key, instead of a policy. May be given several times."
    ),
]
OriginOption = Annotated[
    str | None,
    typer.Option("--origin", help="The log's origin, where it is not the name of its --log-key."),
]


def load_trust(policy: Path | None, log_keys: list[str] | None, origin: str | None) -> tuple[Policy, str]:
    """Return the policy to judge by, and what messages call it; log keys go before a policy file.

    Raises ConfigError.
    """
    if not log_keys:
        if origin is not None:
            raise ConfigError("--origin goes with --log-key: a policy names its logs by their keys")
        if policy is None:
            raise ConfigError(
                "nothing says whose keys to judge by: give --policy FILE (or TLOG_POLICY), or --log-key VKEY"
            )
        return load_policy(policy), str(policy)
    try:
        verifiers = [build_policy([vkey]).logs[0].verifier for vkey in log_keys]
    except MalformedError as error:
        raise ConfigError(f"--log-key cannot be used: {error}") from error
    return build_log_policy(verifiers, verifiers[0].name if origin is None else origin), "--log-key"


def say_verdict(file: Path, judged_by: str, verdict: Verdict) -> None:
    """Say whom evidence convicts, and of what."""
    say_facts(
        {
            "convicted": shown(verdict.origin) if verdict.convicts_log else None,
            "finding": verdict.finding,
            "log": shown(verdict.origin),
            "kind": verdict.kind,
            "tree sizes": ", ".join(map(str, verdict.tree_sizes)),
            "evidence": str(file),
            "policy": judged_by,
        }
    )
    for key in verdict.convicted:
        say(f"convicted {key.role} key: {shown(key.name)} (key ID {_key_id(key)})")
    say("Checked: signatures of all checkpoints by these keys, proofs, and that they contradict the rules.")


def verdict_document(file: Path, judged_by: str, verdict: Verdict) -> Json:
    """Return a verdict as JSON."""
    return {
        "evidence": str(file),
        "policy": judged_by,
        "convicts": bool(verdict.convicted),
        "unproven": verdict.unproven,
        "kind": verdict.kind,
        "origin": verdict.origin,
        "tree_sizes": verdict.tree_sizes,
        "finding": verdict.finding,
        "convicted": [
            {"role": key.role, "name": key.name, "key_id": _key_id(key), "vkey": key.vkey}
            for key in verdict.convicted
        ],
    }


def _key_id(key: ConvictedKey) -> str:
    return key.vkey.split("+")[1]
