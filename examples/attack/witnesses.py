"""Witnesses as processes of their own, and logs whose server asks them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from examples.attack.cast import LOG_SIGNER
from examples.attack.processes import tlog
from tlog.client.log_client import LogClient
from tlog.errors import PolicyError
from tlog.key_file import read_cosigner_key_file
from tlog.policy import build_policy, format_policy
from tlog.storage.lmdb_witness_store import LmdbWitnessStore

NOWHERE = "http://127.0.0.1:9/"
ASKS_WITNESSES = '[witnesses]\npolicy_path = "witnesses"\ntimeout_s = 2.0\nrefresh_s = 0.5\n'
WAIT_S = 30.0


def make_witness(directory: Path) -> Path:
    """Make a witness of the log, named like its directory."""
    tlog("witness", "init", directory, "--name", directory.name, "--log", LOG_SIGNER.vkey, "--json")
    config = directory / "witness.toml"
    config.write_text(config.read_text().replace("# port = 8653", "port = 0"))
    return directory


def make_second_face(directory: Path, copy: Path) -> Path:
    """Make a witness with the same key that knows nothing of what the first one cosigned."""
    copy.mkdir()
    for name in ("witness.toml", "witness.key"):
        (copy / name).write_bytes((directory / name).read_bytes())
    (copy / "witness.key").chmod(0o600)
    LmdbWitnessStore.create(copy / "store").close()
    return copy


def witness_vkey(directory: Path) -> str:
    """Return the key that members trust a witness by."""
    return read_cosigner_key_file(directory / "witness.key").vkey


def write_witnesses(directory: Path, vkeys: Sequence[str], urls: Sequence[str], quorum: int) -> None:
    """Say to a log's server where its witnesses are, and how many have to cosign."""
    policy = build_policy([LOG_SIGNER.vkey], vkeys, quorum)
    at = dict(zip(vkeys, urls, strict=True))
    lines = [
        f"{line} {at[line.split()[2]]}" if line.startswith("witness ") else line
        for line in format_policy(policy).decode().splitlines()
    ]
    (directory / "witnesses").write_text("\n".join(lines) + "\n")


def await_published(client: LogClient, tree_size: int) -> None:
    """Wait until the log has published that much. Raises PolicyError, or RuntimeError, when it does not."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if client.checkpoint().tree_size >= tree_size:
                return
        except PolicyError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"the log did not publish size {tree_size} in {WAIT_S:g} s")
        time.sleep(0.1)
