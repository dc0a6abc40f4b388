"""docs/witness.md says what there is: every key with its default, every command, every status."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tlog.cli.witness import witness
from tlog.tls_config import TlsSection
from tlog.witness.config import HttpSection, LogTable, WitnessSection

PAGE = (Path(__file__).parents[2] / "docs" / "witness.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    for line in PAGE.splitlines()
    if line.startswith("|")
]


def test_every_key_of_the_configuration_is_listed_with_its_default() -> None:
    listed = {row[1].strip("`"): row[2].strip("`") for row in ROWS if len(row) == 4 and row[1] != "key"}
    listed.pop("---")
    expected = {}
    for section in (WitnessSection, HttpSection, TlsSection, LogTable):
        for field in msgspec.structs.fields(section):
            shown = f'"{field.default}"' if isinstance(field.default, str) else str(field.default)
            shown = shown.lower() if isinstance(field.default, bool) else shown
            expected[field.encode_name] = "required" if field.required else shown
    assert listed == expected


def test_every_command_is_listed() -> None:
    listed = {found[1] for row in ROWS if (found := re.match(r"`tlog witness ([a-z-]+)", row[0]))}
    assert listed == {command.name for command in witness.registered_commands}


def test_every_status_is_listed() -> None:
    listed = {status for row in ROWS for status in re.findall(r"\b[245]\d\d\b", row[0])}
    assert listed == {"200", "400", "403", "404", "405", "408", "409", "411", "413", "415", "422", "503"}
