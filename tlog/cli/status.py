"""`tlog status`: does the server answer, does it serve, and does what it shows check out."""

from __future__ import annotations

from typing import Annotated

import typer

from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.report import say, say_document, say_facts
from tlog.errors import ConfigError
from tlog.exit_codes import ExitCode


@with_log_options
def status(
    *,
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            help="Where the log's metrics are (http://host:8651): the operator's view, nothing is verified.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        float | None, typer.Option("--watch", min=0.2, help="With URL: again every so many seconds.")
    ] = None,
    log: LogOptions,
    as_json: JsonOption = False,
) -> ExitCode:
    """Ask a log for its health, its checkpoint and its governance, and say what was checked.

    With URL: size, rate, lag, witnesses, disk and health, as the operator's own server tells them.
    """
    if address is not None:
        from tlog.cli.operator_status import show_operator_status

        return show_operator_status(address, log, watch_s=watch, as_json=as_json)
    if watch is not None:
        raise ConfigError("--watch goes with the URL of the log's metrics: tlog status http://host:8651")
    # Imported here: grpc takes longer to load than most commands run.
    from tlog.client.health import ask_frozen, check_health

    health = check_health(log.server, log.timeout_s, log.tls())
    frozen = ask_frozen(log.server, log.timeout_s, log.tls())
    with log.connect() as client:
        before = client.trusted
        newest = client.checkpoint()
        registry = client.registry()
    checked = [
        "health, as the server says",
        f"the checkpoint's signatures against {log.policy}",
        "first contact: nothing was trusted before"
        if before is None
        else f"consistency with size {before.tree_size}",
        "the chain of governance entries from entry 0 on",
        "the pinned genesis" if log.genesis else "NOT the genesis: pin it with --genesis",
    ]
    code = ExitCode.OK if health == "SERVING" else ExitCode.IO_OR_REMOTE
    if as_json:
        say_document(
            {
                "server": log.server,
                "health": health,
                "frozen": frozen,
                "origin": newest.checkpoint.origin,
                "tree_size": newest.tree_size,
                "root_hash": newest.root_hash.hex(),
                "trusted_tree_size_before": None if before is None else before.tree_size,
                "governance": {"seq": registry.seq, "prev": registry.prev, "threshold": registry.threshold},
                "members": len(registry.members),
                "checked": checked,
            }
        )
        return code
    say_facts(
        {
            "server": log.server,
            "health": health,
            "frozen": "yes, the server says: it takes no new entry" if frozen else None,
            "origin": newest.checkpoint.origin,
            "tree size": newest.tree_size,
            "root hash": newest.root_hash.hex(),
            "members": len(registry.members),
            "governance": f"seq {registry.seq}, "
            f"{registry.threshold} of {len(registry.governance_keys)} keys must sign",
        }
    )
    for line in checked:
        say(f"checked: {line}")
    return code
