"""A monitor's state directory of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.monitor_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)
