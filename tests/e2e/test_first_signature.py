"""A server with a new key signs nothing with it before its start checks, and then moves the log to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.alliance import ORIGIN, TIME, Alliance, log_signer
from _support.log_directory import CONFIG, make_log_directory, serving

from tlog.client import LogClient
from tlog.errors import RemoteError
from tlog.governance import Governance, build_governance
from tlog.key_file import write_key_file
from tlog.log import Log
from tlog.note import Verifier, open_note
from tlog.policy import build_policy
from tlog.storage.high_water_mark import HighWaterMarkFile, Mark
from tlog.storage.lmdb_store import LmdbStore

NEW = log_signer(name="the next log key")


def name_both_keys(alliance: Alliance) -> bytes:
    said = Governance(
        governance_keys=tuple(one.public_key for one in alliance.governance_keys),
        threshold=2,
        log_vkeys=(alliance.signer.vkey, NEW.vkey),
    )
    payload = build_governance(origin=ORIGIN, time=TIME, governance=said, **alliance.next_link())  # type: ignore[arg-type]
    return alliance.add_governance(payload)


def signers(store: Path) -> tuple[bytes | None, bytes | None]:
    """Return the key ids under which the store holds its committed and its published checkpoint."""
    opened = LmdbStore.open(store, None, None, read_only=True)
    with opened.reader() as reader:
        notes = reader.committed(), reader.published()
    opened.close()
    verifiers = [Verifier.from_vkey(one.vkey) for one in (log_signer(), NEW)]
    keys = [None if note is None else open_note(note, verifiers).signatures[0].key_id for note in notes]
    return keys[0], keys[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_new_key_signs_nothing_before_the_mark_vouches_for_the_store(tmp_path: Path, workers: int) -> None:
    alliance = Alliance()
    options = f'[store]\nhigh_water_mark_path = "mark"\n[server]\nworkers = {workers}\n'
    config = make_log_directory(tmp_path / "log", alliance, config=CONFIG + options)
    with Log.open(tmp_path / "log" / "store", alliance.signer) as log:
        log.append([name_both_keys(alliance)])
        checkpoint = log.checkpoint().checkpoint
    (tmp_path / "log" / "log.key").unlink()
    write_key_file(tmp_path / "log" / "log.key", NEW)
    policy = build_policy([alliance.signer.vkey, NEW.vkey])
    # Its mark is gone: nothing says that the store is the newest one.
    with (
        serving(config) as server,
        LogClient(server.grpc_address, policy, checkpoint_file=None) as client,
    ):
        assert client.checkpoint().checkpoint == checkpoint
        with pytest.raises(RemoteError, match="there is no high-water mark"):
            client.append([alliance.entry(1)])
        (present,) = client.append(alliance.governance[:1])
        assert present.leaf_index == 0
    assert signers(tmp_path / "log" / "store") == (alliance.signer.key_id,) * 2
    with HighWaterMarkFile(tmp_path / "log" / "mark", ORIGIN) as file:
        file.write(Mark(tree_size=checkpoint.tree_size, root_hash=checkpoint.root_hash))
    with (
        serving(config) as server,
        LogClient(server.grpc_address, build_policy([NEW.vkey]), checkpoint_file=None) as client,
    ):
        assert client.checkpoint().checkpoint == checkpoint  # without an append
        client.append([alliance.entry(1)])
    assert signers(tmp_path / "log" / "store") == (NEW.key_id,) * 2


def test_an_empty_store_is_not_begun_anew_where_the_mark_says_that_there_was_a_log(tmp_path: Path) -> None:
    alliance = Alliance()
    config = make_log_directory(
        tmp_path / "log", alliance, config=CONFIG + '[store]\nhigh_water_mark_path = "mark"\n'
    )
    (tmp_path / "log" / "store").rename(tmp_path / "lost")
    LmdbStore.create(tmp_path / "log" / "store", ORIGIN, alliance.signer.vkey).close()
    known = Mark(tree_size=4, root_hash=b"\7" * 32)
    with HighWaterMarkFile(tmp_path / "log" / "mark", ORIGIN) as file:
        file.write(known)
    with (
        pytest.raises(RuntimeError, match=r"the store is empty, and the high-water mark .* size 4"),
        serving(config),
    ):
        pass
    with HighWaterMarkFile(tmp_path / "log" / "mark", ORIGIN) as file:
        assert file.mark == known
    store = LmdbStore.open(tmp_path / "log" / "store", None, None)
    assert store.load() is None
    store.close()
