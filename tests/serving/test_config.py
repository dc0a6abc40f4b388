"""The configuration file: taken whole, or refused whole with the place named."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config import load_config, parse_config
from tlog.errors import ConfigError

MINIMAL = '[log]\nstore_path = "store"\nkey_path = "log.key"\n'


def test_two_lines_are_enough_and_everything_listens_on_loopback() -> None:
    config = parse_config(MINIMAL)
    listening = (config.grpc, config.metrics, config.tiles)
    assert {section.listen_address for section in listening} == {"127.0.0.1"}
    assert len({section.port for section in listening}) == len(listening)
    assert config.limits.max_commit_entries >= 1_000


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tlog.toml"
    file.write_text(MINIMAL)
    config = load_config(file)
    assert config.log.store_path == str(tmp_path / "store")
    assert config.log.key_path == str(tmp_path / "log.key")


def test_absolute_paths_stay(tmp_path: Path) -> None:
    file = tmp_path / "tlog.toml"
    file.write_text('[log]\nstore_path = "/srv/store"\nkey_path = "/etc/log.key"\n')
    assert load_config(file).log.store_path == "/srv/store"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "log"),
        ("[log]\nstore_path = 'x'\n", "key_path"),
        (MINIMAL + "colour = 'red'\n", "colour"),
        (MINIMAL + "[grcp]\nport = 1\n", "grcp"),
        (MINIMAL + "[grpc]\nport = 65536\n", "$.grpc.port"),
        (MINIMAL + "[grpc]\nport = -1\n", "$.grpc.port"),
        (MINIMAL + "[grpc]\nport = '8650'\n", "$.grpc.port"),
        (MINIMAL + "[grpc]\nport = 8650.5\n", "$.grpc.port"),
        (MINIMAL + "[grpc]\nreflection = 1\n", "$.grpc.reflection"),
        (MINIMAL + "[grpc]\nstop_timeout_s = 0\n", "$.grpc.stop_timeout_s"),
        (MINIMAL + "[grpc]\nstop_timeout_s = nan\n", "$.grpc.stop_timeout_s"),
        (MINIMAL + "[grpc]\nlisten_address = ''\n", "$.grpc.listen_address"),
        (MINIMAL + "[tiles]\nport = 65536\n", "$.tiles.port"),
        (MINIMAL + "[tiles]\nenabled = 'yes'\n", "$.tiles.enabled"),
        (MINIMAL + "[limits]\nmax_queued_entries = 0\n", "$.limits.max_queued_entries"),
        (MINIMAL + "[limits]\nmax_commit_entries = 999\n", "$.limits.max_commit_entries"),
        (MINIMAL + "[store]\nmap_size_bytes = 4096\n", "$.store.map_size_bytes"),
        (MINIMAL + "[grpc\n", "TOML"),
        (MINIMAL + "[grpc]\nport = 1\nport = 2\n", "TOML"),
    ],
)
def test_anything_unknown_or_out_of_range_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match="configuration") as caught:
        parse_config(text)
    assert place in str(caught.value)


def test_a_missing_file_and_a_binary_file_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(binary)
