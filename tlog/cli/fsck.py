"""`tlog fsck`: check everything that is stored of a log, say what is wrong and where, and repair it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tlog.cli.options import JsonOption, load_policy
from tlog.cli.progress import Progress, progress
from tlog.cli.report import Json, plural, remark, say, say_document, say_error, say_facts
from tlog.cli.tile_options import (
    DEFAULT_TIMEOUT_S,
    LogKeyOption,
    OriginOption,
    PolicyOption,
    TimeoutOption,
    Trust,
    open_source,
    open_trust,
    store_directory,
)
from tlog.cli.tls_options import TlsCaOption, TlsCertificateOption, TlsKeyOption, client_tls
from tlog.encoding import parse_hex
from tlog.errors import ConfigError, CorruptionError
from tlog.exit_codes import ExitCode

if TYPE_CHECKING:
    from tlog.checkpoint import Checkpoint
    from tlog.fsck.findings import Report
    from tlog.fsck.store_repair import Repair
    from tlog.tiles import Tile
    from tlog.tls import ClientTls

MAX_SHOWN = 50
"""How many findings are shown; --json has more."""

_ADDRESS = re.compile(r"[^/\\]+:[0-9]{1,5}")


def fsck(
    *,
    place: Annotated[
        str,
        typer.Argument(
            metavar="DIR|URL|HOST:PORT",
            help="A log's own directory (also beside its server), a folder of tiles, the URL of a tiled log, "
            "or a live log's gRPC address.",
        ),
    ],
    repair_from: Annotated[
        str | None,
        typer.Option(
            "--repair-from",
            metavar="URL|DIR",
            help="Mirror to take right entries from. Nothing is written without --write.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="With --repair-from: write what was verified.")
    ] = False,
    log_key: LogKeyOption = None,
    origin: OriginOption = None,
    policy: PolicyOption = None,
    genesis: Annotated[
        str | None,
        typer.Option(
            "--genesis", envvar="TLOG_GENESIS", help="Leaf hash of entry 0 (hex); for a live log only."
        ),
    ] = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """Rebuild a log from its entries, and hold everything stored against that and the signed checkpoint.

    Ends with 0 when all of it is right, 1 when something is wrong, 3 when it could not be read.
    """
    options = _Options(
        place=place,
        repair_from=repair_from,
        write=write,
        log_key=log_key,
        origin=origin,
        policy=policy,
        genesis=genesis,
        timeout_s=timeout_s,
        tls=client_tls(tls_ca, tls_cert, tls_key),
        as_json=as_json,
    )
    try:
        return options.run()
    except CorruptionError as error:
        # So damaged that nothing of it can be read: damaged all the same, and no trouble with the disk.
        say_error(error, as_json=as_json)
        return ExitCode.VERIFICATION_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """Holds what the command was told, and chooses what to do."""

    place: str
    repair_from: str | None
    write: bool
    log_key: str | None
    origin: str | None
    policy: Path | None
    genesis: str | None
    timeout_s: float
    tls: ClientTls | None
    as_json: bool

    def run(self) -> ExitCode:
        """Check, and repair if that was asked for."""
        place = self.place
        if self.write and self.repair_from is None:
            raise ConfigError("--write goes with --repair-from")
        is_remote = "://" in place or (not Path(place).exists() and bool(_ADDRESS.fullmatch(place)))
        if is_remote and self.repair_from is not None:
            raise ConfigError("only what is in a directory here can be repaired: name the log's directory")
        if is_remote and "://" not in place:
            return _tell(self._check_server(), as_json=self.as_json)
        trust = open_trust(place, log_key=self.log_key, origin=self.origin, policy=self.policy)
        store = None if is_remote else store_directory(place)
        if store is None:
            return self._tiles(trust)
        if self.repair_from is not None:
            return self._repair_store(store, trust, self.repair_from)
        from tlog.fsck.store_check import check_store

        with _bar("checked", as_json=self.as_json) as bar:
            report = check_store(store, trust.logs, progress=bar.advance, on_size=bar.expect).report
        return _tell(report, as_json=self.as_json)

    def _check_server(self) -> Report:
        from tlog.client.trusted_log import TrustedLog
        from tlog.fsck.server_check import check_server
        from tlog.monitor.grpc_source import GrpcSource

        if self.log_key is not None:
            raise ConfigError("a live log is checked under a policy: give --policy")
        if self.policy is None:
            raise ConfigError("nothing says which log key to believe: give --policy FILE (or TLOG_POLICY)")
        trusted = TrustedLog.for_origin(load_policy(self.policy), self.origin)
        pinned = None if self.genesis is None else parse_hex(self.genesis, "--genesis", length=32)
        source = GrpcSource(self.place, timeout_s=self.timeout_s, tls=self.tls)
        try:
            with _bar("checked", as_json=self.as_json) as bar:
                return check_server(
                    source, trusted, genesis_leaf_hash=pinned, progress=bar.advance, on_size=bar.expect
                )
        finally:
            source.close()

    def _tiles(self, trust: Trust) -> ExitCode:
        from tlog.fsck.tiles_check import check_tiles

        wrong: list[Tile] = []
        with open_source(self.place, trust, timeout_s=self.timeout_s, tls=self.tls) as source:
            checkpoint = trust.open(source.checkpoint())

            def check() -> Report:
                wrong.clear()
                with progress("checked", checkpoint.tree_size, quiet=self.as_json) as bar:
                    return check_tiles(
                        source,
                        checkpoint,
                        newer=lambda: trust.open(source.checkpoint()),
                        progress=bar.advance,
                        on_wrong=wrong.append,
                    )

            report = check()
            if self.repair_from is None or report.is_sound:
                return _tell(report, as_json=self.as_json)
            paths = [tile.path for tile in wrong]
            self._repair_tiles(trust, checkpoint, self.repair_from, wrong)
            after = check() if self.write else None
        if self.as_json:
            say_document(
                {
                    "written": after is not None,
                    "files": paths,
                    "before": cast("Json", report.document()),
                    "after": None if after is None else cast("Json", after.document()),
                }
            )
        else:
            _say_report(report)
            say()
            say(f"{'put again' if self.write else 'to be put again'}: {plural(len(paths), 'file')}")
            for path in paths[:MAX_SHOWN]:
                say(f"  {path}")
            _say_next(after)
        return _exit_code(after or report)

    def _repair_tiles(
        self, trust: Trust, checkpoint: Checkpoint, repair_from: str, wrong: list[Tile]
    ) -> None:
        from tlog.fsck.tiles_repair import repair_tiles

        label = "repaired" if self.write else "verified"
        with (
            open_source(repair_from, trust, timeout_s=self.timeout_s, tls=self.tls) as mirror,
            progress(label, len(wrong), quiet=self.as_json) as bar,
        ):
            repair_tiles(
                Path(self.place),
                checkpoint,
                mirror,
                lambda: trust.open(mirror.checkpoint()),
                wrong,
                write=self.write,
                progress=bar.advance,
            )

    def _repair_store(self, store: Path, trust: Trust, repair_from: str) -> ExitCode:
        from tlog.fsck.store_repair import MirrorPlace, repair_store

        mirror_store = None if "://" in repair_from else store_directory(repair_from)
        if mirror_store is not None and mirror_store.resolve() == store.resolve():
            raise ConfigError("a log is not repaired from itself: name a mirror")
        with open_source(repair_from, trust, timeout_s=self.timeout_s, tls=self.tls) as mirror:
            repair = repair_store(
                store,
                trust.logs,
                MirrorPlace(source=mirror, open_checkpoint=trust.open),
                write=self.write,
                show=lambda label, total: progress(label, total, quiet=self.as_json),
            )
        if self.as_json:
            say_document(cast("Json", repair.document()))
        else:
            _say_repair(repair)
        return _exit_code(repair.after or repair.before)


class _SizedLater:
    """Shows progress as soon as it is known how much there is."""

    def __init__(self, label: str, *, as_json: bool) -> None:
        self._label = label
        self._as_json = as_json
        self._showing: AbstractContextManager[Progress] | None = None
        self._bar: Progress | None = None

    def expect(self, total: int) -> None:
        """Begin to show progress of so many pieces."""
        self._showing = progress(self._label, total, quiet=self._as_json)
        self._bar = self._showing.__enter__()

    def advance(self, count: int = 1) -> None:
        """Take note of `count` more pieces that are done."""
        if self._bar is not None:
            self._bar.advance(count)

    def end(self) -> None:
        """Take the bar away."""
        if self._showing is not None:
            self._showing.__exit__(None, None, None)


@contextmanager
def _bar(label: str, *, as_json: bool) -> Iterator[_SizedLater]:
    bar = _SizedLater(label, as_json=as_json)
    try:
        yield bar
    finally:
        bar.end()


def _say_repair(repair: Repair) -> None:
    _say_report(repair.before)
    if repair.before.is_sound:
        return
    say()
    written = repair.after is not None
    if repair.is_rebuilt:
        say("the data file was written anew" if written else "the data file is to be written anew")
    else:
        for table, count in sorted(repair.rows.items()):
            say(f"{'mended' if written else 'to be mended'}: {plural(count, 'row')} of the table {table}")
    if repair.entries:
        shown = ", ".join(map(str, repair.entries[:MAX_SHOWN]))
        more = f" and {len(repair.entries) - MAX_SHOWN:,} more" if len(repair.entries) > MAX_SHOWN else ""
        say(f"{plural(len(repair.entries), 'entry', 'entries')} from the mirror, verified: {shown}{more}")
    _say_next(repair.after)


def _say_next(after: Report | None) -> None:
    if after is None:
        say("nothing was written: every byte of this was verified, repeat it with --write")
    elif after.is_sound:
        say("checked again: everything is right now")
    else:
        say("checked again: this is still wrong")
        _say_findings(after)


def _tell(report: Report, *, as_json: bool) -> ExitCode:
    if as_json:
        say_document(cast("Json", report.document()))
    else:
        _say_report(report)
    return _exit_code(report)


def _say_report(report: Report) -> None:
    say_facts(
        {
            "source": report.source,
            "origin": report.origin,
            "tree size": f"{report.tree_size:,}",
            "root hash": "no signed one is left" if report.root_hash is None else report.root_hash.hex(),
            "checked": f"{plural(report.entries, 'entry', 'entries')}, {plural(report.tiles, 'tile')}, "
            f"{plural(report.governance_entries, 'governance entry', 'governance entries')}",
        }
    )
    for sentence in report.unchecked:
        remark(f"not checked: {sentence}")
    if report.is_sound:
        say("sound: everything that was checked is what the log signed")
        return
    say(f"WRONG: {plural(report.total, 'finding')}")
    _say_findings(report)


def _say_findings(report: Report) -> None:
    for finding in report.findings[:MAX_SHOWN]:
        say(f"  {finding.sentence()}")
    if report.total > MAX_SHOWN:
        counts = ", ".join(f"{count:,} of {part.value}" for part, count in sorted(report.counts.items()))
        say(f"  and {report.total - MAX_SHOWN:,} more: {counts}")


def _exit_code(report: Report) -> ExitCode:
    return ExitCode.OK if report.is_sound else ExitCode.VERIFICATION_FAILED
