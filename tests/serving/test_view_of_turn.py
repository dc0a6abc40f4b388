"""What is read in one turn of the event loop shares a view, which nobody keeps longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import Thread

import pytest
from _support.alliance import Alliance

from server.view_of_turn import ViewOfTurn
from tlog.errors import StorageError
from tlog.log import Log
from tlog.log_view import LogView
from tlog.storage.memory import MemoryStore


class Views:
    """Opens views of a real log, and knows how many are open."""

    def __init__(self) -> None:
        self.alliance = Alliance()
        store = MemoryStore(self.alliance.origin, self.alliance.signer.vkey)
        self.log = Log(store, self.alliance.signer)
        self.log.append(self.alliance.governance)
        self.opened = 0
        self.open = 0
        self.problem: StorageError | None = None

    @contextmanager
    def __call__(self) -> Iterator[LogView]:
        if self.problem is not None:
            raise self.problem
        self.opened += 1
        self.open += 1
        with self.log.view_before_mark() as view:
            yield view
        self.open -= 1


@pytest.fixture
def views() -> Views:
    return Views()


def test_what_is_read_in_one_turn_shares_a_view_that_is_closed_after_it(views: Views) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=10)
        first, second = await asyncio.gather(of_turn.get(), of_turn.get())
        assert first is second
        await asyncio.sleep(0)
        assert (views.opened, views.open) == (1, 0)
        assert await of_turn.get() is not first
        await asyncio.sleep(0)
        assert (views.opened, views.open) == (2, 0)

    asyncio.run(scenario())


def test_whoever_was_told_of_a_commit_sees_it_though_a_view_of_the_log_before_is_still_open(
    views: Views,
) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=10)
        before = len(views.alliance.governance)
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def size_when_told() -> tuple[int, int]:
            return await told, (await of_turn.get()).tree_size

        waiting = asyncio.ensure_future(size_when_told())
        await asyncio.sleep(0)
        assert (await of_turn.get()).tree_size == before
        committing = Thread(target=views.log.append, args=([views.alliance.entry(1)],))
        committing.start()
        committing.join()
        told.set_result(before + 1)
        assert (await of_turn.get()).tree_size == before, "the view is still that of this turn"
        assert await waiting == (before + 1, before + 1)

    asyncio.run(scenario())


def test_between_many_that_read_others_are_heard(views: Views) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=3)
        heard: list[int] = []
        uses = 0

        async def use() -> None:
            nonlocal uses
            await of_turn.get()
            uses += 1

        readers = [asyncio.ensure_future(use()) for _ in range(8)]
        loop = asyncio.get_running_loop()

        def hear() -> None:
            heard.append(uses)
            if uses < len(readers):
                loop.call_soon(hear)

        loop.call_soon(hear)
        await asyncio.gather(*readers)
        await asyncio.sleep(0)
        assert heard[0] == 3
        assert max(later - sooner for sooner, later in pairwise(heard)) <= 3
        assert (views.opened, views.open) == (3, 0)

    asyncio.run(scenario())


def test_who_reads_at_once_has_the_view_of_the_turn_though_many_read_already(views: Views) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=1)
        first = await of_turn.get()
        assert of_turn.at_once() is first
        await asyncio.sleep(0)
        assert views.open == 0
        second = of_turn.at_once()
        assert second is not first
        assert await of_turn.get() is second, "reading at once is not counted"
        await asyncio.sleep(0)
        assert (views.opened, views.open) == (2, 0)

    asyncio.run(scenario())


def test_a_view_that_cannot_be_opened_fails_who_asks_and_is_asked_for_again(views: Views) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=3)
        views.problem = StorageError("the store cannot be read: Input/output error")
        for _ in range(5):
            with pytest.raises(StorageError, match="Input/output error"):
                await of_turn.get()
        views.problem = None
        assert (await of_turn.get()).tree_size == len(views.alliance.governance)

    asyncio.run(scenario())


def test_a_brief_view_ends_with_its_block_unless_the_turn_has_one(views: Views) -> None:
    async def scenario() -> None:
        of_turn = ViewOfTurn(views, max_uses=1)
        with of_turn.briefly() as view:
            assert view.tree_size == len(views.alliance.governance)
        assert (views.opened, views.open) == (1, 0), "closed at once, not by the event loop"
        shared = await of_turn.get()
        with of_turn.briefly() as view:
            assert view is shared
        assert (views.opened, views.open) == (2, 1), "whoever else reads in this turn still needs it"
        await asyncio.sleep(0)
        assert (views.opened, views.open) == (2, 0)

    asyncio.run(scenario())
