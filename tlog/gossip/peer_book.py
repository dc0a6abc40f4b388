"""Whom to ask next: a random choice among the peers that are not being left alone. Pure.

A peer that does not answer is asked less and less often, so that the dead cost nothing; one that sent what
no honest node sends is left alone for a long time. Neither takes the place of a live one in a round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Randomness(Protocol):
    """Draws at random; `random.Random` is one."""

    def random(self) -> float:
        """Draw a number, 0 <= number < 1."""
        ...

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """Draw k different elements. Requires k <= len(population)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Says how long a peer is left alone: after failures, doubling, and after an offence."""

    first_s: float = 2.0
    most_s: float = 300.0
    offence_s: float = 3_600.0

    def after_failures(self, failures: int, share: float) -> float:
        """Compute seconds after the n-th failure in a row; `share`, 0 <= share < 1, spreads them.

        Between half and all of min(most_s, first_s * 2**(n - 1)), so that peers that failed together do not
        come back together.
        """
        longest = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return longest * (0.5 + 0.5 * share)


@dataclass(slots=True)
class _Peer:
    failures: int = 0
    not_before_s: float = float("-inf")
    offences: int = 0


class PeerBook:
    """Holds the peers that may be asked, by address; its size is that of the list it was given."""

    def __init__(self, addresses: Iterable[str], backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._addresses: dict[str, None] = {}
        # Only those that failed or offended: most peers of a large alliance never do.
        self._noted: dict[str, _Peer] = {}
        self.replace(addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return all peers."""
        return tuple(self._addresses)

    def replace(self, addresses: Iterable[str]) -> None:
        """Take over a new list, as the membership gives it; what is known of those that stay is kept."""
        self._addresses = dict.fromkeys(addresses)
        self._noted = {address: peer for address, peer in self._noted.items() if address in self._addresses}

    def choose(self, count: int, now_s: float, randomness: Randomness) -> list[str]:
        """Draw up to `count` different peers, each as likely as any other, of those that may be asked now."""
        left_alone = set(self.left_alone(now_s))
        ready = [address for address in self._addresses if address not in left_alone]
        return randomness.sample(ready, min(count, len(ready)))

    def succeeded(self, address: str) -> None:
        """Note that a peer answered."""
        if peer := self._noted.get(address):
            peer.failures = 0

    def failed(self, address: str, now_s: float, randomness: Randomness) -> None:
        """Note that a peer did not answer; it is left alone for a while."""
        if peer := self._note(address):
            peer.failures += 1
            peer.not_before_s = now_s + self._backoff.after_failures(peer.failures, randomness.random())

    def offended(self, address: str, now_s: float) -> None:
        """Note that a peer sent what no honest node sends; it is dropped for `offence_s`."""
        if peer := self._note(address):
            peer.offences += 1
            peer.not_before_s = now_s + self._backoff.offence_s

    def left_alone(self, now_s: float) -> tuple[str, ...]:
        """Return the peers that are not asked at the moment."""
        return tuple(address for address, peer in self._noted.items() if peer.not_before_s > now_s)

    def _note(self, address: str) -> _Peer | None:
        return self._noted.setdefault(address, _Peer()) if address in self._addresses else None
