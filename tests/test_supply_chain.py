"""What a running tlog consists of is known: pinned versions, licences, and a bill of materials of them."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version

import pytest
from _support.source_tree import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.sbom import LICENCES, PACKAGE, build_sbom, check_sbom, licence_of, needed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {canonicalize_name(found.name): found for found, _ in needed()}


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        name, _, pinned = line.partition("==")
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), f"{line!r} is no exact pin"
        found[canonicalize_name(name)] = Version(pinned)
    assert len(found) == len(lines), "constraints.txt has a name twice"
    return found


def test_everything_that_runs_is_pinned_and_runs_at_its_pin() -> None:
    names = NEEDED.keys() - {PACKAGE}
    assert len(names) > len(PROJECT["dependencies"])
    assert {name: Version(version(name)) for name in names} == {name: pins()[name] for name in names}


def test_every_pin_keeps_what_the_project_asks_for() -> None:
    extras = PROJECT["optional-dependencies"]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras["otel"], *extras["dev"]]):
        assert pins()[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


@pytest.mark.parametrize("name", NEEDED)
def test_every_licence_is_known_and_one_that_may_be_used(name: str) -> None:
    expression = licence_of(NEEDED[name])
    assert expression is not None, f"{name} says no licence: look it up, and teach it to deploy/sbom.py"
    assert set(re.split(r" (?:AND|OR) ", expression)) <= LICENCES


def test_the_bill_of_materials_names_every_package_and_what_it_needs() -> None:
    data = build_sbom()
    check_sbom(data)
    bill = json.loads(data)
    assert {component["purl"] for component in bill["components"]} == {
        f"pkg:pypi/{name}@{version(name)}" for name in NEEDED.keys() - {PACKAGE}
    }
    assert all(component["licenses"] for component in bill["components"])
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    direct = {reference.partition("==")[0] for reference in needs[f"{PACKAGE}=={version(PACKAGE)}"]}
    assert direct == {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}


def test_one_environment_has_one_bill_of_materials() -> None:
    assert build_sbom() == build_sbom()


def test_a_document_against_the_schema_is_told() -> None:
    bill = json.loads(build_sbom())
    bill["components"][0]["type"] = "sandwich"
    with pytest.raises(ValueError, match=r"no CycloneDX 1\.6"):
        check_sbom(json.dumps(bill).encode())
