"""The policy that a log publishes under: read from its file, with a client for every witness in it."""

from __future__ import annotations

from pathlib import Path

from tlog.cosignature import CosignerVerifier
from tlog.cosigned import is_by_the_log, quorum_witnesses
from tlog.errors import ConfigError, MalformedError
from tlog.log import Log
from tlog.note import MAX_SIGNATURES
from tlog.policy import Policy, parse_policy
from tlog.tls import ClientTls
from tlog.witness.client import WitnessClient

MAX_COSIGNERS = MAX_SIGNATURES - 10
"""The most keys of witnesses: the log's own signatures have to fit into a note beside theirs."""


def read_policy(path: Path, log: Log) -> Policy:
    """Read the policy file of this log's witnesses.

    Raises ConfigError when it cannot be read or parsed, does not name the key that this log signs with, or
    names more than MAX_COSIGNERS keys of witnesses.
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
    if len(policy.witnesses) > MAX_COSIGNERS:
        raise ConfigError(
            f"the witness policy {path} names {len(policy.witnesses)} keys of witnesses; a checkpoint has "
            f"room for {MAX_COSIGNERS}: leave some out"
        )
    return policy


def require_independent_quorum(policy: Policy, own_cosigner: bytes | None) -> None:
    """Require that the quorum counts no key of the log's own; `own_cosigner` is its cosigner's public key.

    Raises ConfigError: a log would else be its own witness.
    """
    counted = quorum_witnesses(policy)
    for witness in policy.witnesses:
        is_own = is_by_the_log(witness, policy) or witness.verifier.public_key == own_cosigner
        if is_own and witness.name in counted:
            name = witness.name.decode("utf-8", "backslashreplace")
            raise ConfigError(
                f"the quorum of the witness policy counts {name}, which is the log's own cosigner: leave it "
                "out of the group, no log is a witness of its own"
            )


def witness_clients(policy: Policy, tls: ClientTls | None = None) -> list[WitnessClient]:
    """Make a client for every URL in a policy; one witness may have several keys under one URL.

    `tls` says how they are called. The log's own cosigner is not asked: the log cosigns by itself.
    Raises ConfigError for any other witness without a URL: nobody could ask it.
    """
    verifiers: dict[str, list[CosignerVerifier]] = {}
    for witness in policy.witnesses:
        if is_by_the_log(witness, policy):
            continue
        name = witness.name.decode("utf-8", "backslashreplace")
        if witness.url is None:
            raise ConfigError(f"witness {name} has no URL in the witness policy: add it behind its key")
        try:
            url = witness.url.decode("ascii").rstrip("/")
        except UnicodeDecodeError as error:
            raise ConfigError(f"the URL of witness {name} is not ASCII") from error
        verifiers.setdefault(url, []).append(witness.verifier)
    return [WitnessClient(url, keys, tls=tls) for url, keys in verifiers.items()]
