"""Prometheus metrics, named `tlog_<stage>_<what>_<unit>`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server.disk_room import DiskRoom
from server.health import Verdict
from server.metrics_histogram import Histogram, Observations
from server.metrics_merge import QUEUE_BYTES, QUEUE_ENTRIES, MergedCollector, added_samples
from server.wire import Sample
from tlog.errors import QuotaError, RefusedError, StorageError

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ENTRIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000, 2_000, 4_000)

CALLERS = "(callers)"
"""Stands where a quota is no member's; no member's identifier is spelled so."""


class Metrics:
    """Counts what the server does; every instance has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._appended = Counter(
            "tlog_append_entries", "Entries appended (new leaves).", registry=self.registry
        )
        self._present = Counter(
            "tlog_append_present_entries", "Entries sent that were already present.", registry=self.registry
        )
        self._refused = Counter(
            "tlog_validate_refused_entries", "Entries refused, by reason.", ["reason"], registry=self.registry
        )
        self._pushbacks = Counter(
            "tlog_append_pushback_calls", "Append calls pushed back by a full queue.", registry=self.registry
        )
        self._over_quota = Counter(
            "tlog_admission_over_quota_calls",
            "Calls refused because a caller or a member had its share.",
            registry=self.registry,
        )
        self._quota_refused_calls = Counter(
            "tlog_quota_refused_calls",
            "Calls that a quota refused: whose, a member's identifier or (callers), and by which limit.",
            ["member", "limit"],
            registry=self.registry,
        )
        self._quota_refused_entries = Counter(
            "tlog_quota_refused_entries",
            "Entries of appends that a quota refused, by whose it is and which limit.",
            ["member", "limit"],
            registry=self.registry,
        )
        self._calls = Histogram(
            "tlog_grpc_call_seconds",
            "Time from a call's arrival to its end.",
            ["method", "code"],
            bounds=_SECONDS,
            registry=self.registry,
        )
        self._tile_requests = Histogram(
            "tlog_tiles_request_seconds",
            "Time from a tile request's arrival to its response's last byte.",
            ["kind", "code"],
            bounds=_SECONDS,
            registry=self.registry,
        )
        self._tile_bytes = Counter(
            "tlog_tiles_response_bytes",
            "Bytes of tile responses' bodies, compressed where they were.",
            ["kind"],
            registry=self.registry,
        )
        self._commit_entries = Histogram(
            "tlog_commit_batch_entries", "New entries in a commit.", bounds=_ENTRIES, registry=self.registry
        ).labels()
        self._commit = self._seconds(
            "tlog_commit_duration_seconds", "Time to sequence, integrate, sign and store a commit."
        )
        self._fsync = self._seconds(
            "tlog_commit_store_seconds", "Time of a commit's storage transaction, fsync included."
        )
        self._queue_wait = self._seconds(
            "tlog_queue_wait_seconds", "Time that the first call of a commit waited for the sequencer."
        )
        self._verify = self._seconds(
            "tlog_verify_seconds", "Time from an Append's arrival until its signatures are checked."
        )
        self._sequence = self._seconds(
            "tlog_sequence_seconds", "Time to authorise, integrate and sign a commit."
        )
        self._publish = self._seconds(
            "tlog_publish_delay_seconds", "Time from the first unpublished commit to the publication."
        )
        self._answer = self._seconds(
            "tlog_answer_seconds", "Time from an Append's commit to its answer, proofs included."
        )
        self._told_size = -1
        self._unpublished_since_s: float | None = None
        self._failures = Counter(
            "tlog_commit_failures", "Commits that the store refused or failed.", registry=self.registry
        )
        self._queued_entries = Gauge(
            QUEUE_ENTRIES, "Entries waiting for the sequencer.", registry=self.registry
        )
        self._queued_bytes = Gauge(QUEUE_BYTES, "Bytes waiting for the sequencer.", registry=self.registry)
        self._tree_size = Gauge(
            "tlog_tree_size_entries", "Committed tree size in leaves.", registry=self.registry
        )
        self._contradictions = Counter(
            "tlog_gossip_contradictions",
            "Checkpoints with this log's signature that are not of its tree.",
            registry=self.registry,
        )
        self._published_size = Gauge(
            "tlog_published_size_entries", "Published tree size in leaves.", registry=self.registry
        )
        self._ready = Gauge(
            "tlog_ready",
            "Whether entries are taken and what is published is fresh: what health says.",
            registry=self.registry,
        )
        self._published_at = time.monotonic()
        Gauge(
            "tlog_checkpoint_age_seconds",
            "Time since the published checkpoint last changed (or since the start).",
            registry=self.registry,
        ).set_function(lambda: time.monotonic() - self._published_at)

        self._frozen = Gauge("tlog_log_frozen", "1 when the log is frozen.", registry=self.registry)
        self._signer_away = Gauge(
            "tlog_signer_away",
            "1 while the process that holds the log's key is away.",
            registry=self.registry,
        )
        self._quorum = self._seconds(
            "tlog_publish_quorum_seconds", "Time from the first question to the witnesses to their quorum."
        )
        self._failed_rounds = Counter(
            "tlog_publish_failed_rounds", "Rounds that did not reach the quorum.", registry=self.registry
        )
        self._witness_calls = Counter(
            "tlog_publish_witness_calls",
            "Calls to witnesses, by outcome.",
            ["witness", "outcome"],
            registry=self.registry,
        )
        self._witness_cosigned = Gauge(
            "tlog_publish_witness_cosigned_timestamp_seconds",
            "Unix time at which a witness last cosigned, as far as this run of the server knows.",
            ["witness"],
            registry=self.registry,
        )
        self._restore_gap = Gauge(
            "tlog_restore_gap",
            "1 while nothing is signed because the store is older than what this log had signed.",
            registry=self.registry,
        )

    def watch_restore_gap(self, has_gap: Callable[[], bool]) -> None:
        """Look at scrape time whether the store is known to be older than what was signed."""
        self._restore_gap.set_function(lambda: float(has_gap()))

    def frozen(self, is_frozen: bool) -> None:
        """Say whether the log is frozen."""
        self._frozen.set(int(is_frozen))

    def watch_signer(self, is_away: Callable[[], bool]) -> None:
        """Look at scrape time whether the process that holds the log's key can be asked."""
        self._signer_away.set_function(lambda: float(is_away()))

    def watch_room(self, room: DiskRoom) -> None:
        """Measure the disk and the store at scrape time; what cannot be measured is not a number."""

        def gauge(name: str, says: str, measure: Callable[[], float]) -> None:
            def measured() -> float:
                try:
                    return measure()
                except (OSError, StorageError):
                    return math.nan

            Gauge(name, says, registry=self.registry).set_function(measured)

        gauge("tlog_disk_free_bytes", "What of the store's disk is free.", room.free_bytes)
        gauge("tlog_disk_min_free_bytes", "What of it stays free.", lambda: room.min_free_bytes)
        gauge(
            "tlog_disk_horizon_seconds",
            "Time until appends are refused, if the store grows on as in the last hour.",
            room.horizon_s,
        )
        gauge("tlog_store_file_bytes", "Size of the store's file.", room.file_bytes)
        gauge("tlog_store_used_bytes", "What of its map the data reach to.", lambda: room.usage().used_bytes)
        gauge("tlog_store_map_bytes", "Address space of the map.", lambda: room.usage().map_bytes)

    def watch_health(self, look: Callable[[], Verdict]) -> None:
        """Look at health at scrape time."""
        self._ready.set_function(lambda: float(look().ready))

        class Checks(Collector):
            def collect(self) -> Iterator[Metric]:
                family = GaugeMetricFamily(
                    "tlog_health_check_ok", "Whether a check of health finds nothing wrong.", labels=["check"]
                )
                for finding in look().findings:
                    family.add_metric([finding.check], float(finding.reason is None))
                yield family

        self.registry.register(Checks())

    def watch_quotas(self, left: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Ask at scrape time, in a thread, which part of each limit members have left."""

        class Left(Collector):
            def collect(self) -> Iterator[Metric]:
                family = GaugeMetricFamily(
                    "tlog_quota_left_ratio",
                    "Part of a limit that a member who appended lately has left now; below 0 is a debt.",
                    labels=["member", "limit"],
                )
                for member, limits in left().items():
                    for limit, ratio in limits.items():
                        family.add_metric([member, limit], ratio)
                yield family

        self.registry.register(Left())

    def watch_scrub(self) -> None:
        """Show how the scrub stands, of a server that has one."""
        self._scrubbed_s = time.monotonic()
        self._scrub_position = Gauge(
            "tlog_scrub_position",
            "Leaves that this round of the scrub has looked at.",
            registry=self.registry,
        )
        self._scrub_failures = Counter(
            "tlog_scrub_failures", "Times that the scrub has found damage.", registry=self.registry
        )
        Gauge(
            "tlog_scrub_age_seconds",
            "Time since a whole round of the scrub ended well (or since the start).",
            registry=self.registry,
        ).set_function(lambda: time.monotonic() - self._scrubbed_s)

    def scrubbed(self, position: int) -> None:
        """Note how many leaves this round has looked at."""
        self._scrub_position.set(position)

    def scrub_round(self) -> None:
        """Note that a whole round ended well."""
        self._scrubbed_s = time.monotonic()

    def scrub_failed(self) -> None:
        """Count one time that damage was found."""
        self._scrub_failures.inc()

    def watch_queue(self, entries: Callable[[], int], size_bytes: Callable[[], int]) -> None:
        """Read the queue's depth at scrape time."""
        self._queued_entries.set_function(entries)
        self._queued_bytes.set_function(size_bytes)

    def refused(self, error: RefusedError) -> None:
        """Count one refused entry."""
        self._refused.labels(error.reason.value).inc()

    def pushed_back(self) -> None:
        """Count one Append call that found the queue full."""
        self._pushbacks.inc()

    def over_quota(self, error: QuotaError, entries: int) -> None:
        """Count one call, of so many entries, that a quota refused."""
        self._over_quota.inc()
        whose = error.member or CALLERS
        self._quota_refused_calls.labels(whose, error.limit).inc()
        self._quota_refused_entries.labels(whose, error.limit).inc(entries)

    def already_present(self, entries: int) -> None:
        """Count entries that were sent again."""
        self._present.inc(entries)

    def committed(self, entries: int, *, duration_s: float, store_s: float) -> None:
        """Count one commit that made new leaves durable."""
        self._appended.inc(entries)
        self._commit_entries.observe(entries)
        self._commit.observe(duration_s)
        self._fsync.observe(store_s)
        self._sequence.observe(max(0.0, duration_s - store_s))

    def waited(self, seconds: float) -> None:
        """Count how long the first call of a commit has waited for the sequencer."""
        self._queue_wait.observe(seconds)

    def verified(self, seconds: float) -> None:
        """Count how long one call was until its signatures were checked."""
        self._verify.observe(seconds)

    def answered(self, seconds: float) -> None:
        """Count how long one call was from the commit to its answer, proofs included."""
        self._answer.observe(seconds)

    def committed_size(self, tree_size: int) -> None:
        """Note the size of the newest committed checkpoint."""
        self._tree_size.set(tree_size)
        if 0 <= self._told_size < tree_size and self._unpublished_since_s is None:
            self._unpublished_since_s = time.monotonic()

    def commit_failed(self) -> None:
        """Count one commit that did not happen."""
        self._failures.inc()

    def contradicted(self) -> None:
        """Count one checkpoint with this log's signature that is not of its tree."""
        self._contradictions.inc()

    def published(self, tree_size: int) -> None:
        """Note a newly published checkpoint."""
        self._published_size.set(tree_size)
        self._published_at = time.monotonic()
        if tree_size > self._told_size:
            since_s, self._unpublished_since_s = self._unpublished_since_s, None
            if since_s is not None:
                self._publish.observe(self._published_at - since_s)
        self._told_size = tree_size

    def round_done(self, seconds: float) -> None:
        """Count one round of witnesses that met the quorum."""
        self._quorum.observe(seconds)

    def round_failed(self) -> None:
        """Count one round of witnesses that did not."""
        self._failed_rounds.inc()

    def witness_asked(self, url: str, outcome: str) -> None:
        """Count one call to a witness; `outcome` is `cosigned`, or the name of the error."""
        self._witness_calls.labels(url, outcome).inc()
        if outcome == "cosigned":
            self._witness_cosigned.labels(url).set_to_current_time()

    def call(self, method: str, code: str, seconds: float) -> None:
        """Count one finished gRPC call."""
        self._calls.labels(method, code).observe(seconds)

    def tile_request(self, kind: str, code: str, *, seconds: float, body_bytes: int) -> None:
        """Count a tile request: `kind` is checkpoint, tile, entries or other, `code` a status or aborted."""
        self._tile_requests.labels(kind, code).observe(seconds)
        self._tile_bytes.labels(kind).inc(body_bytes)

    def _seconds(self, name: str, says: str) -> Observations:
        return Histogram(name, says, bounds=_SECONDS, registry=self.registry).labels()

    def samples(self) -> tuple[Sample, ...]:
        """Return what this process adds to the page of its main process."""
        return added_samples(self.registry)

    def page(self, accept: str, others: Callable[[], Sequence[Sample]] = tuple) -> tuple[bytes, str]:
        """Make the page that an Accept header asks for, with what `others` returns; says its content type."""
        page = CollectorRegistry()
        page.register(MergedCollector(self.registry, others))
        encode, content_type = choose_encoder(accept)
        return encode(page), content_type
