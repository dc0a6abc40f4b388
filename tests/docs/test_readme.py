"""The README's commands and programs, run as they stand there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of code in a language, in order."""
    return [str(found) for found in re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(home: Path, port: int) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TLOG_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "TLOG_SERVER": f"127.0.0.1:{port}",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Run the README's shell block in an empty folder, on ports of its own, then its Python block."""
    folder = tmp_path_factory.mktemp("tour")
    port, witness_port = free_port(), free_port()
    tour_commands, witness_commands = blocks("sh")
    (program,) = blocks("python")
    init, rest = tour_commands.split("\n", 1)
    witness_init, witness_rest = witness_commands.split("\n", 1)
    assert init.startswith("tlog init my-log")
    assert witness_init.startswith("tlog witness init w1")
    (folder / "program.py").write_text(program.replace("127.0.0.1:8650", f"127.0.0.1:{port}"))
    # The only change: ports that nobody else has.
    ports = f"s/^# port = 8650/port = {port}/; s/^# port = 865[12]/port = 0/"
    script = "\n".join(
        [
            "set -euo pipefail",
            # Jobs, as in a terminal: %1 is the log, %2 the witness, %3 the log again.
            "set -m",
            "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT",
            init,
            f"sed -i '{ports}' my-log/tlog.toml",
            rest,
            f"{sys.executable} program.py",
            witness_init,
            f"sed -i 's/^# port = 8653/port = {witness_port}/' w1/witness.toml",
            witness_rest.replace("127.0.0.1:8653", f"127.0.0.1:{witness_port}"),
        ]
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(folder, port),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, port, done.stdout


def test_the_tour_from_nothing_to_a_verified_receipt_is_under_forty_lines_and_works(
    tour: tuple[Path, int, str],
) -> None:
    folder, _, output = tour
    section = README.split("## From nothing to a verified receipt")[1].split("##")[0]
    assert section.count("\n") < 40
    assert len(list((folder / "receipts").glob("*.tlog-proof"))) == 1
    assert "verified" in output


def test_the_python_program_leaves_a_receipt_and_a_trusted_checkpoint(
    tour: tuple[Path, int, str],
) -> None:
    folder, _, _ = tour
    assert (folder / "INV-2.tlog-proof").read_text().startswith("c2sp.org/tlog-proof@v1\n")
    assert b"log.example.org/alliance" in (folder / "trusted-checkpoint").read_bytes()


def test_the_witnessed_receipt_meets_the_quorum_and_the_one_before_does_not(
    tour: tuple[Path, int, str],
) -> None:
    folder, port, output = tour
    assert "w1" in output.rsplit("witnesses", 1)[1].split("\n")[0]
    (entry,) = (folder / "receipts").glob("*.entry")
    verify = ["tlog", "verify", str(entry), "--policy", "witnessed.policy"]
    done = subprocess.run(
        verify, cwd=folder, env=environment(folder, port), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cosignatures" in done.stderr


def test_a_receipt_of_the_tour_with_one_flipped_bit_fails(tour: tuple[Path, int, str]) -> None:
    folder, port, _ = tour
    (entry,) = (folder / "receipts").glob("*.entry")
    spoilt = bytearray(entry.read_bytes())
    spoilt[-1] ^= 1
    (folder / "spoilt.entry").write_bytes(spoilt)
    receipt = entry.with_suffix(".tlog-proof")
    verify = ["tlog", "verify", "spoilt.entry", "--receipt", str(receipt), "--policy", "my-log/policy"]
    done = subprocess.run(
        verify, cwd=folder, env=environment(folder, port), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "spoilt.entry" in done.stderr


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
)
def test_every_relative_link_leads_somewhere(path: str | Path) -> None:
    file = REPOSITORY / path
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", file.read_text(encoding="utf-8")):
        assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_every_test_that_the_threat_model_names_exists() -> None:
    text = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 5
    for name in named:
        assert (REPOSITORY / name).exists(), name


def test_operations_names_every_setting_and_every_metric() -> None:
    from msgspec.structs import fields

    from server.config import Config
    from server.metrics import Metrics

    text = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    for section in fields(Config):
        assert f"`[{section.name}]`" in text
        for setting in fields(section.type):
            assert f"| `{setting.name}` | " in text
    documented = set(re.findall(r"`(tlog_[a-z_]+)", text))
    for family in Metrics().registry.collect():
        assert {family.name, f"{family.name}_total"} & documented, family.name


def test_the_demo_works_on_a_small_share_of_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "examples.demo", "--folder", str(folder), "--events", "400"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "receipts verified offline" in done.stdout
    assert "is a prefix of" in done.stdout
    receipts = list((folder / "receipts").rglob("*.tlog-proof"))
    assert len(receipts) == len(list((folder / "receipts").rglob("*.entry"))) >= 380
    policy = folder / "policy"
    verify = [sys.executable, "-m", "tlog", "verify", "--policy", str(policy)]
    entry = receipts[0].with_suffix(".entry")
    assert subprocess.run([*verify, str(entry)], check=False, capture_output=True).returncode == 0
    other = [*verify, str(entry), "--receipt", str(receipts[1])]
    assert subprocess.run(other, check=False, capture_output=True).returncode == 1
