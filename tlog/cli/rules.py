"""`tlog rules`: which role may issue which event types."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tlog.cli.entry_view import plain
from tlog.cli.files import read_file
from tlog.cli.governance_entry import OutOption, SignOption, next_payload, sign_and_append
from tlog.cli.options import JsonOption, LogOptions, with_log_options
from tlog.cli.passphrase import PassphraseOption
from tlog.cli.report import say_document, say_facts, say_table
from tlog.errors import ConfigError, MalformedError
from tlog.governance import CHECKS_VERSION, Rules, build_rules
from tlog.strict_json import parse_json
from tlog.trade.catalogue import rules_roles

MAX_RULES_BYTES = 65_535
"""A rules event has to fit into one entry."""

rules = typer.Typer(help="Which role may issue which event types.", no_args_is_help=True)


class _RulesFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    roles: dict[str, tuple[str, ...]]
    signature_counts: dict[str, int] = {}
    checks_version: int = CHECKS_VERSION


@rules.command()
@with_log_options
def show(*, log: LogOptions, as_json: JsonOption = False) -> None:
    """Show the rules in force, proven from the log; with --json in the form that `set` takes."""
    with log.connect() as client:
        held = client.registry().rules
    if as_json:
        say_document(
            {
                "checks_version": held.checks_version,
                "roles": {role: list(types) for role, types in held.roles.items()},
                "signature_counts": dict(held.signature_counts),
            }
        )
        return
    say_table(
        ("role", "may issue"), ((role, "\n".join(map(plain, types))) for role, types in held.roles.items())
    )
    counts = ", ".join(f"{plain(event_type)}: {count}" for event_type, count in held.signature_counts.items())
    say_facts({"signatures": counts or "one on every type", "checks version": held.checks_version})


@rules.command("set")
@with_log_options
def set_rules(
    *,
    log: LogOptions,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="JSON with `roles` and `signature_counts`.", show_default=False
        ),
    ] = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="Set the built-in rules of the trade catalogue.")
    ] = False,
    sign: SignOption = None,
    passphrase_fd: PassphraseOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the whole table of rules; appends at once when --sign meets the threshold."""
    if (file is None) != catalogue:
        raise ConfigError("say which rules to set: a FILE, or --catalogue")
    wanted = catalogue_rules() if file is None else load_rules(file)
    with log.connect() as client:
        registry = client.registry()
        payload = next_payload(
            client, registry, partial(build_rules, rules=wanted), refused="these rules cannot be set"
        )
        sign_and_append(
            client,
            registry,
            payload,
            sign=sign,
            passphrase_fd=passphrase_fd,
            out=out,
            what="the rules",
            as_json=as_json,
        )


def catalogue_rules() -> Rules:
    """Return the built-in rules: every type of the trade catalogue, one signature each."""
    return Rules(roles={role: tuple(types) for role, types in rules_roles().items()}, signature_counts={})


def load_rules(path: Path) -> Rules:
    """Read rules from a JSON file. Raises ConfigError."""
    try:
        # Not by msgspec alone: of two equal names it would keep the last one, without a word.
        value = parse_json(read_file(path, "the rules", max_bytes=MAX_RULES_BYTES), "the text")
        data = msgspec.convert(value, type=_RulesFile)
    except (MalformedError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} does not hold rules: {error}; `tlog rules show --json` shows the form"
        ) from error
    return Rules(roles=data.roles, signature_counts=data.signature_counts, checks_version=data.checks_version)
