from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from _support.lying_log import LyingLog

from tlog.client import LogClient, RetryPolicy
from tlog.policy import Policy, build_policy

QUICK = RetryPolicy(deadline_s=5.0, first_delay_s=0.001, max_delay_s=0.05)


@pytest.fixture
def log() -> Iterator[LyingLog]:
    with LyingLog() as log:
        yield log


@pytest.fixture
def policy(log: LyingLog) -> Policy:
    return build_policy([log.signer.vkey])


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "trusted-checkpoint"


@pytest.fixture
def connect(log: LyingLog, policy: Policy, state_file: Path) -> Iterator[Callable[..., LogClient]]:
    """Make a client of the test log; by default it keeps its trust in `state_file`."""
    with ExitStack() as stack:

        def make(**options: Any) -> LogClient:
            options = {"checkpoint_file": state_file, "retry": QUICK, "policy": policy, **options}
            return stack.enter_context(LogClient(log.address, options.pop("policy"), **options))

        yield make


@pytest.fixture
def client(connect: Callable[..., LogClient]) -> LogClient:
    return connect()
