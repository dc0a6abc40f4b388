"""No bytes on any socket crash or hang a program, show a bug of it, or keep it from its work afterwards.

Real processes and real sockets; a short run, the same every time. `make fuzz` runs longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from fuzz import corpus
from fuzz.calls import SOCKET_TARGETS, Rig, socket_targets
from fuzz.engine import Target, fuzz

EXECUTIONS = 40


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Target]]]:
    with socket_targets(tmp_path_factory.mktemp("rig")) as (rig, every):
        yield rig, {target.name: target for target in every}


@pytest.mark.parametrize("name", SOCKET_TARGETS)
def test_no_bytes_make_a_program_fail(rig: tuple[Rig, dict[str, Target]], name: str) -> None:
    target = rig[1][name]
    inputs = corpus.inputs(target)
    ran = fuzz(target, inputs, Random(name), executions=len(inputs) + EXECUTIONS)
    assert ran.finding is None, str(ran.finding)


def test_after_all_of_that_every_program_does_its_work_and_logged_no_bug(
    rig: tuple[Rig, dict[str, Target]],
) -> None:
    rig[0].check()
    # The check itself finds what it is there to find.
    assert rig[0].server.is_running
    rig[0].server.kill()
    with pytest.raises(Exception, match=r"."):
        rig[0].check()
