"""The threads of a process that answers calls, how they end, and what its garbage collector looks at."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

# LMDB lets go of the interpreter at every look-up, and four threads that fight for it made a proof out of a
# large log a fifth dearer. Two, so that one who waits for the disk holds up nobody.
READING_THREADS = 2
ANSWERING_THREADS = 2
VERIFYING_THREADS = 1
"""A second one costs a tenth more CPU an event and brings next to nothing, for both stand in line for the
interpreter (docs/performance.md): what makes use of more cores is worker processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """Holds three sets of threads, so that none of the three kinds of work holds up another.

    Signatures are checked in `verifying`, answers to Append read the store in `answering`, all other calls
    in `reading`.
    """

    verifying: Executor
    answering: Executor
    reading: Executor

    @classmethod
    def open(cls, stack: AsyncExitStack) -> Threads:
        """Make the threads; `stack` ends them."""
        return cls(
            verifying=open_pool(stack, VERIFYING_THREADS, "verify"),
            answering=open_pool(stack, ANSWERING_THREADS, "answer"),
            reading=open_pool(stack, READING_THREADS, "read"),
        )


def open_pool(stack: AsyncExitStack, size: int, name: str) -> ThreadPoolExecutor:
    """Make a set of threads that `stack` ends."""
    pool = ThreadPoolExecutor(size, name)
    # In a thread of its own: the loop has to go on, or the calls that wait for the pool could never give up.
    stack.push_async_callback(asyncio.to_thread, pool.shutdown, wait=True, cancel_futures=True)
    return pool


def spare_what_stays() -> None:
    """Take what a process is made of out of the garbage collector's rounds: call it when it serves.

    A full round walks through everything that lives, some 150,000 objects of modules and settings, whenever
    a busy server has made enough new ones; nothing of those is ever garbage.
    """
    gc.collect()
    gc.freeze()
