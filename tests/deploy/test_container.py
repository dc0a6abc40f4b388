"""What can be said of the container file without an engine that builds it: the rules of careful ones.

docs/operations.md ("Start") says with what it was built and run by hand.
"""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from _support.command_line import tlog
from _support.source_tree import ROOT

from server.config import GrpcSection, MetricsSection

CONTAINER = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
STEPS = [
    (found[1], found[2])
    for line in CONTAINER.replace("\\\n", " ").splitlines()
    if (found := re.fullmatch(r"([A-Z]+) (.+)", line))
]


def steps(word: str) -> list[str]:
    return [text for name, text in STEPS if name == word]


def test_every_base_image_is_named_with_registry_and_release() -> None:
    images = [text.split()[0] for text in steps("FROM")]
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z.]+\.[a-z]+/[a-z/]+:\d+\.\d+(-\w+)?", image), image


def test_nothing_is_fetched_but_pinned_packages() -> None:
    assert not steps("ADD")
    (install,) = (text for text in steps("RUN") if "pip install" in text)
    assert "--no-cache-dir" in install
    assert "-c constraints.txt" in install
    for text in steps("RUN"):
        assert not re.search(r"\b(curl|wget|sudo|apt-get|chmod 777)\b", text)


def test_nothing_runs_as_root_and_no_shell_stands_between_the_signal_and_the_server() -> None:
    names = [name for name, _ in STEPS]
    assert steps("USER")[-1].isdecimal()
    assert int(steps("USER")[-1]) > 0
    assert "RUN" not in names[names.index("USER") :]
    for word in ("ENTRYPOINT", "CMD"):
        (text,) = steps(word)
        assert all(isinstance(part, str) for part in json.loads(text)), "the form without a shell"
    assert steps("STOPSIGNAL") == ["SIGTERM"]


def test_all_that_the_package_is_built_of_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {name for text in steps("COPY") if not text.startswith("--from") for name in text.split()[:-1]}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    assert copied >= needed | set(project["project"]["license-files"]) | set(wheel["packages"])


def test_compose_gives_every_service_a_command_that_there_is() -> None:
    commands = [found.split(", ") for found in re.findall(r"^    command: \[(.+)\]$", COMPOSE, flags=re.M)]
    assert len(commands) == COMPOSE.count("<<: *hardened") == 4
    for command in {tuple(found[:-1]) for found in commands}:
        assert tlog(*command, "--help").code == 0, command
    assert {found[-1] for found in commands} == set(steps("VOLUME"))


def test_compose_asks_where_liveness_is_and_waits_longer_for_a_stop_than_the_server_takes() -> None:
    assert f"http://127.0.0.1:{MetricsSection().port}/livez" in COMPOSE
    (grace_s,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert int(grace_s) > 2 * GrpcSection().stop_timeout_s


@pytest.mark.parametrize(
    "line", ["read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]']
)
def test_compose_hardens_all_of_them_alike(line: str) -> None:
    hardened = COMPOSE.split("services:")[0]
    assert line in hardened
    assert "privileged: true" not in COMPOSE
