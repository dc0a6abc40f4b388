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
        (MINIMAL + "[server]\nworkers = 65\n", "$.server.workers"),
        (MINIMAL + "[server]\nworkers = -1\n", "$.server.workers"),
        (MINIMAL + "[tiles]\nenabled = 'yes'\n", "$.tiles.enabled"),
        (MINIMAL + "[limits]\nmax_queued_entries = 0\n", "$.limits.max_queued_entries"),
        (MINIMAL + "[limits]\nmax_commit_entries = 999\n", "$.limits.max_commit_entries"),
        (MINIMAL + "[store]\nmap_size_bytes = 4096\n", "$.store.map_size_bytes"),
        (MINIMAL + "[grpc\n", "TOML"),
        (MINIMAL + "[grpc]\nport = 1\nport = 2\n", "TOML"),
        ("x = " + "[" * 5_000, "TOML"),
        (MINIMAL + "x = " + "{a = " * 5_000, "TOML"),
        (MINIMAL + "[grpc]\nport = " + "1" * 5_000, "TOML"),
        (MINIMAL.replace('store"', 'sto\\u0000re"'), "$.log.store_path"),
        (MINIMAL.replace("log.key", "\\u0000"), "$.log.key_path"),
        (MINIMAL.replace("log.key", ""), "$.log.key_path"),
        (MINIMAL + 'cosigner_key_path = "a\\u0000"\n', "$.log.cosigner_key_path"),
        (MINIMAL + '[witnesses]\npolicy_path = "\\n\\u0000"\n', "$.witnesses.policy_path"),
    ],
)
def test_anything_unknown_or_out_of_range_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match="configuration") as caught:
        parse_config(text)
    assert place in str(caught.value)


@pytest.mark.parametrize("section", ["grpc", "metrics", "tiles"])
@pytest.mark.parametrize(
    "address",
    [
        "",
        "a..b",
        ".",
        "localhost..",
        "x" * 64,
        "a." + "x" * 70,
        ".".join(["x" * 50] * 6),
        "127.0.0.1\\u0000",
        "127.0.0.1%00",
        "::1%00",
        "::1%0",
        "%",
        "a%b",
        "::1..1",
        "::" + "1" * 62,
        "::1%" + "x" * 16,
        "local host",
        "127.0.0.1\\n",
        "::1\\n",
        "[::1]",
        "http://localhost",
        "bücher.example",
    ],
)
def test_what_is_no_address_is_refused_before_anybody_listens_there(section: str, address: str) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.{section}\.listen_address"):
        parse_config(f'{MINIMAL}[{section}]\nlisten_address = "{address}"\n')


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "localhost",
        "log-1.internal_net.example",
        "x" * 63 + ".example",
        "::",
        "::1",
        "fe80::1%eth0",
        "::1%1",
        "::ffff:127.0.0.1",
        "2001:db8:1234:5678:9abc:def0:1234:5678",
    ],
)
def test_names_and_addresses_of_both_families_are_taken(address: str) -> None:
    config = parse_config(
        f'{MINIMAL}[tls]\nallow_plaintext_on_network = true\n[grpc]\nlisten_address = "{address}"\n'
    )
    assert config.grpc.listen_address == address


def test_nodes_that_nobody_would_ask_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[gossip\] nodes .* enabled = false"):
        parse_config(f'{MINIMAL}[gossip]\nenabled = false\nnodes = ["node.example:7000"]\n')


@pytest.mark.parametrize("path", ["store/mark", "./store/../store/x/mark", "store"])
def test_a_high_water_mark_within_the_store_is_refused_for_it_would_be_put_back_with_it(
    tmp_path: Path, path: str
) -> None:
    file = tmp_path / "tlog.toml"
    file.write_text(f'{MINIMAL}[store]\nhigh_water_mark_path = "{path}"\n')
    with pytest.raises(ConfigError, match=r"high_water_mark_path .* outside"):
        load_config(file)


def test_a_missing_file_and_a_binary_file_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(binary)
