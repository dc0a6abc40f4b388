"""The policy that a log publishes under: read from its file, with a client for every witness in it."""

from __future__ import annotations

from pathlib import Path

from tlog.cosignature import CosignerVerifier
from tlog.errors import ConfigError, MalformedError
from tlog.log import Log
from tlog.policy import Policy, parse_policy
from tlog.witness.client import WitnessClient


def read_policy(path: Path, log: Log) -> Policy:
    """Read the policy file of this log's witnesses.

    Raises ConfigError when it cannot be read or parsed, or does not name the key that this log signs with.
    """
    try:
        policy = parse_policy(path.read_bytes())
    except (OSError, MalformedError) as error:
        raise ConfigError(f"the witness policy {path} cannot be used: {error}") from error
    if log.vkey not in [known.verifier.vkey for known in policy.logs]:
        raise ConfigError(
            f"the witness policy {path} does not name this log: add the line `log {log.vkey}`, or nothing "
            "that is published could ever meet it"
        )
    return policy


def witness_clients(policy: Policy) -> list[WitnessClient]:
    """Make a client for every URL in a policy; one witness may have several keys under one URL.

    Raises ConfigError for a witness without a URL: nobody could ask it.
    """
    verifiers: dict[str, list[CosignerVerifier]] = {}
    for witness in policy.witnesses:
        name = witness.name.decode("utf-8", "backslashreplace")
        if witness.url is None:
            raise ConfigError(f"witness {name} has no URL in the witness policy: add it behind its key")
        try:
            url = witness.url.decode("ascii")
        except UnicodeDecodeError as error:
            raise ConfigError(f"the URL of witness {name} is not ASCII") from error
        verifiers.setdefault(url, []).append(witness.verifier)
    return [WitnessClient(url, keys) for url, keys in verifiers.items()]
