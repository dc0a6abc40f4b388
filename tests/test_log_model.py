"""The log against a model: a list of entries, and whatever random users do to it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from _support.alliance import Alliance, key
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tlog.checkpoint import Checkpoint
from tlog.errors import BatchRefusedError, RefusalReason
from tlog.log import Log
from tlog.merkle import leaf_hash, verify_consistency, verify_inclusion

NUMBERS = st.integers(0, 40)


class LogModel(RuleBasedStateMachine):
    """Appends, repeats, conflicts, suspends and re-opens, and compares the log with a list."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.alliance = Alliance()
        self.log = Log.create(self.directory / "store", self.alliance.signer)
        self.model: list[bytes] = []
        self.numbers: dict[int, bytes] = {}
        self.checkpoints: list[Checkpoint] = [self.log.checkpoint().checkpoint]
        self.active = True

    @initialize()
    def found(self) -> None:
        self.take(self.alliance.governance)

    def take(self, entries: list[bytes]) -> None:
        appended = self.log.append(entries)
        for entry, index, present in zip(
            entries, appended.leaf_indices, appended.already_present, strict=True
        ):
            assert present == (entry in self.model)
            if not present:
                assert index == len(self.model)
                self.model.append(entry)
            assert self.model[index] == entry
        self.checkpoints.append(appended.checkpoint.checkpoint)

    @precondition(lambda self: self.active)
    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=12))
    def append_some_of_them_again(self, numbers: list[int]) -> None:
        entries = [self.numbers.get(number, self.alliance.entry(number)) for number in numbers]
        self.take(entries)
        self.numbers.update(zip(numbers, entries, strict=True))

    @precondition(lambda self: self.numbers)
    @rule(data=st.data(), fresh=st.lists(NUMBERS, max_size=3))
    def a_conflict_refuses_the_whole_batch(self, data: st.DataObject, fresh: list[int]) -> None:
        number = data.draw(st.sampled_from(sorted(self.numbers)))
        bad = self.alliance.entry(number, note="other bytes")
        good = [self.numbers[n] for n in fresh if n in self.numbers]
        with pytest.raises(BatchRefusedError) as caught:
            self.log.append([*good, bad])
        (refused,) = caught.value.refusals.values()
        assert refused.reason is RefusalReason.SOURCE_ID_CONFLICT
        assert refused.existing_leaf_index is not None
        assert self.model[refused.existing_leaf_index] == self.numbers[number]

    @rule(number=NUMBERS)
    def a_stranger_is_refused(self, number: int) -> None:
        if number in self.numbers:
            return
        with pytest.raises(BatchRefusedError):
            self.log.append([self.alliance.entry(number, signer=key("stranger"))])

    @rule()
    def revoke_or_restore_the_members_key(self) -> None:
        self.take([self.alliance.add_member("exporter", ["exporter"], revoked=self.active)])
        self.active = not self.active

    @precondition(lambda self: not self.active)
    @rule(number=NUMBERS)
    def a_revoked_key_adds_nothing_and_takes_nothing_away(self, number: int) -> None:
        if number in self.numbers:
            self.take([self.numbers[number]])
            return
        with pytest.raises(BatchRefusedError) as caught:
            self.log.append([self.alliance.entry(number)])
        assert caught.value.refusals[0].reason is RefusalReason.REVOKED_KEY

    @rule()
    def reopen(self) -> None:
        before = self.log.checkpoint()
        self.log.close()
        self.log = Log.open(self.directory / "store", self.alliance.signer)
        assert self.log.checkpoint() == before

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def any_leaf_is_proven_in_any_tree_that_left_the_log(self, data: st.DataObject) -> None:
        later = [checkpoint for checkpoint in self.checkpoints if checkpoint.tree_size]
        tree = data.draw(st.sampled_from(later))
        index = data.draw(st.integers(0, tree.tree_size - 1))
        proof = self.log.prove_inclusion(index, tree.tree_size)
        verify_inclusion(leaf_hash(self.model[index]), index, tree.tree_size, proof, tree.root_hash)

    @rule(data=st.data())
    def any_two_checkpoints_that_left_the_log_are_consistent(self, data: st.DataObject) -> None:
        ordered = sorted(self.checkpoints, key=lambda checkpoint: checkpoint.tree_size)
        position = data.draw(st.integers(0, len(ordered) - 1))
        first = ordered[position]
        second = ordered[data.draw(st.integers(position, len(ordered) - 1))]
        proof = self.log.prove_consistency(first.tree_size, second.tree_size)
        verify_consistency(first.tree_size, second.tree_size, proof, first.root_hash, second.root_hash)

    @invariant()
    def the_log_is_the_list(self) -> None:
        assert self.log.entries(0, len(self.model)) == self.model
        assert self.log.checkpoint().tree_size == len(self.model)

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.directory)


LogModel.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLogModel = LogModel.TestCase
