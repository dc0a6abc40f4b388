"""A log's directory with a small alliance in it, made without the command line, and a server on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _support.alliance import Alliance, key
from _support.real_server import RealServer, start_with_config

from tlog.cosignature import CosignatureSigner
from tlog.key_file import write_key_file
from tlog.log import Log
from tlog.tls import ClientTls

CONFIG = """\
[log]
store_path = "store"
key_path = "log.key"
[grpc]
port = 0
reflection = true
[metrics]
port = 0
[tiles]
port = 0
"""
COSIGNED_CONFIG = CONFIG.replace("[grpc]", 'cosigner_key_path = "cosigner.key"\n[grpc]')
"""With the log's own cosigner, as `tlog init` makes it."""


PLENTY = """
[quotas]
caller_events_per_s = 1000000
caller_burst_events = 1000000
caller_calls_per_s = 1000000
"""


def make_log_directory(directory: Path, alliance: Alliance, *, config: str = COSIGNED_CONFIG) -> Path:
    """Make what a server needs, with the alliance's governance appended; returns the configuration file."""
    directory.mkdir(exist_ok=True)
    write_key_file(directory / "log.key", alliance.signer)
    if not (directory / "cosigner.key").exists():
        own = CosignatureSigner(name=alliance.origin, private_key=key("own cosigner"))
        write_key_file(directory / "cosigner.key", own)
    with Log.create(directory / "store", alliance.signer) as log:
        log.append(alliance.governance)
    file = directory / "server.toml"
    # All tests call from one address, so that a fast machine would meet the quota of a caller. Who tests
    # quotas brings a table.
    file.write_text(config if "[quotas]" in config else config.rstrip("\n") + PLENTY)
    return file


@contextmanager
def serving(config: Path, tls: ClientTls | None = None) -> Iterator[RealServer]:
    """Run a server while the block runs, and stop it gracefully unless the block ended it."""
    server = start_with_config(config, tls=tls)
    try:
        yield server
        if server.is_running:
            assert server.stop() == 0
    finally:
        server.kill()
