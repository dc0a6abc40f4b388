"""The options of commands that read a tiled log, and the one place where they become a source to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.options import load_policy
from tlog.errors import ConfigError, MalformedError, NotFoundError

if TYPE_CHECKING:
    from tlog.checkpoint import Checkpoint
    from tlog.policy import Policy
    from tlog.storage.lmdb_store import LmdbStore
    from tlog.tile_source.base import TileCache, TileSource
    from tlog.tile_source.trust import OpenCheckpoint
    from tlog.tile_source.verified import VerifiedTiles
    from tlog.tls import ClientTls

DEFAULT_URL = "http://127.0.0.1:8652"
DEFAULT_TIMEOUT_S = 15.0
POLICY_NAME = "policy"
STORE_NAME = "store"
DATA_FILE_NAME = "data.mdb"

_TRUST = "Whom to believe"

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="URL|DIR",
        help="URL prefix of a tiled log, a folder made by `tlog export`, or a log's own directory.",
    ),
]
LogKeyOption = Annotated[
    str | None,
    typer.Option(
        "--log-key", metavar="VKEY", help="The log's key, instead of a policy.", rich_help_panel=_TRUST
    ),
]
OriginOption = Annotated[
    str | None,
    typer.Option(
        "--origin",
        envvar="TLOG_ORIGIN",
        help="The log's origin, where it is not its key's name, or where the policy names several logs.",
        rich_help_panel=_TRUST,
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        envvar="TLOG_POLICY",
        help="C2SP policy file: log keys, and the witnesses that must have cosigned.",
        rich_help_panel=_TRUST,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3_600, help="Seconds for one attempt at one HTTP request."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Directory to keep tiles in; they are checked again at every use."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledLog:
    """Holds a source that was opened, its newest checkpoint, and how that checkpoint was believed."""

    source: TileSource
    note: bytes
    checkpoint: Checkpoint
    open_checkpoint: OpenCheckpoint

    def tiles(self, cache: TileCache | None = None) -> VerifiedTiles:
        """Return the tree under the checkpoint, every tile of it verified before use."""
        from tlog.tile_source.verified import VerifiedTiles

        return VerifiedTiles(
            self.source,
            self.checkpoint,
            cache,
            newer=lambda: self.open_checkpoint(self.source.checkpoint()),
        )


@contextmanager
def open_tiled_log(
    place: str,
    *,
    log_key: str | None,
    origin: str | None,
    policy: Path | None,
    timeout_s: float,
    tls: ClientTls | None = None,
) -> Iterator[TiledLog]:
    """Open a tiled log and verify its newest checkpoint. Raises ConfigError, and what sources raise."""
    trust = open_trust(place, log_key=log_key, origin=origin, policy=policy)
    with open_source(place, trust, timeout_s=timeout_s, tls=tls) as source:
        note = source.checkpoint()
        yield TiledLog(source=source, note=note, checkpoint=trust.open(note), open_checkpoint=trust.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Holds whose checkpoints are believed, and the logs that they may be of."""

    open: OpenCheckpoint
    logs: tuple[tuple[str, str], ...]
    """Origin and vkey of each log; at least one."""


def open_trust(place: str, *, log_key: str | None, origin: str | None, policy: Path | None) -> Trust:
    """Decide whom to believe: a log key, else a policy, else the policy in a log's own directory.

    Raises ConfigError when there is none of them.
    """
    from tlog.tile_source.trust import LogKey, LogPolicy

    if log_key is not None:
        try:
            key = LogKey.from_vkey(log_key, origin)
        except MalformedError as error:
            raise ConfigError(f"--log-key cannot be used: {error}") from error
        return Trust(open=key.open, logs=((key.origin, log_key),))
    own = Path(place) / POLICY_NAME
    if policy is None and store_directory(place) is not None and own.is_file():
        policy = own
    if policy is None:
        raise ConfigError(
            "nothing says which log key to believe: give --log-key VKEY, or --policy FILE (or TLOG_POLICY)"
        )
    loaded: Policy = load_policy(policy)
    logs = tuple((log.origin, log.verifier.vkey) for log in loaded.logs if origin in {None, log.origin})
    if not logs:
        raise ConfigError(f"{policy} lists no log{'' if origin is None else f' of origin {origin}'}")
    return Trust(open=LogPolicy(policy=loaded, origin=origin).open, logs=logs)


@contextmanager
def open_source(
    place: str, trust: Trust, *, timeout_s: float, tls: ClientTls | None = None
) -> Iterator[TileSource]:
    """Open a URL, a folder of tiles, or a log's own directory, which is read and never written."""
    if place.startswith(("http://", "https://")):
        from tlog.tile_source.http import HttpTileSource

        with HttpTileSource(place, timeout_s=timeout_s, tls=tls) as source:
            yield source
        return
    store = store_directory(place)
    if store is not None:
        with _open_store(store, place, trust) as source:
            yield source
        return
    if not Path(place).is_dir():
        raise NotFoundError(f"{place} is neither a directory nor an http:// or https:// URL")
    from tlog.tile_source.directory import DirectoryTileSource

    yield DirectoryTileSource(path=Path(place))


def store_directory(place: str) -> Path | None:
    """Return the store in a log's own directory, or None for any other place."""
    directory = Path(place)
    return next(
        (path for path in (directory / STORE_NAME, directory) if (path / DATA_FILE_NAME).is_file()), None
    )


@contextmanager
def open_store(store_path: Path, trust: Trust) -> Iterator[LmdbStore]:
    """Open a log's store for reading, also beside its server. Raises ConfigError for another log's."""
    from tlog.storage.lmdb_store import LmdbStore

    for position, (origin, vkey) in enumerate(trust.logs, start=1):
        try:
            store = LmdbStore.open(store_path, origin, vkey, read_only=True)
            break
        except ConfigError:
            # Bound to another key: perhaps to the next one of the policy.
            if position == len(trust.logs):
                raise
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _open_store(store_path: Path, place: str, trust: Trust) -> Iterator[TileSource]:
    from tlog.log_view import LogView
    from tlog.tile_source.log_view import LogTileSource

    with open_store(store_path, trust) as store:

        @contextmanager
        def view() -> Iterator[LogView]:
            with store.reader() as reader:
                yield LogView(reader)

        yield LogTileSource(name=place, open_view=view)
