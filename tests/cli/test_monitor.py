"""`tlog monitor`: its configuration, strictly; its answers and exit codes where nothing is served."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
from _support.alliance import Alliance
from _support.command_line import Ended, tlog

from tlog.cli.monitor import CONFIG_TEXT
from tlog.errors import ConfigError
from tlog.monitor.config import Config, OwnSourceSection, load_config, parse_config
from tlog.policy import build_policy, format_policy

DOCS = Path(__file__).parents[2] / "docs" / "monitor.md"
LOG = '[log]\nserver = "127.0.0.1:8650"\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "trusted"
    file.write_bytes(format_policy(build_policy([Alliance().signer.vkey])))
    return file


def init(directory: Path, policy: Path, *options: object) -> Ended:
    return tlog("monitor", "init", directory, "--policy", policy, *options)


def names(section: type) -> list[str]:
    return list(section.__struct_fields__)  # type: ignore[attr-defined]


def test_a_new_monitor_says_what_comes_next_and_stands_at_nothing(tmp_path: Path, policy: Path) -> None:
    made = init(tmp_path / "m", policy, "--server", "127.0.0.1:9")
    assert made.code == 0
    assert "tlog monitor run" in made.out
    assert "NOT pinned" in made.out
    status = tlog("monitor", "status", tmp_path / "m", "--json")
    assert status.code == 0
    assert status.json["position"] == 0
    assert status.json["covered_size"] is None
    assert status.json["alerts"] == {}
    assert tlog("monitor", "status", tmp_path / "m").code == 0


def test_a_monitor_is_not_made_over_another_one(tmp_path: Path, policy: Path) -> None:
    assert init(tmp_path / "m", policy).code == 0
    again = init(tmp_path / "m", policy, "--json")
    assert again.code == 2
    assert again.error["code"] == "config"


@pytest.mark.parametrize(
    "options",
    [
        ("--genesis", "00ff"),
        ("--origin", "log.example/another"),
        ("--server", "no port"),
        ("--tiles", "\x7f://"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, policy: Path, options: tuple[str, str]
) -> None:
    assert init(tmp_path / "m", policy, *options).code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trusted"]


def test_a_directory_that_is_no_monitor_is_told(tmp_path: Path) -> None:
    for command in (("run", "--once"), ("status",), ("serve",)):
        ended = tlog("monitor", command[0], tmp_path, *command[1:], "--json")
        assert ended.code == 2
        assert "monitor.toml" in ended.error["message"]


def test_the_choice_of_what_to_keep_is_made_once(tmp_path: Path, policy: Path) -> None:
    init(tmp_path / "m", policy, "--server", "127.0.0.1:9")
    served = tlog("monitor", "serve", tmp_path / "m", "--json")
    assert served.code == 2
    assert "keeps no entries" in served.error["message"]
    file = tmp_path / "m" / "monitor.toml"
    file.write_text(file.read_text().replace("mirror = false", "mirror = true"))
    ended = tlog("monitor", "run", tmp_path / "m", "--once", "--json")
    assert ended.code == 2
    assert "without its entries" in ended.error["message"]


def test_a_state_directory_that_is_gone_is_not_begun_anew(tmp_path: Path, policy: Path) -> None:

    init(tmp_path / "m", policy, "--server", "127.0.0.1:9")
    shutil.rmtree(tmp_path / "m" / "state")
    assert tlog("monitor", "run", tmp_path / "m", "--once", "--json").code == 3


def test_the_written_configuration_says_the_defaults_and_every_name() -> None:
    text = CONFIG_TEXT.format(
        origin='# origin = "log.example/alliance"',
        genesis=f'# genesis = "{"0" * 64}"',
        place='server = "127.0.0.1:8650"',
        mirror="false",
    )
    plain = parse_config(text)
    whole = re.sub(r"(?m)^# (\[\[|[a-z_]+ = )", r"\1", text).replace(
        "<64 hex digits: a public key that you sign with>", "0" * 64
    )
    shown = parse_config(whole)
    for section in ("monitor", "limits"):
        assert getattr(shown, section) == getattr(plain, section)
    document = tomllib.loads(whole)
    for section, value in document.items():
        expected = set(names(type(getattr(plain, section)))) - {"tiles"}
        assert set(value) == expected, section


def test_the_docs_name_every_setting_and_every_alert() -> None:
    from tlog.monitor.alerts import AlertKind

    docs = DOCS.read_text(encoding="utf-8")
    sections = [type(getattr(parse_config(LOG), name)) for name in names(Config)]
    for section in (*sections, OwnSourceSection):
        for name in set(names(section)) - {"own_sources"}:
            assert f"| `{name}` |" in docs, name
    for kind in AlertKind:
        assert f"| `{kind.value}` |" in docs, kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[log]\n",
        '[log]\nserver = "a:1"\ntiles = "/x"\n',
        LOG + "unknown = 1\n",
        LOG + "[extra]\n",
        LOG + "[monitor]\npoll_s = 0\n",
        LOG + '[monitor]\nmirror = "yes"\n',
        LOG + "[monitor]\nthreads = 65\n",
        LOG + "[limits]\nlag_s = -1\n",
        LOG + "[alerts]\ncommand = []\n",
        LOG + '[alerts]\ncommand = "ls"\n',
        LOG + '[alerts]\nwebhook_url = "ftp://x"\n',
        LOG + '[[watch.own_sources]]\nsource = "x"\nkeys = ["AA"]\n',
        LOG + "[[watch.own_sources]]\nkeys = []\n",
        LOG + 'genesis = "zz"\n',
        LOG + "[log]\n",
        "[log",
    ],
)
def test_a_configuration_is_taken_whole_or_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


def test_paths_are_relative_to_the_file_and_urls_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "monitor.toml"
    file.write_text('[log]\ntiles = "copy"\n[alerts]\njsonl_path = "a"\nconvictions_path = "c"\n')
    config = load_config(file)
    assert config.log.tiles == str(tmp_path / "copy")
    assert config.alerts.jsonl_path == str(tmp_path / "a")
    assert config.alerts.convictions_path == str(tmp_path / "c")
    file.write_text('[log]\ntiles = "https://log.example/"\n')
    assert load_config(file).log.tiles == "https://log.example/"
    assert config.monitor.state_path == str(tmp_path / "state")
