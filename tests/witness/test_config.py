"""A witness's configuration: taken whole or refused whole; logs are only ever added."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from _support.signers import cosigner, seed, signer
from hypothesis import given
from hypothesis import strategies as st

from tlog.cosignature import MlDsaCosignatureSigner
from tlog.errors import ConfigError
from tlog.ml_dsa import MlDsaPrivateKey
from tlog.witness.config import (
    LogTable,
    append_log,
    format_log_table,
    load_witness_config,
    parse_witness_config,
    witnessed_logs,
)

BASE = '[witness]\nstore_path = "store"\nkey_paths = ["witness.key"]\n'
VKEY = signer("log.example").vkey
OTHER_VKEY = signer("log.example", 2).vkey
LOG = LogTable(origin="log.example", vkeys=(VKEY,))


def test_the_shortest_configuration_has_the_defaults() -> None:
    config = parse_witness_config(BASE)
    assert config.http.listen_address == "127.0.0.1"
    assert config.http.port == 8653
    assert config.witness.evidence_path == "evidence"
    assert config.log == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[witness]",
        "not toml",
        BASE + "unknown = 1\n",
        BASE + "[http]\nport = 65536\n",
        BASE + "[http]\nport = '1'\n",
        BASE + "[http]\nread_timeout_s = 0\n",
        BASE + "[http]\nmax_connections = 0\n",
        BASE + "[https]\n",
        BASE.replace('["witness.key"]', "[]"),
        BASE.replace('["witness.key"]', '"witness.key"'),
        BASE.replace('"store"', '""'),
        BASE + "[log]\n",
        BASE + '[[log]]\norigin = "log.example"\n',
        BASE + '[[log]]\norigin = "log.example"\nvkeys = []\n',
        BASE + '[[log]]\norigin = "log.example"\nvkeys = ["no key"]\n',
        BASE + format_log_table(LogTable(origin="", vkeys=(VKEY,))),
        BASE + format_log_table(LogTable(origin="two\\nlines", vkeys=(VKEY,))).replace("\\\\", "\\"),
        BASE + format_log_table(LogTable(origin="x" * 256, vkeys=(VKEY,))),
        BASE + format_log_table(LogTable(origin="é" * 128, vkeys=(VKEY,))),
        BASE + format_log_table(LOG) + format_log_table(LOG),
        BASE + format_log_table(LogTable(origin="log.example", vkeys=(VKEY, VKEY))),
        BASE + format_log_table(LOG) + "forget = true\n",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_witness_config(text)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "witness.toml").write_text(BASE)
    config = load_witness_config(tmp_path / "witness.toml")
    assert config.witness.store_path == str(tmp_path / "store")
    assert config.witness.key_paths == (str(tmp_path / "witness.key"),)
    assert config.witness.evidence_path == str(tmp_path / "evidence")


def test_keys_of_tables_with_one_origin_are_put_together() -> None:
    config = parse_witness_config(
        BASE + format_log_table(LOG) + format_log_table(LogTable(origin="log.example", vkeys=(OTHER_VKEY,)))
    )
    (log,) = witnessed_logs(config.log)
    assert [verifier.vkey for verifier in log.verifiers] == [VKEY, OTHER_VKEY]


def test_logs_may_sign_with_every_kind_of_key_that_a_policy_takes() -> None:
    ml_dsa = MlDsaCosignatureSigner(name="log.example", private_key=MlDsaPrivateKey(seed(7)))
    vkeys = (VKEY, cosigner("log.example").vkey, ml_dsa.vkey)
    (log,) = witnessed_logs([LogTable(origin="any origin at all", vkeys=vkeys)])
    assert tuple(verifier.vkey for verifier in log.verifiers) == vkeys


@given(st.text(min_size=1, max_size=60))
def test_any_origin_that_a_checkpoint_can_have_is_written_and_read_back(origin: str) -> None:
    table = LogTable(origin=origin, vkeys=(VKEY,))
    try:
        witnessed_logs([table])
    except ConfigError:
        assert any(character < " " for character in origin)
        return
    assert parse_witness_config(BASE + format_log_table(table)).log == (table,)


def test_a_log_is_added_once_and_its_further_keys_too(tmp_path: Path) -> None:
    path = tmp_path / "witness.toml"
    path.write_text(BASE.rstrip("\n"))
    path.chmod(0o640)
    both = LogTable(origin="log.example", vkeys=(VKEY, OTHER_VKEY))
    assert append_log(path, LOG)
    assert not append_log(path, LOG)
    assert append_log(path, both)
    assert not append_log(path, both)
    (log,) = witnessed_logs(load_witness_config(path).log)
    assert [verifier.vkey for verifier in log.verifiers] == [VKEY, OTHER_VKEY]
    assert path.read_text().startswith(BASE)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == ["witness.toml"]


@pytest.mark.parametrize(
    "log",
    [
        LogTable(origin="two\nlines", vkeys=(VKEY,)),
        LogTable(origin="log.example", vkeys=("no key",)),
        LogTable(origin="x" * 256, vkeys=(VKEY,)),
    ],
)
def test_a_log_that_cannot_be_cosigned_is_not_added(tmp_path: Path, log: LogTable) -> None:
    path = tmp_path / "witness.toml"
    path.write_text(BASE)
    with pytest.raises(ConfigError):
        append_log(path, log)
    assert path.read_text() == BASE


def test_many_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "witness.toml"
    path.write_text(BASE)
    logs = [LogTable(origin=f"log.example/{n}", vkeys=(VKEY,)) for n in range(30)]
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda log: append_log(path, log), logs))
    assert {table.origin for table in load_witness_config(path).log} == {log.origin for log in logs}


def test_a_file_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "witness.toml"
    path.write_text(BASE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space"):
        append_log(path, LOG)
    assert path.read_text() == BASE
    assert [file.name for file in tmp_path.iterdir()] == ["witness.toml"]


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    for use in (load_witness_config, lambda path: append_log(path, LOG)):
        with pytest.raises(ConfigError, match="nowhere"):
            use(tmp_path / "nowhere" / "witness.toml")
