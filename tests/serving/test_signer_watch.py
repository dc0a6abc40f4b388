"""The watch over a signer, with a real one: it is told, and held for, when it is not the log's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from _support.real_signer import signing

from server import signer_watch
from server.metrics import Metrics
from server.signer_watch import SignerWatch
from server.signing_guard import SigningGuard
from tlog.errors import SignerAwayError
from tlog.key_file import write_key_file
from tlog.note import Signer
from tlog.remote_signer import RemoteSigner, SignerLine


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Signer, Signer]:
    """Two keys of one log: the one that the signer holds, in log.key, and one that nobody holds."""
    held = Signer.generate("log.example/a")
    write_key_file(tmp_path / "log.key", held)
    return held, Signer.generate("log.example/a")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def test_a_signer_that_answers_and_does_not_hold_the_logs_key_is_told_as_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[Signer, Signer]
) -> None:
    monkeypatch.setattr(signer_watch, "ASK_EVERY_S", 0.02)
    held, other = keys

    async def watched(vkey: str, guard: SigningGuard, metrics: Metrics, is_so: Callable[[], bool]) -> None:
        watch = SignerWatch(guard, metrics)
        line = SignerLine(tmp_path / "signer.sock", timeout_s=10.0, on_change=watch.changed)
        watch.start(line, RemoteSigner(line, vkey))
        await until(is_so)
        await watch.stop()
        line.close()

    with signing(tmp_path, "--key", tmp_path / "log.key", "--new-state"):
        guard, metrics = SigningGuard(), Metrics()
        asyncio.run(watched(other.vkey, guard, metrics, lambda: guard.read_only is not None))
        with pytest.raises(SignerAwayError, match="does not hold the key"):
            guard.require_signing()
        assert metrics.registry.get_sample_value("tlog_signer_away") == 1
        # The same guard: it goes on as soon as the key is the one that is held.
        asyncio.run(watched(held.vkey, guard, metrics, lambda: guard.read_only is None))
        guard.require_signing()


def test_a_signer_without_the_logs_key_is_told_though_it_is_asked_to_sign_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[Signer, Signer]
) -> None:
    monkeypatch.setattr(signer_watch, "ASK_EVERY_S", 0.5)
    _, other = keys
    guard = SigningGuard()

    async def asked_all_the_time() -> None:
        watch = SignerWatch(guard, Metrics())
        line = SignerLine(tmp_path / "signer.sock", timeout_s=10.0, on_change=watch.changed)
        signer = RemoteSigner(line, other.vkey, on_refused=watch.refused)
        watch.start(line, signer)
        async with asyncio.timeout(60):
            while guard.read_only is None:
                with suppress(SignerAwayError):
                    await asyncio.to_thread(signer.sign, b"log.example/a\n0\n")
        await watch.stop()
        line.close()

    with signing(tmp_path, "--key", tmp_path / "log.key", "--new-state"):
        asyncio.run(asked_all_the_time())
    assert not guard.is_stopped, "it may get the right signer yet"
    with pytest.raises(SignerAwayError, match="does not hold the key"):
        guard.require_signing()
