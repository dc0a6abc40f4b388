"""The consistency proofs of one round: witnesses that stand at one size, as most do, share one proof."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

from tlog.log import Log


class RoundProofs:
    """Proves that smaller trees of a log begin one tree; belongs to the event loop."""

    def __init__(self, log: Log, tree_size: int, reading: Executor) -> None:
        """Prove for the tree of `tree_size` leaves, in the threads of `reading`."""
        self._log = log
        self._tree_size = tree_size
        self._reading = reading
        self._proofs: dict[int, asyncio.Future[list[bytes]]] = {}

    async def prove(self, old_size: int) -> Sequence[bytes]:
        """Prove that the tree of `old_size` leaves begins this one; raises what proving raises."""
        proof = self._proofs.get(old_size)
        if proof is None:
            proof = asyncio.get_running_loop().run_in_executor(
                self._reading, self._log.prove_consistency, old_size, self._tree_size
            )
            self._proofs[old_size] = proof
        # Whoever stops waiting leaves it to the others.
        return await asyncio.shield(proof)
