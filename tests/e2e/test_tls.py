"""TLS between real processes: who is let in, who is not, and a certificate that is renewed while in use."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from _support.alliance import Alliance
from _support.command_line import REPOSITORY, tlog
from _support.log_directory import CONFIG, make_log_directory, serving
from _support.real_node import RealNode, make_node_directory, set_in_gossip
from _support.real_program import started
from _support.real_server import RealServer
from _support.real_witness import RealWitness
from _support.tls_files import TestAuthority, client_table, with_other_ca

from tlog.client import LogClient, RetryPolicy
from tlog.client.health import check_health
from tlog.errors import RemoteError
from tlog.grpc_tls import channel_credentials
from tlog.policy import build_policy, format_policy
from tlog.tls import ClientTls

ALLIANCE = Alliance()
POLICY = build_policy([ALLIANCE.signer.vkey])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def caller(authority: TestAuthority) -> ClientTls:
    return authority.client("caller")


@pytest.fixture(scope="module", params=[0, 2], ids=["alone", "workers"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: TestAuthority,
    caller: ClientTls,
) -> Iterator[RealServer]:
    tables = authority.tables(server=f"server-{request.param}")
    config = make_log_directory(
        tmp_path_factory.mktemp("log") / "log",
        ALLIANCE,
        config=CONFIG + f"[server]\nworkers = {request.param}\n" + tables,
    )
    with serving(config, caller) as running:
        yield running


def size(
    server: RealServer, tls: ClientTls | None, *, address: str | None = None, deadline_s: float = 30.0
) -> int:
    with LogClient(
        address or server.grpc_address,
        POLICY,
        checkpoint_file=None,
        timeout_s=deadline_s,
        retry=RetryPolicy(deadline_s=deadline_s),
        credentials=None if tls is None else channel_credentials(tls),
    ) as client:
        return client.checkpoint().tree_size


def shown_serial(address: str, tls: ClientTls) -> int:
    """Return which certificate a port shows now; a handshake of its own, whatever channels are open."""
    host, _, port = address.rpartition(":")
    context = tls.http_context()
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=host) as wrapped,
    ):
        certificate = wrapped.getpeercert()
        assert certificate
        return int(str(certificate["serialNumber"]), 16)


def test_who_shows_a_certificate_of_the_authority_is_served_by_grpc_tiles_and_metrics(
    server: RealServer, caller: ClientTls
) -> None:
    assert size(server, caller) == len(ALLIANCE.governance)
    assert server.tiles_url.startswith("https://")
    with httpx.Client(verify=caller.http_context()) as http:
        assert http.get(f"{server.tiles_url}/checkpoint").status_code == 200
        assert "tlog_tree_size_entries" in http.get(server.metrics_url).text


def test_a_log_with_a_public_read_side_asks_readers_of_tiles_for_no_certificate(
    server: RealServer, authority: TestAuthority
) -> None:
    with httpx.Client(verify=authority.stranger().http_context()) as http:
        assert http.get(f"{server.tiles_url}/checkpoint").status_code == 200
        with pytest.raises(httpx.TransportError):
            http.get(server.metrics_url)


def test_plaintext_no_certificate_an_expired_one_and_a_strangers_are_turned_away(
    server: RealServer, authority: TestAuthority, tmp_path: Path
) -> None:
    strangers = TestAuthority(tmp_path / "strangers")
    for tls in (
        None,
        authority.stranger(),
        authority.client(f"late-{server.pid}", expired=True),
        with_other_ca(strangers.client("other"), authority.ca),
    ):
        with pytest.raises(RemoteError, match="whether it is behind TLS"):
            size(server, tls, deadline_s=2.0)
    with pytest.raises(RemoteError, match=r"is it behind TLS \(--tls-ca"):
        check_health(server.grpc_address, timeout_s=2.0)


def test_a_server_of_another_authority_is_not_talked_to(
    server: RealServer, caller: ClientTls, tmp_path: Path
) -> None:
    other = TestAuthority(tmp_path / "other")
    wrong = with_other_ca(caller, other.ca)
    with pytest.raises(RemoteError):
        size(server, wrong, deadline_s=2.0)
    with httpx.Client(verify=wrong.http_context()) as http, pytest.raises(httpx.ConnectError):
        http.get(f"{server.tiles_url}/checkpoint")


def test_a_server_of_another_name_and_an_expired_server_are_not_talked_to(
    authority: TestAuthority, caller: ClientTls, tmp_path: Path
) -> None:
    for number, options in enumerate(({"names": ["log.example"]}, {"expired": True})):
        certificate, key = authority.server(f"bad-{number}", **options)  # type: ignore[arg-type]
        (tmp_path / f"{number}").mkdir()
        config = make_log_directory(
            tmp_path / f"{number}" / "log",
            ALLIANCE,
            config=CONFIG + f'[tls]\ncertificate_path = "{certificate}"\nkey_path = "{key}"\n',
        )
        # Nobody can ask this one for its health, so only its announcement is waited for.
        with RealServer(started("server", "--config", config, "--json")) as running:
            with pytest.raises(RemoteError):
                size(running, caller, deadline_s=2.0)
            with httpx.Client(verify=caller.http_context()) as http, pytest.raises(httpx.ConnectError):
                http.get(f"{running.tiles_url}/checkpoint")


def test_a_renewed_certificate_is_shown_at_once_and_nobody_is_cut_off(
    server: RealServer, authority: TestAuthority, caller: ClientTls
) -> None:
    places = [server.grpc_address, server.tiles_url.removeprefix("https://")]
    with LogClient(
        server.grpc_address, POLICY, checkpoint_file=None, credentials=channel_credentials(caller)
    ) as client:
        client.checkpoint()
        before = {shown_serial(place, caller) for place in places}
        renewed = authority.server(f"renewed-{server.pid}")
        name = "server-2" if server.announced["workers"] else "server-0"
        for new, ending in zip(reversed(renewed), ("key", "crt"), strict=True):
            new.replace(authority.directory / f"{name}.{ending}")
        after = {shown_serial(place, caller) for place in places}
        assert len(before) == len(after) == 1
        assert before != after
        os.kill(server.pid, signal.SIGHUP)
        client.checkpoint()
        assert server.is_running
        assert size(server, caller) == len(ALLIANCE.governance)


def test_the_command_line_talks_tls_with_three_options(
    server: RealServer, caller: ClientTls, authority: TestAuthority, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.write_bytes(format_policy(POLICY))
    paths = caller.paths
    options = ["--tls-ca", paths.ca_path, "--tls-cert", paths.certificate_path, "--tls-key", paths.key_path]
    common = ["--policy", policy, "--json"]
    log = ["--server", server.grpc_address, "--state", tmp_path / "state"]
    asked = tlog("status", *log, *common, *options)
    assert asked.code == 0, asked.err
    assert asked.json["tree_size"] == len(ALLIANCE.governance)
    assert tlog("checkpoint", *log, *common, "--timeout", "2").code == 3
    checked = tlog("tiles", "check", server.tiles_url, *common, *options)
    assert checked.code == 0, checked.err
    assert tlog("tiles", "check", server.tiles_url, *common, "--timeout", "2").code == 3
    exported = tlog("export", tmp_path / "out", "--from", server.tiles_url, *common, *options[:2])
    assert exported.code == 0, exported.err
    half = tlog("status", *log, *common, *options[:4])
    assert half.code == 2
    assert "go together" in half.err


@pytest.mark.parametrize("table", ["grpc", "metrics", "tiles"])
def test_plaintext_on_the_network_is_refused_at_the_start(table: str, tmp_path: Path) -> None:
    text = CONFIG.replace(f"[{table}]", f'[{table}]\nlisten_address = "0.0.0.0"')
    config = make_log_directory(tmp_path / "log", ALLIANCE, config=text)
    ended = subprocess.run(
        [sys.executable, "-m", "server", "--config", str(config)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert f"[{table}] would be served in plaintext on 0.0.0.0" in ended.stderr
    assert "allow_plaintext_on_network = true" in ended.stderr


def test_the_flag_named_for_its_danger_lets_plaintext_out(tmp_path: Path) -> None:
    text = CONFIG.replace("[grpc]", '[grpc]\nlisten_address = "0.0.0.0"')
    config = make_log_directory(
        tmp_path / "log", ALLIANCE, config=text + "[tls]\nallow_plaintext_on_network = true\n"
    )
    with serving(config) as running:
        assert size(running, None) == len(ALLIANCE.governance)


def test_a_witness_and_a_server_and_a_node_and_a_monitor_talk_tls_to_each_other(
    authority: TestAuthority, caller: ClientTls, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.write_bytes(format_policy(POLICY))
    witness_directory = tmp_path / "witness"
    assert tlog("witness", "init", witness_directory, "--name", "w.example", "--policy", policy).code == 0
    _replace_table(witness_directory / "witness.toml", authority.tables(server="witness"))
    with RealWitness(witness_directory) as witness:
        assert witness.url.startswith("https://")
        (vkey,) = (verifier.vkey for verifier in witness.verifiers)
        quorum = tmp_path / "quorum"
        quorum.write_text(f"log {ALLIANCE.signer.vkey}\nwitness w {vkey} {witness.url}\nquorum w\n")
        config = make_log_directory(
            tmp_path / "log",
            ALLIANCE,
            config=CONFIG
            + f'[witnesses]\npolicy_path = "{quorum}"\n'
            + authority.tables(server="with-witness")
            + client_table(caller),
        )
        with serving(config, caller) as running:
            # Published only with the witness's cosignature, so it was asked over TLS, and knew who asked.
            assert size(running, caller) == len(ALLIANCE.governance)
            node = make_node_directory(tmp_path / "node", policy, server=running.grpc_address)
            set_in_gossip(node, {"round_s": 0.3, "timeout_s": 5.0, "port": 0})
            _replace_table(node / "node.toml", authority.tables(server="node"))
            _replace_table(node / "node.toml", client_table(caller))
            monitor = tmp_path / "monitor"
            made = tlog("monitor", "init", monitor, "--policy", policy, "--server", running.grpc_address)
            assert made.code == 0, made.err
            _replace_table(monitor / "monitor.toml", client_table(caller))
            assert tlog("monitor", "run", monitor, "--once").code == 0
            with RealNode(node) as gossiping:
                gossiping.wait_for(lambda status: status["logs"][0]["tree_size"] == len(ALLIANCE.governance))
                assert shown_serial(gossiping.address, caller)
                with pytest.raises((ssl.SSLError, OSError)):
                    # TLS 1.3 tells a caller only afterwards that its certificate is missed.
                    _read_after_handshake(gossiping.address, authority.stranger())
                gossiping.program.send(signal.SIGHUP)
                gossiping.wait_for(lambda status: status["is_well"])


def _read_after_handshake(address: str, tls: ClientTls) -> None:
    host, _, port = address.rpartition(":")
    context = tls.http_context()
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=host) as wrapped,
    ):
        if not wrapped.recv(1):
            raise ConnectionResetError("closed")


def _replace_table(file: Path, table: str) -> None:
    """Put a table in the place of the commented one of its name."""
    head, *_ = table.splitlines()
    before, _, rest = file.read_text().partition(f"{head}\n")
    after = "\n".join(rest.split("\n\n", 1)[1:])
    file.write_text(f"{before}{table}\n{after}")
