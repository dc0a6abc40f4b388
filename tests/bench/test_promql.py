"""The part of PromQL that the dashboard is written in."""

from __future__ import annotations

import json
import math

import pytest
from _support.source_tree import ROOT

from bench.panels import named, read_panels
from bench.promql import Scrape, Vector, evaluate, parse_page

PAGES = [
    f"""\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{{method="Append",code="OK"}} {good}
calls_total{{method="Append",code="INTERNAL"}} {bad}
calls_total{{method="Lookup",code="OK"}} 7
took_bucket{{le="0.1"}} {fast}
took_bucket{{le="1.0"}} {slow}
took_bucket{{le="+Inf"}} {all_of_them}
size 12.5
"""
    for good, bad, fast, slow, all_of_them in ((0, 0, 0, 0, 0), (10, 0, 5, 5, 5), (40, 20, 95, 99, 105))
]
SCRAPES = [Scrape(at_s=1_000.0 + 10 * number, page=parse_page(page)) for number, page in enumerate(PAGES)]


def shown(vector: Vector) -> dict[str, float]:
    return {",".join(value for _, value in sorted(labels)): value for labels, value in vector.items()}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("size", {"": 12.5}),
        ("size - 2 * 5", {"": 2.5}),
        ("time() - size", {"": 1_007.5}),
        ('calls_total{method="Lookup"}', {"OK,Lookup": 7.0}),
        ('calls_total{method!="Append"}', {"OK,Lookup": 7.0}),
        ('sum(calls_total{code=~"OK|INTERNAL"})', {"": 67.0}),
        ("max(calls_total)", {"": 40.0}),
        # 10 s apart, and a minute holds all three.
        ("rate(calls_total[1m])", {"OK,Append": 2.0, "INTERNAL,Append": 1.0, "OK,Lookup": 0.0}),
        ("rate(calls_total[10s])", {"OK,Append": 3.0, "INTERNAL,Append": 2.0, "OK,Lookup": 0.0}),
        ("sum by (method) (rate(calls_total[1m]))", {"Append": 3.0, "Lookup": 0.0}),
        ("histogram_quantile(0.5, took_bucket)", {"": 0.1 * 52.5 / 95}),
        ("histogram_quantile(0.92, sum by (le) (took_bucket))", {"": 0.1 + 0.9 * (96.6 - 95) / 4}),
        ("histogram_quantile(0.99, took_bucket)", {"": 1.0}),
        ("nothing", {}),
    ],
)
def test_it_says_what_prometheus_says(expression: str, found: dict[str, float]) -> None:
    assert shown(evaluate(expression, SCRAPES)) == pytest.approx(found)


def test_a_histogram_without_samples_has_no_quantile() -> None:
    assert math.isnan(evaluate("histogram_quantile(0.9, took_bucket)", SCRAPES[:1])[frozenset()])


@pytest.mark.parametrize("expression", ["", "sum(size", "size)", "size size", "a or b", "rate(size)"])
def test_what_is_beyond_it_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"token|known"):
        evaluate(expression, SCRAPES)


def test_every_panel_of_the_dashboard_can_be_evaluated() -> None:
    panels = read_panels()
    assert len(panels) == len(json.loads((ROOT / "deploy" / "dashboard.json").read_text())["panels"])
    for panel in panels:
        for _, query in panel.queries:
            evaluate(query, SCRAPES)


def test_a_legend_is_made_of_labels() -> None:
    assert named("{{witness}} {{outcome}}", {"witness": "w1", "outcome": "cosigned"}) == "w1 cosigned"
