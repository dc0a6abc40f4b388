"""The targets that the project has set itself: the one place where they are written down.

Each is for a log that already holds 1,000,000 entries, unless it says another size. V is one bare PyNaCl
verification, S a bare loop that puts the same rows into an LMDB of the same size (bench/floors.py); both are
measured in the same run, interleaved with what they are compared to.
"""

from __future__ import annotations

from bench.result import Bound, Target

APPEND = Target(
    name="append",
    text="server CPU per event of about 450 bytes, gRPC batches of 256, at 1,000,000 entries",
    limit=1.3,
    unit="x (V + S)",
)
APPEND_SMALL = Target(name="append-small", text="the same at 10,000 entries", limit=1.35, unit="x V")
LIBRARY = Target(
    name="library",
    text="CPU per event beyond S in the library, pre-verified entries, at 1,000,000 entries",
    limit=18.0,
    unit="us more than S",
)
SINGLE = Target(
    name="single",
    text="server CPU per event, one event an RPC, 64 in flight, at 1,000,000 entries",
    limit=1.6,
    unit="x (echo + V + S)",
)
LATENCY = Target(
    name="latency",
    text="p50 from call to verified receipt, one event, one client, nothing else",
    limit=2.0,
    unit="x (echo round trip + V + one durable commit)",
)
LATENCY_UNDER_LOAD = Target(
    name="latency-under-load", text="p99 at half the peak load", limit=50.0, unit="ms"
)
PROOF = Target(
    name="proof",
    text="server CPU per inclusion proof, batches of 256, random leaves of 10,000,000",
    limit=40.0,
    unit="us",
)
PROOF_GROWTH = Target(
    name="proof-growth", text="the same, compared to 10,000 leaves", limit=1.8, unit="x the cost at 10,000"
)
APPEND_GROWTH = Target(
    name="append-growth",
    text="server CPU per event at 10,000,000 entries",
    limit=1.25,
    unit="x the cost at 1,000,000",
)
APPEND_GROWTH_PLAIN = Target(
    name="append-growth-plain",
    text="append at 10,000,000 entries, without the random-key indexes",
    limit=1.15,
    unit="x the cost at 10,000",
)
START = Target(name="start", text="start of the server at 10,000,000 entries", limit=1.0, unit="s")
MEMORY = Target(
    name="memory", text="private memory a process, at any size, under load", limit=150.0, unit="MB"
)
DISK = Target(
    name="disk",
    text="disk per event beyond the entry itself and its business keys",
    limit=300.0,
    unit="bytes",
)
DISK_KEY = Target(name="disk-key", text="disk per business key", limit=150.0, unit="bytes")
REPLAY = Target(
    name="replay",
    text="monitor replay with full verification",
    limit=0.65,
    unit="x the rate of V alone",
    bound=Bound.AT_LEAST,
)
MIRROR = Target(
    name="mirror",
    text="mirror without signature checks",
    limit=100_000.0,
    unit="entries/s",
    bound=Bound.AT_LEAST,
)
WITNESSES = Target(
    name="witnesses",
    text="p50 until a quorum of three local witnesses, at 100 appends/s",
    limit=25.0,
    unit="ms",
)
FLOOD = Target(
    name="flood",
    text="p99 of a member's calls while another floods, default quotas, the flooder's CPU capped",
    limit=2.0,
    unit="x its p99 alone",
)

TARGETS: tuple[Target, ...] = (
    APPEND,
    APPEND_SMALL,
    LIBRARY,
    SINGLE,
    LATENCY,
    LATENCY_UNDER_LOAD,
    PROOF,
    PROOF_GROWTH,
    APPEND_GROWTH,
    APPEND_GROWTH_PLAIN,
    START,
    MEMORY,
    DISK,
    DISK_KEY,
    REPLAY,
    MIRROR,
    WITNESSES,
    FLOOD,
)
