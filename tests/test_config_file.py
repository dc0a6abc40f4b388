"""Every configuration names the key that is wrong, whatever is written there; none ends in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import load_config as load_server_config
from server.config import parse_config as parse_server_config
from tlog.config_file import HostPort, Section, TilesPlace, Url, decode_config
from tlog.errors import ConfigError
from tlog.monitor.config import load_config as load_monitor_config
from tlog.monitor.config import parse_config as parse_monitor_config
from tlog.node.config import load_config as load_node_config
from tlog.node.config import parse_config as parse_node_config
from tlog.witness.config import load_witness_config, parse_witness_config

Parse = Callable[[str], object]
PARSERS: dict[str, Parse] = {
    "server": parse_server_config,
    "node": parse_node_config,
    "monitor": parse_monitor_config,
    "witness": parse_witness_config,
}
LOADERS: dict[str, Callable[[Path], object]] = {
    "server": load_server_config,
    "node": load_node_config,
    "monitor": load_monitor_config,
    "witness": load_witness_config,
}
# The tables that a configuration must have, with what must be in them.
NEEDED: dict[str, dict[str, dict[str, str]]] = {
    "server": {"log": {"store_path": "'s'", "key_path": "'k'"}},
    "node": {},
    "monitor": {"log": {"server": "'a:1'"}},
    "witness": {"witness": {"store_path": "'s'", "key_paths": "['k']"}},
}
ADDRESSES = [
    ("server", "grpc", "listen_address"),
    ("server", "metrics", "listen_address"),
    ("server", "tiles", "listen_address"),
    ("node", "gossip", "listen_address"),
    ("witness", "http", "listen_address"),
]
PATHS = [
    ("server", "log", "store_path"),
    ("server", "log", "key_path"),
    ("server", "log", "cosigner_key_path"),
    ("server", "witnesses", "policy_path"),
    ("server", "gossip", "state_path"),
    ("node", "node", "policy_path"),
    ("node", "node", "state_path"),
    ("node", "alerts", "jsonl_path"),
    ("node", "monitor", "config_path"),
    ("node", "witness", "config_path"),
    ("monitor", "log", "policy_path"),
    ("monitor", "monitor", "state_path"),
    ("monitor", "alerts", "jsonl_path"),
    ("monitor", "alerts", "convictions_path"),
    ("witness", "witness", "store_path"),
    ("witness", "witness", "evidence_path"),
]
CALLED = [("node", "gossip", "own_address"), ("monitor", "log", "server")]
POSTED = [("node", "alerts", "webhook_url"), ("monitor", "alerts", "webhook_url")]


def configuration(name: str, table: str = "", key: str = "", value: str = "") -> str:
    """A configuration with what it must have, and one key set in one of its tables."""
    tables = {title: dict(keys) for title, keys in NEEDED[name].items()}
    if table:
        tables.setdefault(table, {})[key] = value
    return "".join(
        f"[{title}]\n" + "".join(f"{one} = {text}\n" for one, text in keys.items())
        for title, keys in tables.items()
    )


@pytest.mark.parametrize("name", PARSERS)
def test_what_a_configuration_must_have_is_enough(name: str) -> None:
    PARSERS[name](configuration(name))


@pytest.mark.parametrize(("name", "table", "key"), ADDRESSES)
@pytest.mark.parametrize(
    "value",
    ["", "a\\u0000", "a..b", "local host", "[::1]", "::1%0", "bücher.example", "http://a", "a:1", "x" * 64],
)  # fmt: skip
def test_what_nothing_can_listen_on_is_refused_by_its_key(
    name: str, table: str, key: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.{table}\.{key}"):
        PARSERS[name](configuration(name, table, key, f'"{value}"'))


@pytest.mark.parametrize(("name", "table", "key"), PATHS)
@pytest.mark.parametrize(
    "value", ['"a\\u0000b"', '"\\u0000"', f'"{"x" * 4_097}"', "1", "['a']", "1979-05-27"]
)
def test_what_is_no_path_is_refused_by_its_key(name: str, table: str, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.{table}\.{key}"):
        PARSERS[name](configuration(name, table, key, value))


@pytest.mark.parametrize(("name", "table", "key"), CALLED)
@pytest.mark.parametrize(
    "value",
    ["a", ":1", "a:", "a:0", "a:65536", "a:01", "a:99999999", "a..b:1", "::1:1", "[::1:1", "[::1]",
     "a\\u0000:1", "a:1\\n", " a:1", "http://a:1", "bücher.example:1", "x" * 64 + ":1", "a." * 150 + "a:1",
     "a:１"],
)  # fmt: skip
def test_what_nobody_can_call_is_refused_by_its_key(name: str, table: str, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.{table}\.{key}"):
        PARSERS[name](configuration(name, table, key, f'"{value}"'))


@pytest.mark.parametrize(("name", "table", "key"), POSTED)
@pytest.mark.parametrize(
    "value",
    ["", "x", "ftp://x", "https://", "https://a b", "https://a:0/", "http://a:65536", "http://a\\u0000",
     "http://a/\\n", "http://[::1", "http:///x"],
)  # fmt: skip
def test_where_nothing_can_be_posted_is_refused_by_its_key(
    name: str, table: str, key: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"\$\.{table}\.{key}"):
        PARSERS[name](configuration(name, table, key, f'"{value}"'))


BAD_TILES = [
    "a\\u0000", "ftp://x", "http://", "http://a b/", "http://a:0/", "https://a/?q", "https://a/#f", "https://é/",
    "://",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_TILES)
def test_what_is_neither_a_directory_nor_a_url_of_tiles_is_refused_by_its_key(value: str) -> None:
    with pytest.raises(ConfigError, match=r"\$\.log\.tiles"):
        parse_monitor_config(f'[log]\ntiles = "{value}"\n')
    with pytest.raises(ConfigError, match=r"\$\.log\[0\]\.tiles"):
        parse_node_config(f'[[log]]\norigin = "o"\ntiles = "{value}"\n')


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[gossip]\npeers = ["a:1", "b"]', r"$.gossip.peers[1]"),
        ('[[log]]\norigin = ""', "$.log[0].origin"),
        ('[[log]]\norigin = "o"\nserver = "a:0"', "$.log[0].server"),
        ("[gossip]\nround_s = nan", "$.gossip.round_s"),
        ("[gossip]\nstale_s = inf", "$.gossip.stale_s"),
        ("[gossip]\nmembership_port = 65536", "$.gossip.membership_port"),
        ('[alerts]\ncommand = ["a\\u0000"]', "$.alerts.command[0]"),
    ],
)
def test_a_nodes_other_values_are_refused_by_their_keys(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_node_config(text)
    assert place in str(caught.value)


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("unknown = 1\n", "unknown"),
        ("x = " + "[" * 5_000, "TOML"),
        ("x = " + "{a = " * 5_000, "TOML"),
        ("x = " + "1" * 5_000, "TOML"),
        ("x = \x00", "TOML"),
        ("x = 1\nx = 2", "TOML"),
        ("a." * 5_000 + "a = 1\n", "`a`"),
    ],
)
def test_what_is_unknown_or_no_toml_is_refused(name: str, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PARSERS[name](text + "\n" + configuration(name))
    assert told in str(caught.value)


@pytest.mark.parametrize("name", PARSERS)
def test_an_unknown_name_in_any_table_is_told_with_its_table(name: str) -> None:
    for table in {place for owner, place, _ in (*ADDRESSES, *PATHS) if owner == name}:
        with pytest.raises(ConfigError, match=rf"unknown field `colour` - at `\$\.{table}`"):
            PARSERS[name](configuration(name, table, "colour", "1"))


@pytest.mark.parametrize("name", LOADERS)
def test_a_file_that_is_absent_or_binary_is_a_clear_error(name: str, tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path / "absent.toml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="cannot be read"):
            LOADERS[name](path)


class Places(Section, frozen=True, kw_only=True):
    """Has a key of each kind."""

    called: HostPort = "a:1"
    tiles: TilesPlace = "t"
    url: Url = "http://a"


@pytest.mark.parametrize(
    "text",
    [
        "called = 'log.example:8650'",
        "called = '[::1]:1'",
        "called = '[fe80::1%eth0]:65535'",
        "called = '127.0.0.1:65535'",
        "tiles = '../tiles of a log?#'",
        "tiles = 'https://log.example'",
        "tiles = 'HTTP://user:pass@[::1]:80/a%20b/'",
        "url = 'https://hooks.example/services/T0?token=x#y'",
        "url = 'http://127.0.0.1:9/'",
    ],
)
def test_what_can_be_used_is_taken(text: str) -> None:
    decode_config(text, Places, what="it", documented_in="here")


def test_what_is_wrong_is_told_in_words() -> None:
    with pytest.raises(
        ConfigError, match=r"^it is refused: Expected host:port, such as .* - at `\$\.called`"
    ):
        decode_config("called = 'x'", Places, what="it", documented_in="here")


VALUES = st.one_of(
    st.text(max_size=20).map(lambda text: "'''" + text.replace("'", "") + "'''"),
    st.text(max_size=12).map(lambda text: '"' + "".join(f"\\U{ord(one):08x}" for one in text) + '"'),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["true", "[]", "{}", "['']", "1979-05-27", "[[1]]", "{a = 1}"]),
)


@given(
    place=st.sampled_from([*ADDRESSES, *PATHS, *CALLED, *POSTED]),
    value=VALUES,
)
def test_no_value_of_any_place_raises_anything_but_a_config_error(
    place: tuple[str, str, str], value: str
) -> None:
    name, table, key = place
    with suppress(ConfigError):
        PARSERS[name](configuration(name, table, key, value))


@given(text=st.text(alphabet="[]{}='\".,\n ab1\x00é", max_size=60), name=st.sampled_from(sorted(PARSERS)))
def test_no_text_at_all_raises_anything_but_a_config_error(text: str, name: str) -> None:
    with suppress(ConfigError):
        PARSERS[name](text)
