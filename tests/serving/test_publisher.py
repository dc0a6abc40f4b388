"""Those who wait for the next checkpoint are told of it, from whatever thread it comes; nobody else is."""

from __future__ import annotations

import asyncio
from threading import Thread
from unittest.mock import patch

from _support.alliance import Alliance

from server.metrics import Metrics
from server.publisher import CheckpointFeed
from tlog.checkpoint import Checkpoint, format_checkpoint
from tlog.log_view import SignedCheckpoint
from tlog.note import sign_note

ALLIANCE = Alliance()


def checkpoint(tree_size: int) -> SignedCheckpoint:
    text = format_checkpoint(Checkpoint(ALLIANCE.origin, tree_size, bytes(31) + bytes([tree_size % 256])))
    return SignedCheckpoint.read(sign_note(text, [ALLIANCE.signer]))


def test_no_checkpoint_is_missed_by_who_begins_to_wait_while_it_is_published() -> None:
    checkpoints = [checkpoint(size) for size in range(1, 1_500)]

    async def scenario() -> None:
        feed = CheckpointFeed(checkpoints[0], Metrics())

        async def follow() -> int:
            seen, told = checkpoints[0], 0
            while seen.tree_size < checkpoints[-1].tree_size:
                other = await feed.wait_beyond(seen.tree_size)
                assert other is not None
                seen, told = other, told + 1
            return told

        publishing = Thread(target=lambda: [feed.publish(signed) for signed in checkpoints[1:]])
        followers = [asyncio.ensure_future(follow()) for _ in range(3)]
        publishing.start()
        async with asyncio.timeout(60):
            told = await asyncio.gather(*followers)
        publishing.join()
        assert min(told) >= 1

    asyncio.run(scenario())


def test_the_event_loop_hears_of_a_checkpoint_only_where_somebody_waits() -> None:
    async def scenario() -> None:
        feed = CheckpointFeed(checkpoint(1), Metrics())
        loop = asyncio.get_running_loop()
        with patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as told:
            feed.publish(checkpoint(2))
            assert feed.newest.tree_size == 2
            assert told.call_count == 0
            waiting = asyncio.ensure_future(feed.wait_beyond(2))
            await asyncio.sleep(0)
            feed.publish(checkpoint(3))
            assert told.call_count == 1
            newest = await waiting
            assert newest is not None
            assert newest.tree_size == 3
            feed.publish(checkpoint(4))
            assert told.call_count == 1, "who was told waits no more"

    asyncio.run(scenario())


def test_who_waits_when_the_feed_ends_is_told_that_there_is_none() -> None:
    async def scenario() -> None:
        feed = CheckpointFeed(checkpoint(1), Metrics())
        waiting = asyncio.ensure_future(feed.wait_beyond(1))
        await asyncio.sleep(0)
        feed.close()
        assert await waiting is None
        assert await feed.wait_beyond(0) is feed.newest

    asyncio.run(scenario())
