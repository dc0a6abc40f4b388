"""The stored checkpoints, looked at again: who signed them, and of which tree they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.alliance import ORIGIN, TIME, Alliance, log_signer

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.errors import CorruptionError
from tlog.governance import Governance, build_governance
from tlog.log import Log
from tlog.note import Verifier, open_note, sign_note
from tlog.storage.lmdb_store import LmdbStore
from tlog.stored_notes import StoredNotes

NEW = log_signer(name="the next log key")
STRANGER = log_signer(name="a stranger's key")


def name_keys(alliance: Alliance, *vkeys: str) -> bytes:
    governance = Governance(
        governance_keys=tuple(one.public_key for one in alliance.governance_keys),
        threshold=2,
        log_vkeys=vkeys,
    )
    payload = build_governance(origin=ORIGIN, time=TIME, governance=governance, **alliance.next_link())  # type: ignore[arg-type]
    return alliance.add_governance(payload)


def test_a_checkpoint_of_another_tree_origin_or_signer_is_found_though_its_signature_holds(
    tmp_path: Path,
) -> None:
    alliance = Alliance()
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append(alliance.governance)
        notes = StoredNotes(log.vkey)
        with log.view() as view:
            notes.check(view)
            root = view.root_hash(3)
        for origin, size, root_hash, signer, what in (
            (ORIGIN, 3, bytes(32), alliance.signer, "has root 0000"),
            (ORIGIN, 9_999, bytes(32), alliance.signer, "is of 9999 entries"),
            ("log.example/another", 3, root, alliance.signer, "of origin log.example/another"),
            (ORIGIN, 3, root, STRANGER, "published checkpoint is not as it was signed"),
        ):
            text = format_checkpoint(Checkpoint(origin, size, root_hash))
            log._store.publish(sign_note(text, [signer]))
            with log.view() as view, pytest.raises(CorruptionError, match=what):
                notes.check(view)


def test_what_a_key_signed_that_governance_names_no_more_is_as_it_was_signed(tmp_path: Path) -> None:
    alliance = Alliance()
    with Log.create(tmp_path / "store", alliance.signer) as log:
        log.append([*alliance.governance, name_keys(alliance, alliance.signer.vkey, NEW.vkey)])
    store = LmdbStore.open(tmp_path / "store", ORIGIN, None)
    with Log(store, NEW, publish_at_commit=False) as log:
        log.append([name_keys(alliance, NEW.vkey)])
        with log.view() as view:
            open_note(view.published().note, [Verifier.from_vkey(alliance.signer.vkey)])
            StoredNotes(log.vkey).check(view)
