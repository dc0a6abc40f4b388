"""`tlog node init` and `status`: what is made can be run as it is, and what is wrong is told before."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from _support.command_line import REPOSITORY, tlog
from _support.two_histories import ORIGIN, TwoHistories

from tlog.cli import node as node_module
from tlog.errors import ConfigError
from tlog.gossip.message import OfferedCheckpoint
from tlog.gossip.pool import Pool
from tlog.gossip.state import NoTrees
from tlog.gossip.state_directory import StateDirectory
from tlog.monitor.config import SinksSection
from tlog.node.config import (
    Config,
    GossipSection,
    LogTable,
    NodeSection,
    RoleSection,
    load_config,
    parse_config,
)
from tlog.policy import build_policy, format_policy
from tlog.tls_config import ClientTlsSection, TlsSection

LOG = TwoHistories(12)
LOG.fork("other", 5, 12)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy"
    path.write_bytes(format_policy(LOG.policy))
    return path


def test_what_init_makes_is_taken_as_it_is(tmp_path: Path, policy: Path) -> None:
    ended = tlog(
        "node", "init", tmp_path / "node", "--policy", policy, "--server", "127.0.0.1:8650",
        "--peer", "bank.example:8655", "--peer", "[::1]:8655", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.json["logs"] == [ORIGIN]
    config = load_config(tmp_path / "node" / "node.toml")
    assert config.gossip.peers == ["bank.example:8655", "[::1]:8655"]
    assert [(log.origin, log.server) for log in config.log] == [(ORIGIN, "127.0.0.1:8650")]
    assert config.node.state_path == str(tmp_path / "node" / "state")
    assert Path(config.node.policy_path).read_bytes() == policy.read_bytes()


def test_every_line_that_is_commented_out_shows_the_default() -> None:
    text = node_module.CONFIG_TEXT.format(
        listen_address='# listen_address = "127.0.0.1"', port="# port = 8655", peers=""
    )
    uncommented = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    config = parse_config(uncommented)
    # Where alerts go has no default but the log output: the file shows examples.
    examples = msgspec.structs.replace(config.alerts, jsonl_path=None, command=None, webhook_url=None)
    assert msgspec.structs.replace(config, alerts=examples) == Config()
    shown = set(re.findall(r"^([a-z_]+) = ", uncommented, flags=re.MULTILINE))
    sections = (config.node, config.gossip, config.tls, config.client_tls, config.alerts, config.monitor)
    assert shown == {name for section in sections for name in section.__struct_fields__}


def test_the_documentation_lists_every_name() -> None:
    text = (REPOSITORY / "docs" / "gossip.md").read_text()
    sections = (
        *(NodeSection, GossipSection, TlsSection, ClientTlsSection),
        *(LogTable, SinksSection, RoleSection),
    )
    names = {name for section in sections for name in section.__struct_fields__}
    assert names <= set(re.findall(r"`([a-z_]+)`", text))


@pytest.mark.parametrize(
    "text",
    [
        "[gossip]\nunknown = 1",
        "[gossip]\npeers = ['no port']",
        "[gossip]\npeers = ['host:99999999']",
        "[gossip]\nfan_out = 0",
        "[gossip]\nround_s = 0",
        "[[log]]\nserver = 'a:1'",
        "[[log]]\norigin = 'a'\n[[log]]\norigin = 'a'",
        "[node]\nstate_path = ''",
        "[gossip",
        "[gossip]\nport = " + "9" * 5_000,
    ],
)
def test_a_configuration_that_is_wrong_is_refused_whole(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


def test_several_logs_need_their_places_in_the_file(tmp_path: Path) -> None:
    from _support.signers import signer

    path = tmp_path / "policy"
    path.write_bytes(
        format_policy(build_policy([signer("log.example/a", 1).vkey, signer("log.example/b", 2).vkey]))
    )
    refused = tlog("node", "init", tmp_path / "node", "--policy", path, "--server", "h:1")
    assert (refused.code, (tmp_path / "node").exists()) == (2, False)
    assert "[[log]]" in refused.err
    assert tlog("node", "init", tmp_path / "node", "--policy", path).code == 0
    assert [log.origin for log in load_config(tmp_path / "node" / "node.toml").log] == [
        "log.example/a",
        "log.example/b",
    ]


def test_status_tells_people_and_programs_how_each_log_stands(tmp_path: Path, policy: Path) -> None:
    directory = tmp_path / "node"
    tlog("node", "init", directory, "--policy", policy)
    fresh = tlog("node", "status", directory, "--json")
    assert fresh.code == 0
    assert fresh.json["logs"][0]["tree_size"] is None

    state = StateDirectory(directory / "state", LOG.policy)
    pool = Pool(LOG.policy, state, NoTrees(), patience_s=0.0)
    pool.judge(LOG.offer("main", 8), 0.0)
    pool.judge(LOG.offer("other", 11), 0.0)
    unproven = tlog("node", "status", directory)
    assert unproven.code == 1
    assert "CONSISTENCY UNPROVEN" in unproven.out
    assert "11" in unproven.out

    pool.judge(OfferedCheckpoint(note=LOG.note("other", 8)), 0.0)
    convicted = tlog("node", "status", directory)
    assert convicted.code == 1
    assert "CONVICTED" in convicted.out
    (file,) = state.evidence_directory.iterdir()
    assert str(file) in convicted.out
    assert tlog("evidence", "verify", file, "--policy", policy).code == 0
