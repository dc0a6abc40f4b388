"""`tlog monitor`: make a monitor, run it, ask how it stands, serve what it mirrors."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.new_directory import new_directory
from tlog.cli.options import DEFAULT_SERVER, JsonOption, RequiredPolicyOption, load_policy
from tlog.cli.progress import progress
from tlog.cli.report import Json, remark, say, say_document, say_facts, say_table
from tlog.exit_codes import ExitCode

if TYPE_CHECKING:
    from tlog.monitor.alert_desk import AlertDesk
    from tlog.monitor.config import Config
    from tlog.monitor.monitor import Pass

CONFIG_NAME = "monitor.toml"
POLICY_NAME = "policy"
STATE_NAME = "state"
DEFAULT_MIRROR_PORT = 8654
FLUSH_S = 20.0
"""How long a run that ends waits for alerts to be delivered."""

CONFIG_TEXT = """\
# What `tlog monitor run` runs with. Paths are relative to this file. Every line that is commented out shows
# the default; a name that is unknown, or a value out of range, is refused. docs/monitor.md explains them all.

[log]
policy_path = "policy"
{origin}
{genesis}
{place}
# timeout_s = 15.0

[monitor]
state_path = "state"
mirror = {mirror}
# poll_s = 5.0
# threads = 0

[limits]
# silence_s = 900.0
# lag_s = 600.0
# witness_s = 3600.0
# source_s = 60.0

[alerts]
# log = true
# jsonl_path = "alerts.jsonl"
# command = ["/usr/local/bin/page-somebody"]
# command_timeout_s = 30.0
# webhook_url = "https://alerts.example/tlog"
# webhook_timeout_s = 10.0
# convictions_path = "state/convictions"

[client_tls]
# How the log is called: the authorities that its certificate has to come from, and what it is shown.
# ca_path = ""
# certificate_path = ""
# key_path = ""

[tls]
# What `tlog monitor serve` listens with.
# certificate_path = ""
# key_path = ""
# client_ca_path = ""
# allow_plaintext_on_network = false

[watch]
# business_keys = ["invoice:INV-2025-0778"]

# [[watch.own_sources]]
# source = "https://bank.example"
# keys = ["<64 hex digits: a public key that you sign with>"]
# leaf_hashes_path = "own-entries"
"""

monitor = typer.Typer(help="Follow a log, check everything in it, and raise alerts.", no_args_is_help=True)

DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory that `tlog monitor init` made.")
]


@monitor.command()
def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory.")],
    policy: RequiredPolicyOption,
    server: Annotated[
        str | None, typer.Option("--server", envvar="TLOG_SERVER", help="host:port of the log (gRPC).")
    ] = None,
    tiles: Annotated[
        str | None, typer.Option("--tiles", help="URL prefix or directory of the log's tiles instead.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--origin", envvar="TLOG_ORIGIN", help="Where the policy names several logs."),
    ] = None,
    genesis: Annotated[
        str | None,
        typer.Option(
            "--genesis", envvar="TLOG_GENESIS", help="Leaf hash of entry 0 (hex): hold the log to it."
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Keep every entry, to serve the log when it is gone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a monitor: its configuration, a copy of the policy, and a state that has checked nothing."""
    from tlog.monitor.assembly import create_state
    from tlog.monitor.config import load_config
    from tlog.policy import format_policy

    trusted = load_policy(policy)
    if tiles is not None and "://" not in tiles:
        tiles = str(Path(tiles).absolute())
    place = ("server", server or DEFAULT_SERVER) if tiles is None else ("tiles", tiles)
    text = CONFIG_TEXT.format(
        origin='# origin = "log.example.org/alliance"' if origin is None else _setting("origin", origin),
        genesis='# genesis = "<leaf hash of entry 0, hex>"'
        if genesis is None
        else _setting("genesis", genesis),
        place=_setting(*place),
        mirror="true" if mirror else "false",
    )
    with new_directory(directory) as building:
        (building / CONFIG_NAME).write_text(text, encoding="utf-8")
        (building / POLICY_NAME).write_bytes(format_policy(trusted))
        create_state(load_config(building / CONFIG_NAME))
    facts: dict[str, str | int | None] = {
        "directory": str(directory),
        "config": str(directory / CONFIG_NAME),
        "reads": tiles or server or DEFAULT_SERVER,
        "genesis": genesis or "NOT pinned: set `genesis`, or the first one seen is believed",
        "mirror": "every entry is kept" if mirror else "hashes only",
    }
    if as_json:
        say_document(facts)
        return
    say_facts(facts)
    say()
    say(f"Next: tlog monitor run {directory}")


@monitor.command()
def run(
    *,
    directory: DirectoryArgument,
    once: Annotated[bool, typer.Option("--once", help="Catch up, then end.")] = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Check a log up to its newest checkpoint, then follow it.

    Alerts go where the configuration says. With --once it ends with 1 while a critical alert is on record,
    with 3 when the log could not be read.
    """
    from time import time

    from tlog.monitor.assembly import open_monitor

    config = _load(directory)
    stop = threading.Event()
    with ExitStack() as stack:
        _stop_on_signals(stop, stack)
        opened = stack.enter_context(open_monitor(config, clock=time, write=remark))
        show = lambda total: progress("checking", total, quiet=as_json)  # noqa: E731
        if once:
            ended = opened.monitor.run_pass(show, stop)
            opened.desk.flush(FLUSH_S)
            _say_end(ended, opened.desk, as_json=as_json)
            return _exit_code(ended, opened.desk)
        if not as_json:
            remark(
                f"following {opened.cursor.origin}, from entry {opened.cursor.position} on; Ctrl-C ends it"
            )
        opened.monitor.follow(stop, show, _Told(opened.desk, as_json=as_json))
        opened.desk.flush(FLUSH_S)
    return ExitCode.OK


@monitor.command()
def status(*, directory: DirectoryArgument, as_json: JsonOption = False) -> ExitCode:
    """Say how far a monitor is, what is wrong now, and which alerts it raised; it may be running.

    Ends with 1 while a critical alert is on record.
    """
    from tlog.monitor.standing import read_standing

    standing = read_standing(_load(directory))
    if as_json:
        say_document(standing.document())
    else:
        say_facts(standing.facts())
        rows = [
            [str(alert["severity"]), str(alert["kind"]), str(alert["message"]), str(alert["evidence"] or "")]
            for alert in standing.newest_alerts
        ]
        if rows:
            say_table(["severity", "kind", "message", "evidence"], rows)
    return ExitCode.VERIFICATION_FAILED if standing.critical else ExitCode.OK


@monitor.command()
def serve(
    *,
    directory: DirectoryArgument,
    listen_address: Annotated[str, typer.Option("--listen", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="0 lets the system choose.")
    ] = DEFAULT_MIRROR_PORT,
    as_json: JsonOption = False,
) -> None:
    """Serve the mirror as C2SP tlog-tiles over HTTP, whether or not the monitor runs, or the log is there."""
    import asyncio

    from tlog.monitor.assembly import load_policy as load_monitor_policy
    from tlog.monitor.mirror_http import open_mirror, serve_mirror
    from tlog.tls import ServerTls

    config = _load(directory)
    _, origin = load_monitor_policy(config)
    config.tls.require_safe(listen_address, "the mirror")
    tls = ServerTls(config.tls) if config.tls.is_on else None

    def started(chosen: int) -> None:
        url = f"{'http' if tls is None else 'https'}://{listen_address}:{chosen}"
        say(json.dumps({"event": "serving", "tiles": url}) if as_json else f"serving {origin} at {url}")

    async def serve_until_stopped() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve_mirror(
            mirror,
            listen_address,
            port,
            stop=stop,
            started=started,
            tls=None if tls is None else tls.http_context(asks_clients=True),
        )

    with open_mirror(Path(config.monitor.state_path), origin) as mirror:
        asyncio.run(serve_until_stopped())


class _Told:
    """Tells of passes that brought something new: a line each."""

    def __init__(self, desk: AlertDesk, *, as_json: bool) -> None:
        self._desk = desk
        self._as_json = as_json
        self._last: tuple[int, str | None] | None = None

    def __call__(self, ended: Pass) -> None:
        news = (ended.position, ended.problem)
        if news == self._last:
            return
        self._last = news
        if self._as_json:
            say(json.dumps(_document(ended, self._desk), separators=(",", ":")))
        else:
            remark(_sentence(ended))


def _setting(name: str, value: str) -> str:
    # TOML's basic strings are spelled as JSON's are, but for characters above U+FFFF, which need no escape.
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _load(directory: Path) -> Config:
    from tlog.monitor.config import load_config

    return load_config(directory / CONFIG_NAME)


def _say_end(ended: Pass, desk: AlertDesk, *, as_json: bool) -> None:
    if as_json:
        say_document(_document(ended, desk))
        return
    say(_sentence(ended))
    for name, problem in desk.problems.items():
        remark(f"alerts do not reach the sink {name}: {problem}")
    if desk.book.critical:
        say(f"{desk.book.critical} critical alerts on record: `tlog monitor status` shows them")


def _sentence(ended: Pass) -> str:
    if ended.problem is None:
        return f"{ended.position:,} entries checked ({ended.checked:,} of them now), of {ended.seen_size:,}"
    return f"{ended.position:,} entries checked, of {ended.seen_size:,}; stopped there: {ended.problem}"


def _document(ended: Pass, desk: AlertDesk) -> dict[str, Json]:
    return {
        "position": ended.position,
        "checked": ended.checked,
        "seen_size": ended.seen_size,
        "problem": ended.problem,
        "alerts": dict(desk.book.counts),
        "critical_alerts": desk.book.critical,
        "failing_sinks": dict(desk.problems),
    }


def _exit_code(ended: Pass, desk: AlertDesk) -> ExitCode:
    if desk.book.critical:
        return ExitCode.VERIFICATION_FAILED
    return ExitCode.IO_OR_REMOTE if ended.problem is not None else ExitCode.OK


def _stop_on_signals(stop: threading.Event, stack: ExitStack) -> None:
    """Let Ctrl-C and SIGTERM end the run at the next checked run of entries, with everything durable."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.signal(number, lambda *_: stop.set())
        stack.callback(signal.signal, number, before)
