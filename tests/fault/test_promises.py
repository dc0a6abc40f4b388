"""What rounds check can fail: whatever is lost, contradicted or wrong is noticed, and the run says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault import __main__ as program
from fault import faults
from fault.promises import (
    ALLIANCE,
    COSIGNER,
    BrokenPromise,
    InconsistentError,
    LostError,
    Promises,
)
from fault.rounds import Bench, Round, open_bench

from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.note import add_signatures, sign_note


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("promises") / "bench") as bench:
        yield bench


def note_of(size: int, root_hash: bytes, time_s: int) -> bytes:
    text = format_checkpoint(Checkpoint(ALLIANCE.origin, size, root_hash))
    return add_signatures(sign_note(text, [ALLIANCE.signer]), [COSIGNER.cosign(text, time_s)])


def another_entry(promises: Promises) -> None:
    promises.kept[3] = replace(promises.kept[3], entry=promises.kept[4].entry)


def a_larger_tree(promises: Promises) -> None:
    promises.see(note_of(10_000, bytes(32), 1))


def another_root(promises: Promises) -> None:
    promises.see(note_of(20, bytes(32), 1))


def an_earlier_time(promises: Promises) -> None:
    first, *_, last = sorted(promises.checkpoints)
    for size, time_s in ((first, 2_000), (last, 1_999)):
        promises.see(note_of(size, promises.checkpoints[size].root_hash, time_s))


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (another_entry, LostError),
        (a_larger_tree, LostError),
        (another_root, InconsistentError),
        (an_earlier_time, InconsistentError),
    ],
)
def test_a_promise_that_the_log_does_not_keep_is_noticed(
    bench: Bench, break_it: Callable[[Promises], None], error: type[BrokenPromise]
) -> None:
    directory, promises = bench.fresh("kept")
    promises.check_store(directory / "store")
    break_it(promises)
    with pytest.raises(error):
        promises.check_store(directory / "store")


def test_two_roots_for_one_size_are_noticed_at_once(bench: Bench) -> None:
    _, promises = bench.fresh("kept")
    size = max(promises.checkpoints)
    with pytest.raises(InconsistentError, match="two roots"):
        promises.see(note_of(size, bytes(32), 1))


def test_a_run_tells_its_rounds_and_a_seed_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    arguments = ["--only", "kill-step,power-cut", "--rounds", "4", "--seed", "a", "--json", str(report)]
    documents = []
    for _ in range(2):
        assert program.main([*arguments, "--directory", str(tmp_path)]) == 0
        documents.append(json.loads(report.read_text()))
    first, second = ({n: f["checked"] for n, f in document["faults"].items()} for document in documents)
    assert first == second
    assert documents[0]["rounds"] == 4
    assert documents[0]["found"] == {"lost": 0, "inconsistent": 0, "silent": 0, "failed": 0}
    assert "together" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [report]


def test_a_broken_promise_ends_a_run_with_1_and_keeps_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(this: Round) -> None:
        this.fresh()
        raise LostError("an entry is gone")

    monkeypatch.setitem(faults.FAULTS, "loser", faults.Fault(lose, 1, 0, 0.1))
    options = ["--directory", str(tmp_path), "--keep", str(tmp_path / "kept"), "--json", str(tmp_path / "r")]
    assert program.main(["--only", "loser", "--rounds", "2", "--seed", "b", "--first", "7", *options]) == 1
    kept = tmp_path / "kept" / "loser-b-8"
    assert (kept / "loser" / "store" / "data.mdb").exists()
    assert "an entry is gone" in (kept / "failure.txt").read_text()
    assert json.loads((tmp_path / "r").read_text())["found"]["lost"] == 2
    assert "--seed b --only loser --first 8 --rounds 1" in capsys.readouterr().out
    assert program.main(["--only", "no such fault"]) == 2
