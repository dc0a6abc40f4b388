"""Writes deploy/dashboard.json, which Grafana imports: `python deploy/make_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path

APPENDS = 'tlog_grpc_call_seconds_bucket{method="Append",code="OK"}'


def p99(buckets: str) -> str:
    """Return the query of the 99th percentile of a histogram."""
    return f"histogram_quantile(0.99, sum by (le) (rate({buckets}[1m])))"


PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Ready", "short", {"ready": "tlog_ready", "{{check}}": "tlog_health_check_ok"}),
    ("Entries per second", "ops", {
        "appended": "rate(tlog_append_entries_total[1m])",
        "present already": "rate(tlog_append_present_entries_total[1m])",
        "refused": "sum(rate(tlog_validate_refused_entries_total[1m]))",
    }),
    ("Append calls per second, by status", "ops", {
        "{{code}}": 'sum by (code) (rate(tlog_grpc_call_seconds_count{method="Append"}[1m]))',
    }),
    ("Append latency, 99th percentile", "s", {"append": p99(APPENDS)}),
    ("Stages of an append, 99th percentile", "s", {
        "verify": p99("tlog_verify_seconds_bucket"),
        "queue": p99("tlog_queue_wait_seconds_bucket"),
        "sequence": p99("tlog_sequence_seconds_bucket"),
        "commit": p99("tlog_commit_store_seconds_bucket"),
        "publish": p99("tlog_publish_delay_seconds_bucket"),
        "answer": p99("tlog_answer_seconds_bucket"),
    }),
    ("Entries per commit", "short", {
        "mean": "rate(tlog_commit_batch_entries_sum[1m]) / rate(tlog_commit_batch_entries_count[1m])",
    }),
    ("Waiting", "short", {"entries": "tlog_sequencer_queue_entries"}),
    ("Committed, not published", "short", {
        "entries": "tlog_tree_size_entries - tlog_published_size_entries",
    }),
    ("Published checkpoint's age", "s", {"age": "tlog_checkpoint_age_seconds"}),
    ("Time to quorum, 99th percentile", "s", {"quorum": p99("tlog_publish_quorum_seconds_bucket")}),
    ("Witness calls per second", "ops", {
        "{{witness}} {{outcome}}": "sum by (witness, outcome) (rate(tlog_publish_witness_calls_total[1m]))",
    }),
    ("Since each witness cosigned", "s", {
        "{{witness}}": "time() - tlog_publish_witness_cosigned_timestamp_seconds",
    }),
    ("Signing", "short", {
        "signs": 'tlog_health_check_ok{check="signing"}',
        "restored, and something is missing": "tlog_restore_gap",
        "frozen": "tlog_log_frozen",
        "signer away": "tlog_signer_away",
    }),
    ("Scrub: since all of it was found right", "s", {"age": "tlog_scrub_age_seconds"}),
    ("Calls turned away per second", "ops", {
        "over quota": "rate(tlog_admission_over_quota_calls_total[1m])",
        "queue full": "rate(tlog_append_pushback_calls_total[1m])",
    }),
    ("Calls refused by quota per second, by member", "ops", {
        "{{member}} {{limit}}": "sum by (member, limit) (rate(tlog_quota_refused_calls_total[1m]))",
    }),
    ("What members have left of their quotas", "percentunit", {
        "{{member}} {{limit}}": "tlog_quota_left_ratio",
    }),
    ("Disk", "bytes", {
        "free": "tlog_disk_free_bytes",
        "floor": "tlog_disk_min_free_bytes",
        "store": "tlog_store_file_bytes",
    }),
    ("Disk horizon", "s", {"until appends are refused": "tlog_disk_horizon_seconds"}),
    ("Reads per second, by method", "ops", {
        "{{method}}": 'sum by (method) (rate(tlog_grpc_call_seconds_count{method!="Append"}[1m]))',
    }),
    ("Tile requests per second", "ops", {
        "{{kind}} {{code}}": "sum by (kind, code) (rate(tlog_tiles_request_seconds_count[1m]))",
    }),
)  # fmt: skip


def dashboard() -> dict[str, object]:
    """Return the dashboard as Grafana's JSON model."""
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
                for place, (legend, query) in enumerate(queries.items())
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    return {
        "title": "tlog",
        "uid": "tlog",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data"}]
        },
        "panels": panels,
    }


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "dashboard.json").write_text(text(), encoding="utf-8")
