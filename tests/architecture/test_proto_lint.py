"""The contract's schema keeps the rules that buf's STANDARD and COMMENTS categories have; so do the rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.proto_lint import compile_protos, lint
from _support.source_tree import ROOT

GOOD = """\
syntax = "proto3";
package pond.v1;
// Keeps fish.
service PondService {
  // Feeds one fish.
  rpc Feed(FeedRequest) returns (FeedResponse);
}
// What Feed takes.
message FeedRequest {
  // How hungry, if known.
  optional Hunger hunger = 1;
  // What it eats.
  oneof food {
    // Flakes, in grams.
    uint32 flakes_g = 2;
    // Worms, counted.
    uint32 worms = 3;
  }
  // How often, by name.
  map<string, uint32> times = 4;
}
// What Feed answers.
message FeedResponse {}
// How hungry a fish is.
enum Hunger {
  // Not said.
  HUNGER_UNSPECIFIED = 0;
  // Very.
  HUNGER_VERY = 1;
}
"""


def lint_text(folder: Path, text: str, path: str = "pond/v1/pond.proto") -> list[str]:
    """Lint one schema that nobody committed."""
    file = folder / "protos" / path
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    (descriptor,) = compile_protos(folder / "protos", folder / "descriptors")
    return lint(descriptor)


def test_the_contract_keeps_every_rule(tmp_path: Path) -> None:
    files = compile_protos(ROOT / "proto", tmp_path / "descriptors")
    assert "tlog/v1/log.proto" in [file.name for file in files]
    faults = [fault for file in files for fault in lint(file)]
    assert not faults, "\n" + "\n".join(faults)


def test_a_schema_that_keeps_every_rule_passes(tmp_path: Path) -> None:
    assert lint_text(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("package pond.v1;", "package pond.x1;", "does not end in a version"),
        ("package pond.v1;", "package lake.v1;", "does not match the folder"),
        ("service PondService", "service Pond", "ends in Service"),
        ("rpc Feed(", "rpc feed(", "a method's name is PascalCase"),
        ("rpc Feed(", "rpc Nourish(", "is the rule"),
        ("returns (FeedResponse)", "returns (FeedRequest)", "shares .pond.v1.FeedRequest"),
        ("FeedRe", "Feed_Re", "a message's name is PascalCase"),
        ("flakes_g", "flakesG", "a field's name is lower_snake_case"),
        ("oneof food", "oneof Food", "a oneof's name is lower_snake_case"),
        ("HUNGER_UNSPECIFIED", "HUNGER_NONE", "ends in _UNSPECIFIED"),
        ("HUNGER_VERY", "VERY", "begins with HUNGER_"),
        ("HUNGER_VERY", "HUNGER_very", "UPPER_SNAKE_CASE"),
        ("// Keeps fish.\n", "", "PondService: has no comment"),
        ("// Feeds one fish.\n", "", "PondService.Feed: has no comment"),
        ("// What Feed takes.\n", "", "FeedRequest: has no comment"),
        ("// How hungry, if known.\n", "", "FeedRequest.hunger: has no comment"),
        ("// What it eats.\n", "", "FeedRequest.food: has no comment"),
        (
            "    // Worms, counted.\n    uint32 worms = 3;",
            "uint32 worms = 3;  // Worms.",
            "worms: has no comment",
        ),
        ("// How often, by name.\n", "", "FeedRequest.times: has no comment"),
        ("// How hungry a fish is.\n", "", "Hunger: has no comment"),
        ("// Very.\n", "", "Hunger.HUNGER_VERY: has no comment"),
        ('syntax = "proto3";', 'syntax = "proto2";', "not proto3"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in GOOD
    assert any(fault in found for found in lint_text(tmp_path, GOOD.replace(old, new)))


def test_a_file_name_in_capitals_is_found(tmp_path: Path) -> None:
    assert lint_text(tmp_path, GOOD, "pond/v1/Pond.proto") == [
        "pond/v1/Pond.proto: the file name is not lower_snake_case"
    ]
