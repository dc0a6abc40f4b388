"""One sound log for all tests of this directory: made once, and copied by whoever damages it."""

from __future__ import annotations

from pathlib import Path

import pytest
from _support.damaged_store import SIZE, SoundLog, exported, make_store


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> SoundLog:
    path = tmp_path_factory.mktemp("sound") / "store"
    return SoundLog(path=path, alliance=make_store(path, SIZE))


@pytest.fixture(scope="session")
def mirror(sound: SoundLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That log as a folder of tiles."""
    return exported(sound.path, sound.alliance, tmp_path_factory.mktemp("mirror") / "tiles")
