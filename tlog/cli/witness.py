"""`tlog witness`: make a witness, run it, tell it of logs. No command makes it forget one."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tlog.cli.new_directory import new_directory, write_durably
from tlog.cli.options import JsonOption, load_policy
from tlog.cli.report import Json, plural, say, say_document, say_facts
from tlog.errors import ConfigError, MalformedError

if TYPE_CHECKING:
    from tlog.witness.config import LogTable

CONFIG_NAME = "witness.toml"
KEY_NAME = "witness.key"
ML_DSA_KEY_NAME = "witness.ml-dsa.key"
STORE_NAME = "store"

CONFIG_TEXT = """\
# What `tlog witness serve` runs with. Paths are relative to this file. Every line that is commented out shows
# the default; a name that is unknown, or a value out of range, is refused. docs/witness.md explains them all.

[witness]
store_path = "store"
key_paths = [{key_paths}]
# evidence_path = "evidence"

[http]
# listen_address = "127.0.0.1"
# port = 8653
# max_connections = 500
# read_timeout_s = 10.0
# idle_timeout_s = 30.0
# stop_timeout_s = 10.0

[tls]
# What HTTP is served with; a renewed certificate is used without a restart.
# certificate_path = ""
# key_path = ""
# client_ca_path = ""
# allow_plaintext_on_network = false

# The logs whose checkpoints are cosigned: `tlog witness add-log` adds to them, and SIGHUP makes a running
# witness read them anew. It forgets none.
"""

witness = typer.Typer(
    no_args_is_help=True, help="Run a witness: it cosigns what a log shows everybody (C2SP tlog-witness)."
)

DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory made by `tlog witness init`.")
]
LogOption = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="VKEY", help="Key of a log to cosign for. May be given several times."),
]
OriginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--origin",
        help="The log's origin, where that is not its key's name; then one for each --log, in their order.",
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="C2SP policy file: cosign for the logs in it.", envvar="TLOG_POLICY"),
]


@witness.command("init")
def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory.")],
    name: Annotated[
        str,
        typer.Option("--name", help="The witness's name for ever, such as witness.example.org/w1."),
    ],
    policy: PolicyOption = None,
    log: LogOption = None,
    origin: OriginOption = None,
    ml_dsa: Annotated[
        bool, typer.Option("--ml-dsa", help="Cosign with a second key as well: ML-DSA-44 (type 0x06).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a witness: its keys, its configuration, and an empty record."""
    # Imported here: a usage error needs no store.
    from tlog.cosignature import CosignatureSigner, CosignerSigner, MlDsaCosignatureSigner
    from tlog.key_file import write_key_file
    from tlog.storage.lmdb_witness_store import LmdbWitnessStore
    from tlog.witness.config import format_log_table, parse_witness_config

    tables = _log_tables(policy, log or [], origin or [])
    try:
        cosigners: list[CosignerSigner] = [CosignatureSigner.generate(name)]
        if ml_dsa:
            cosigners.append(MlDsaCosignatureSigner.generate(name))
    except MalformedError as error:
        raise ConfigError(f"--name cannot be used: {error}") from error
    key_names = [KEY_NAME, ML_DSA_KEY_NAME][: len(cosigners)]
    text = CONFIG_TEXT.format(key_paths=", ".join(map(json.dumps, key_names)))
    text += "".join(map(format_log_table, tables))
    parse_witness_config(text)
    with new_directory(directory) as building:
        for key_name, cosigner in zip(key_names, cosigners, strict=True):
            write_key_file(building / key_name, cosigner)
        write_durably(building / CONFIG_NAME, text.encode())
        LmdbWitnessStore.create(building / STORE_NAME).close()
    vkeys = [cosigner.vkey for cosigner in cosigners]
    if as_json:
        say_document(
            {
                "name": name,
                "vkeys": vkeys,
                "logs": [_log_document(table) for table in tables],
                "directory": str(directory),
                "config": str(directory / CONFIG_NAME),
            }
        )
        return
    say_facts(
        {
            "name": name,
            "keys": ", ".join(str(directory / key_name) for key_name in key_names) + " (secret)",
            "store": f"{directory / STORE_NAME} (never start these keys with another or an older one)",
            "logs": len(tables),
        }
    )
    say()
    say("For the policies of those who rely on it (add its public URL at the end of each line):")
    for vkey, suffix in zip(vkeys, ("", "/ml-dsa"), strict=False):
        say(f"  witness {name}{suffix} {vkey}")
    say()
    say("Next:")
    if not tables:
        say(f"  tlog witness add-log {directory} --log VKEY")
    say(f"  tlog witness serve {directory}")


@witness.command("serve")
def serve(*, directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Serve a witness over HTTP until Ctrl-C or SIGTERM; SIGHUP reads its logs anew."""
    path = _config_path(directory)
    # Imported here: the HTTP server takes longer to load than most commands run.
    from tlog.witness.app import serve as serve_witness

    def announce(facts: dict[str, str | int | list[str]]) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"event": "serving", **facts}) + "\n")
        else:
            say("tlog witness serves")
            say_facts({f"  {key}": ", ".join(v) if isinstance(v, list) else v for key, v in facts.items()})
            say("Stop with Ctrl-C.")
        sys.stdout.flush()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve_witness(path, announce))


@witness.command("add-log")
def add_log(
    *,
    directory: DirectoryArgument,
    policy: PolicyOption = None,
    log: LogOption = None,
    origin: OriginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a witness of a log, or of another key of one; a running one takes it up with SIGHUP."""
    from tlog.witness.config import append_log

    path = _config_path(directory)
    tables = _log_tables(policy, log or [], origin or [])
    if not tables:
        raise ConfigError("say which log: --log VKEY, or --policy FILE")
    added = [table for table in tables if append_log(path, table)]
    if as_json:
        say_document({"added": [_log_document(table) for table in added], "config": str(path)})
        return
    for table in added:
        say(f"added {table.origin}")
    say(f"{plural(len(added), 'log')} added, {len(tables) - len(added)} were listed already")
    if added:
        say("A running witness takes them up when it gets SIGHUP (it printed its pid), or is started again.")


@witness.command("show")
def show(*, directory: DirectoryArgument, as_json: JsonOption = False) -> None:
    """Show a witness's keys, its logs, and what it has cosigned last of each."""
    from tlog.storage.lmdb_witness_store import LmdbWitnessStore
    from tlog.witness.app import read_cosigners
    from tlog.witness.config import load_witness_config, witnessed_logs
    from tlog.witness.core import decode_record

    config = load_witness_config(_config_path(directory))
    cosigners = read_cosigners(config)
    store = LmdbWitnessStore.open(Path(config.witness.store_path), read_only=True)
    try:
        records = [
            decode_record(stored, key)
            for key in store.origin_hashes()
            if (stored := store.load(key)) is not None
        ]
    finally:
        store.close()
    latest = {record.checkpoint.origin: record for record in records}
    listed = {log.origin: [verifier.vkey for verifier in log.verifiers] for log in witnessed_logs(config.log)}
    logs = {
        origin: (listed.get(origin, []), latest.get(origin))
        for origin in sorted(listed.keys() | latest.keys())
    }
    vkeys = [cosigner.vkey for cosigner in cosigners]
    if as_json:
        say_document(
            {
                "name": cosigners[0].name,
                "vkeys": vkeys,
                "logs": [
                    {
                        "origin": origin,
                        "vkeys": log_vkeys,
                        "tree_size": None if record is None else record.checkpoint.tree_size,
                        "root_hash": None if record is None else record.checkpoint.root_hash.hex(),
                        "cosigned_at_s": None if record is None else record.timestamp_s,
                    }
                    for origin, (log_vkeys, record) in logs.items()
                ],
            }
        )
        return
    say_facts({"name": cosigners[0].name, **_numbered("vkey", vkeys)})
    for origin, (log_vkeys, record) in logs.items():
        cosigned = "nothing yet"
        if record is not None:
            at = datetime.fromtimestamp(record.timestamp_s, UTC).isoformat()
            root_hash = record.checkpoint.root_hash.hex()
            cosigned = f"size {record.checkpoint.tree_size}, root {root_hash}, at {at}"
        say()
        say_facts(
            {
                "log": origin,
                **_numbered("  vkey", log_vkeys),
                "  cosigned": cosigned,
                "  state": None if log_vkeys else "not listed any more: not cosigned, and not forgotten",
            }
        )


def _numbered(name: str, values: list[str]) -> dict[str, str | int | None]:
    return {f"{name} {number}": value for number, value in enumerate(values, start=1)}


def _config_path(directory: Path) -> Path:
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise ConfigError(f"there is no {path}: make a witness with `tlog witness init DIR --name …`")
    return path


def _log_tables(policy: Path | None, vkeys: list[str], origins: list[str]) -> list[LogTable]:
    """Put together which logs are meant. Raises ConfigError."""
    from tlog.policy import build_policy
    from tlog.witness.config import LogTable

    if origins and len(origins) != len(vkeys):
        raise ConfigError(
            f"there are {len(vkeys)} --log and {len(origins)} --origin: give one --origin for each --log, in "
            "the same order, or none"
        )
    listed = [] if policy is None else [(log.origin, log.verifier.vkey) for log in load_policy(policy).logs]
    for position, vkey in enumerate(vkeys):
        try:
            log = build_policy([vkey]).logs[0]
        except MalformedError as error:
            raise ConfigError(f"--log cannot be used: {error}") from error
        listed.append((origins[position] if origins else log.origin, vkey))
    by_origin: dict[str, list[str]] = {}
    for origin, vkey in dict.fromkeys(listed):
        by_origin.setdefault(origin, []).append(vkey)
    return [LogTable(origin=origin, vkeys=tuple(keys)) for origin, keys in by_origin.items()]


def _log_document(table: LogTable) -> dict[str, Json]:
    return {"origin": table.origin, "vkeys": list(table.vkeys)}
