"""The example alliance's events, converted once for all tests of this folder."""

import pytest
from _support.example_data import DATA, Streams

from examples.alliance.event_fields import EventFields
from examples.alliance.streams import streams


@pytest.fixture(scope="session")
def by_member() -> Streams:
    return streams(DATA)


@pytest.fixture(scope="session")
def events(by_member: Streams) -> list[EventFields]:
    return [event for stream in by_member.values() for event in stream]
