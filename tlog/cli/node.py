"""`tlog node`: make a member's node, run it, ask how it stands."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.new_directory import new_directory, write_durably
from tlog.cli.options import JsonOption, RequiredPolicyOption, load_policy
from tlog.cli.report import Json, plural, say, say_document, say_facts
from tlog.errors import ConfigError
from tlog.exit_codes import ExitCode

if TYPE_CHECKING:
    from tlog.node.standing import LogStanding

CONFIG_NAME = "node.toml"
POLICY_NAME = "policy"

CONFIG_TEXT = """\
# What `tlog node serve` runs with. Paths are relative to this file. Every line that is commented out shows
# the default; a name that is unknown, or a value out of range, is refused. docs/gossip.md explains them all.

[node]
# policy_path = "policy"
# state_path = "state"

[gossip]
# Open to anybody who reaches it, or whom [tls] lets in: what comes in is judged by signatures, and limited.
{listen_address}
{port}
peers = [{peers}]
# membership_port = 0
# own_address = ""
# round_s = 10.0
# fan_out = 3
# timeout_s = 10.0
# patience_s = 600.0
# stale_s = 600.0
# calls_per_s = 20.0
# burst_calls = 100
# max_concurrent_calls = 64

[tls]
# What gossip is served with; without it plaintext, on loopback only.
# certificate_path = ""
# key_path = ""
# client_ca_path = ""
# allow_plaintext_on_network = false

[client_tls]
# How logs and other nodes are called, all of them: with ca_path by TLS, without it in plaintext.
# ca_path = ""
# certificate_path = ""
# key_path = ""

[alerts]
# log = true
# jsonl_path = "alerts.jsonl"
# command = ["/usr/local/bin/page-somebody"]
# command_timeout_s = 30.0
# webhook_url = "https://alerts.example/tlog"
# webhook_timeout_s = 10.0

[monitor]
# config_path = ""

[witness]
# config_path = ""
"""

LOG_TEXT = """
[[log]]
origin = {origin}
{server}
{tiles}
"""

node = typer.Typer(
    no_args_is_help=True, help="Run a member's node: it compares with others what the logs showed each."
)

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory made by `tlog node init`.")]


@node.command("init")
def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory.")],
    policy: RequiredPolicyOption,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", envvar="TLOG_SERVER", help="host:port of the log, where the policy has one."
        ),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option("--tiles", help="URL prefix or directory of its tiles: cheaper than its entries."),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="HOST:PORT", help="Another member's node; once for each."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="Address to listen on; without it 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Port to listen on; without it 8655.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node: its configuration, and a copy of the policy that says which logs it follows."""
    from tlog.node.config import parse_config
    from tlog.policy import format_policy

    trusted = load_policy(policy)
    origins = list(dict.fromkeys(log.origin for log in trusted.logs))
    if not origins:
        raise ConfigError(f"{policy} lists no log: there is nothing to gossip about")
    if len(origins) > 1 and (server or tiles):
        raise ConfigError(
            f"{policy} lists {len(origins)} logs: leave --server and --tiles out, and write each log's into "
            f"its [[log]] table in {CONFIG_NAME}"
        )
    if tiles is not None and "://" not in tiles:
        tiles = str(Path(tiles).absolute())
    text = CONFIG_TEXT.format(
        listen_address=_setting("listen_address", listen, "127.0.0.1"),
        port=_setting("port", port, 8655),
        peers=", ".join(map(json.dumps, peers or ())),
    )
    for origin in origins:
        text += LOG_TEXT.format(
            origin=_quoted(origin), server=_setting("server", server, ""), tiles=_setting("tiles", tiles, "")
        )
    parse_config(text)
    with new_directory(directory) as building:
        write_durably(building / CONFIG_NAME, text.encode())
        write_durably(building / POLICY_NAME, format_policy(trusted))
    facts: dict[str, Json] = {
        "directory": str(directory),
        "config": str(directory / CONFIG_NAME),
        "logs": origins,
        "peers": list(peers or ()),
    }
    if as_json:
        say_document(facts)
        return
    say_facts(
        {
            "config": str(directory / CONFIG_NAME),
            "logs": ", ".join(origins),
            "peers": ", ".join(peers or ()) or "none yet: add them, or set membership_port",
        }
    )
    say()
    say(f"Next: tlog node serve {directory}")


@node.command("serve")
def serve(
    *,
    directory: DirectoryArgument,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every round of gossip.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a node until Ctrl-C or SIGTERM; SIGHUP makes its witness, if it runs one, read its logs anew."""
    # Imported here: grpc takes longer to load than most commands run.
    from tlog.node.config import load_config
    from tlog.node.process import Facts
    from tlog.node.process import serve as serve_node

    def announce(facts: Facts) -> None:
        if as_json:
            say(json.dumps({"event": "serving", **facts}))
            return
        logs, peers = facts["logs"], facts["peers"]
        assert isinstance(logs, list)
        assert isinstance(peers, list)
        say_facts({"gossips at": str(facts["gossip"]), "logs": ", ".join(logs), "peers": len(peers)})
        say("Stop with Ctrl-C.")

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tlog.node").setLevel(logging.DEBUG if verbose else logging.INFO)
    # httpx would tell of every tile.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve_node(load_config(directory / CONFIG_NAME), announce))


@node.command("status")
def status(*, directory: DirectoryArgument, as_json: JsonOption = False) -> ExitCode:
    """Say what a node holds of each log, and whether anything speaks against it; it may be running.

    Ends with 1 while a log or a witness is convicted, two checkpoints of a log are not proven consistent, or
    a log keeps showing less than it has signed.
    """
    from tlog.node.config import load_config
    from tlog.node.standing import read_standing

    standing = read_standing(load_config(directory / CONFIG_NAME))
    if as_json:
        say_document(
            {
                "logs": [_document(log) for log in standing.logs],
                "evidence": [str(path) for path in standing.evidence_paths],
                "is_well": standing.is_well,
            }
        )
    else:
        for log in standing.logs:
            say_facts(_facts(log))
        for path in standing.evidence_paths:
            say(f"evidence: {path}")
        if standing.evidence_paths:
            say("anyone checks it: tlog evidence verify FILE --policy POLICY")
    return ExitCode.OK if standing.is_well else ExitCode.VERIFICATION_FAILED


def _document(log: LogStanding) -> Json:
    return {
        "origin": log.origin,
        "tree_size": None if log.newest is None else log.newest.tree_size,
        "root_hash": None if log.newest is None else log.newest.root_hash.hex(),
        "kept_tree_size": log.kept_size,
        "unproven": [
            {"tree_size": held.tree_size, "root_hash": held.root_hash.hex()} for held in log.unproven
        ],
        "is_convicted": log.is_refused,
        "stale_since_s": log.stale_since_s,
        "is_trusted": log.is_trusted,
    }


def _facts(log: LogStanding) -> dict[str, str | int | None]:
    if log.is_refused:
        verdict = "CONVICTED: nothing of it is believed any more"
    elif log.unproven:
        verdict = (
            f"CONSISTENCY UNPROVEN for {plural(len(log.unproven), 'checkpoint')} of size "
            f"{', '.join(str(held.tree_size) for held in log.unproven)}: trust neither view"
        )
    elif log.stale_since_s is not None:
        since = datetime.fromtimestamp(log.stale_since_s, UTC)
        verdict = (
            f"STALE VIEW: since {since:%Y-%m-%d %H:%M:%S} UTC it shows less here than it has signed; "
            "conclude nothing from what is missing"
        )
    else:
        verdict = "nothing speaks against it"
    return {
        "log": log.origin,
        "newest size": None if log.newest is None else log.newest.tree_size,
        "root hash": None if log.newest is None else log.newest.root_hash.hex(),
        "kept tree": log.kept_size,
        "verdict": verdict,
    }


def _setting(name: str, value: str | int | None, default: str | int) -> str:
    shown = default if value is None else value
    text = f"{name} = {_quoted(shown) if isinstance(shown, str) else shown}"
    return f"# {text}" if value is None else text


def _quoted(text: str) -> str:
    # TOML's basic strings are JSON's, but for DEL, and for escapes that only make sense in pairs.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
