"""`tlog status URL`: one table of how a log's own server is doing, from its metrics and its health."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

from tlog.cli.operator_page import get
from tlog.cli.options import LogOptions
from tlog.cli.report import Json, say, say_document, say_table
from tlog.errors import RemoteError
from tlog.exit_codes import ExitCode

RATE_OVER_S = 1.0
APPENDED = "tlog_append_entries_total"
SIZE = "tlog_tree_size_entries"
PUBLISHED = "tlog_published_size_entries"
WITNESS_CALLS = "tlog_publish_witness_calls_total"
QUOTA_REFUSED = "tlog_quota_refused_calls_total"
QUOTA_LEFT = "tlog_quota_left_ratio"
COSIGNED = "tlog_publish_witness_cosigned_timestamp_seconds"
ROWS = {
    "checkpoint_age_s": "tlog_checkpoint_age_seconds",
    "queued_entries": "tlog_sequencer_queue_entries",
    "pushed_back_calls": "tlog_append_pushback_calls_total",
    "over_quota_calls": "tlog_admission_over_quota_calls_total",
    "disk_free_bytes": "tlog_disk_free_bytes",
    "disk_min_free_bytes": "tlog_disk_min_free_bytes",
    "disk_horizon_s": "tlog_disk_horizon_seconds",
    "scrub_age_s": "tlog_scrub_age_seconds",
}
"""Which metric each line shows as it is."""
_SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def show_operator_status(url: str, log: LogOptions, *, watch_s: float | None, as_json: bool) -> ExitCode:
    """Show the table once, or again and again; IO_OR_REMOTE where the log is not ready.

    Raises RemoteError.
    """
    address = url.rstrip("/").removesuffix("/metrics")
    while True:
        before, asked_s = samples_of(address, log), time.monotonic()
        time.sleep(watch_s or RATE_OVER_S)
        rows, ready = _rows(address, log, before, time.monotonic() - asked_s)
        if as_json:
            say_document(rows)
        else:
            say_table(("what", "now"), [(name, _shown(value)) for name, value in rows.items()])
        if watch_s is None:
            return ExitCode.OK if ready else ExitCode.IO_OR_REMOTE
        say()


def _rows(address: str, log: LogOptions, before: Samples, seconds: float) -> tuple[dict[str, Json], bool]:
    samples = samples_of(address, log)

    def one(name: str) -> float | None:
        return samples.get((name, ()))

    def whole(name: str) -> int | None:
        value = one(name)
        return None if value is None or value in (float("inf"),) or value != value else int(value)

    def labelled(wanted: str) -> dict[str, float]:
        return {
            " ".join(value for _, value in labels): value
            for (name, labels), value in samples.items()
            if name == wanted
        }

    _, body = get(f"{address}/readyz", log.tls(), log.timeout_s)
    try:
        readiness = json.loads(body)
        ready = bool(readiness["ready"])
        wrong = [f"{check['check']}: {check['reason']}" for check in readiness["checks"] if not check["ok"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_a_log(address) from error
    appended, earlier = one(APPENDED), before.get((APPENDED, ()))
    size, published = whole(SIZE), whole(PUBLISHED)
    now_s = time.time()
    rows: dict[str, Json] = {
        "ready": ready,
        "wrong": wrong,
        "size": size,
        "published": published,
        "lag": None if size is None or published is None else size - published,
        "entries_per_s": None
        if appended is None or earlier is None
        else round((appended - earlier) / seconds, 1),
        **{row: one(name) if row.endswith("age_s") else whole(name) for row, name in ROWS.items()},
        "quota_refused_calls": {
            member: {limit: int(calls) for limit, calls in limits.items()}
            for member, limits in by_member(samples, QUOTA_REFUSED).items()
        },
        "quota_left_percent": {
            member: {limit: round(100 * ratio, 1) for limit, ratio in limits.items()}
            for member, limits in by_member(samples, QUOTA_LEFT).items()
        },
        "witness_calls": labelled(WITNESS_CALLS),
        "witness_cosigned_s_ago": {
            witness: round(now_s - cosigned_s, 1) for witness, cosigned_s in labelled(COSIGNED).items()
        },
    }
    return rows, ready


def by_member(samples: Samples, name: str) -> dict[str, dict[str, float]]:
    """Return a metric's values by member, and by limit."""
    found: dict[str, dict[str, float]] = {}
    for (one, labels), value in samples.items():
        if one == name:
            said = dict(labels)
            found.setdefault(said["member"], {})[said["limit"]] = value
    return found


def samples_of(address: str, log: LogOptions) -> Samples:
    """Fetch a log's metrics. Raises RemoteError."""
    status, body = get(f"{address}/metrics", log.tls(), log.timeout_s)
    found = {
        (one["name"], tuple(_LABEL.findall(one["labels"] or ""))): float(one["value"])
        for one in _SAMPLE.finditer(body.decode("utf-8", "replace"))
    }
    if status != 200 or (SIZE, ()) not in found:
        raise _not_a_log(address)
    return found


def _not_a_log(address: str) -> RemoteError:
    return RemoteError(f"{address} does not answer as a log's metrics do: is this its metrics port?")


def _shown(value: Json) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "NO"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.1f}"
        case str():
            return value
        case Mapping():
            return (
                "\n".join(f"{name}: " + _shown(one).replace("\n", ", ") for name, one in value.items()) or "-"
            )
        case _:
            return "\n".join(_shown(one) for one in value) or "-"
