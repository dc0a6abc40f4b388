"""What deploy/ holds fits the program: metrics, configurations, unit and container."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from _support.alliance import Alliance
from _support.command_line import tlog
from _support.log_directory import make_log_directory, serving
from _support.promql import metric_names

from server.config import load_config
from tlog.client import LogClient
from tlog.policy import build_policy
from tlog.witness.config import parse_witness_config

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
ALERTS = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
RULES = dict(re.findall(r"^      - (?:alert|record): (\S+)\n        expr: (.+)$", ALERTS, flags=re.M))
DASHBOARD = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
QUERIES = [
    (f"{panel['title']}: {target['legendFormat']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """Return the names of all samples that a running server shows, or will when there is something."""
    alliance = Alliance()
    directory = make_log_directory(tmp_path_factory.mktemp("log"), alliance)
    with serving(directory) as server:
        policy = build_policy([alliance.signer.vkey])
        with LogClient(server.grpc_address, policy, checkpoint_file=None) as client:
            client.append(alliance.entries(0, 10))
        with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
            page = response.read().decode()
    names = set(re.findall(r"^(tlog_\w+)", page, flags=re.M))
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", page, flags=re.M):
        names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return names


@pytest.mark.parametrize(("name", "query"), [*RULES.items(), *QUERIES])
def test_every_metric_that_rules_and_dashboard_name_exists_in_a_running_server(
    shown: set[str], name: str, query: str
) -> None:
    named = metric_names(query)
    assert named
    assert named <= shown | set(RULES), name


def test_every_rule_is_read_and_every_alert_says_what_it_means() -> None:
    assert len(RULES) == len(re.findall(r"^      - ", ALERTS, flags=re.M)) >= 12
    assert ALERTS.count("- alert:") == ALERTS.count("annotations: {summary:")
    assert ALERTS.count("- alert:") == len(re.findall(r"labels: \{severity: (?:page|ticket)\}", ALERTS))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(DEPLOY / "alerts.yaml")], check=True)


def test_the_dashboard_is_what_its_program_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DEPLOY / "dashboard.json").read_text(encoding="utf-8") == module.text()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up == 0", {"up"}),
        ('sum by (code) (rate(a_total{code=~"X|Y"}[5m])) / b', {"a_total", "b"}),
        ("a - b > 0 and c:d > 300", {"a", "b", "c:d"}),
        ("1 - (sum(rate(a[5m])) or vector(0))", {"a"}),
    ],
)
def test_the_names_in_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


@pytest.mark.parametrize("expression", ["sum(a", "a)", "rat(a[5m])", "[5m]", 'a{b="c}', "a # b", "rate(a{)}"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"is|closes|belongs"):
        metric_names(expression)


@pytest.mark.parametrize("name", ["laptop", "one-server", "witnessed"])
def test_the_example_configurations_are_taken_by_the_server(name: str) -> None:
    config = load_config(DEPLOY / "config" / f"{name}.toml")
    assert config.store.min_free_bytes > 0
    assert config.store.high_water_mark_path, "an old copy of the store would look like the newest"
    is_reachable = config.grpc.listen_address != "127.0.0.1"
    assert is_reachable == bool(config.tls.certificate_path or config.tls.allow_plaintext_on_network)


def test_the_example_witness_is_taken() -> None:
    parse_witness_config((DEPLOY / "config" / "witness.toml").read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    names = ("tlog.service", "tlog-backup.service", "tlog-backup.timer")
    for name in names:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/tlog/.venv/bin/tlog", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [name for name in names if name in done.stderr]


def test_the_backup_that_the_timer_starts_is_a_command_that_is_taken(tmp_path: Path) -> None:
    unit = (DEPLOY / "tlog-backup.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=\S+/tlog (.+)$", unit, flags=re.M)
    ended = tlog(*command.replace("/var/", f"{tmp_path}/").split())
    # Taken, and then there is no log: a word of it that the command does not know would be told first.
    assert (ended.code, "there is no store in it" in ended.err) == (2, True), ended


def test_unit_and_containers_have_limits_outside_the_process_too() -> None:
    unit = (DEPLOY / "tlog.service").read_text(encoding="utf-8")
    for line in (
        "MemoryMax=75%",
        "MemorySwapMax=0",
        "TasksMax=512",
        "OOMPolicy=continue",
        "Restart=on-failure",
    ):
        assert f"\n{line}\n" in unit
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    hardened = compose[: compose.index("\nservices:")]
    for line in ("mem_limit: 2g", "memswap_limit: 2g", "pids_limit: 512", "restart: on-failure"):
        assert f"\n  {line}\n" in hardened


def test_unit_and_containers_run_without_root_and_write_nowhere_else() -> None:
    units = [(DEPLOY / name).read_text(encoding="utf-8") for name in ("tlog.service", "tlog-backup.service")]
    for line in ("User=tlog", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n"):
        assert all(f"\n{line}" in unit for unit in units)
    container = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.+)$", container, flags=re.M) == ["10001"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", container, flags=re.M)
    for name in " ".join(copied).split():
        assert (REPOSITORY / name).exists(), name
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert compose.count("<<: *hardened") == 4
    for line in ("read_only: true", "cap_drop: [ALL]", 'user: "10001:10001"'):
        assert line in compose
    assert all(port.startswith("127.0.0.1:") for port in re.findall(r'"(\S+:865\d)"', compose))
