"""Draws charts as PNG files."""

from __future__ import annotations

from pathlib import Path

from bench.result import Chart


def draw(chart: Chart, folder: Path) -> Path:
    """Draw one chart into `folder`/<name>.png, and return that path."""
    # Here, as it takes half a second, and most runs of a test draw nothing.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(chart.lines.items()):
        ordered = sorted(points)
        axes.plot(
            [x for x, _ in ordered],
            [y for _, y in ordered],
            marker="osD^vP*X"[number % 8],
            label=name,
        )
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    for axis, is_log in ((axes.xaxis, chart.log_x), (axes.yaxis, chart.log_y)):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
        if is_log and axis is axes.yaxis:
            # Between the powers of ten too; along the other axis they would overlap.
            axis.set_minor_formatter(
                FuncFormatter(lambda value, _: _plain(value) if f"{value:e}"[0] in "25" else "")
            )
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(visible=True, alpha=0.3)
    if len(chart.lines) > 1:
        axes.legend()
    path = folder / f"{chart.name}.png"
    figure.savefig(path)
    return path


def _plain(value: float) -> str:
    return f"{value:,.12g}"
