"""What a report draws of several runs at once: percentiles, utilization, comparisons.

Each function draws on a matplotlib figure for one of two widths (`svg.drawn`), runs in the order
and colours in which the page names them.  Values are those of the documents; nothing is smoothed.
"""
from __future__ import annotations

import math

import numpy as np

from gcheap.percentiles import mean_and_deviation
from gcheap.report.svg import INK, run_class
from gcheap.units import NOTHING, duration, number, percent, size

# Panel -> (histogram, title): pauses first, and beside them what small pauses may hide.
WAITS = {"pause": "Pauses", "time_to_safepoint": "Time to safepoint", "fault": "Faults",
         "stall": "Allocation stalls", "operation": "Operations"}
TIME_TICKS = (1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11)
COMPARED = (
    ("relocation, median", lambda d: d["relocate_ms"]["p50"], lambda v: duration(v * 1e6)),
    ("longest pause", lambda d: d["pauses"]["max_us"], lambda v: duration(v * 1e3)),
    ("fault, p99", lambda d: d["faults"]["p99_us"], lambda v: duration(v * 1e3)),
    ("operation, p99.9", lambda d: d["op_latency_us"]["p99_9"], lambda v: duration(v * 1e3)),
    ("stalled in all", lambda d: d["stalls"]["total_ms"], lambda v: duration(v * 1e6)),
    ("least utilization over 50 ms", lambda d: d["mmu"]["50ms"], percent),
    ("operations", lambda d: d["ops_per_s"], lambda v: f"{number(v)}/s"),
    ("peak resident heap", lambda d: d["peak_heap_resident_bytes"], size),
)


def hdr_points(histogram):
    """(x, value) arrays of an HDR plot: x is log10(1 / (1 - q)), up to where one sample is left.

    The value at x is the nearest-rank percentile of gcheap.percentiles; the last one the maximum.
    """
    values = np.array(histogram["columns"]["value_ns"], dtype=np.float64)
    counts = np.array(histogram["columns"]["count"], dtype=np.float64)
    total = counts.sum()
    if not total:
        return np.zeros(0), np.zeros(0)
    below = np.cumsum(counts)
    end = math.log10(total)
    x = np.linspace(0, end, 240)
    ranks = np.clip(np.ceil((1 - 10.0 ** -x) * total - 1e-6), 1, total)
    at = np.minimum(np.searchsorted(below, ranks), len(values) - 1)
    y = np.minimum(values[at], histogram["max_ns"])
    return np.append(x, end), np.append(y, histogram["max_ns"])


def percentiles(figure, narrow, runs):
    """One panel a kind of wait, all with the same axis of time; the noise floor is in each."""
    kinds = shown_waits(runs)
    columns = min(2 if narrow or len(kinds) == 4 else 3, len(kinds))
    rows = -(-len(kinds) // columns)
    figure.set_figheight(rows * (2.15 if narrow else 2.7) + 0.25)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[len(kinds):]:
        axis.set_axis_off()
    for axis, kind in zip(axes, kinds, strict=False):
        _percentile_panel(axis, runs, kind, narrow)
    _time_axis(axes[0], runs, kinds)
    for at, axis in enumerate(axes[:len(kinds)]):
        if at % columns == 0:
            axis.set_ylabel("time")
        if at + columns >= len(kinds):
            axis.set_xlabel("percentile")


def shown_waits(runs):
    """The kinds of which some run has a sample."""
    return [kind for kind in WAITS
            if any(run.details["histograms"][kind]["count"] for run in runs)]


def _percentile_panel(axis, runs, kind, narrow):
    for at, run in enumerate(runs, 1):
        noise = run.details["histograms"].get("noise_floor")
        if noise:
            x, y = hdr_points(noise)
            line, = axis.plot(x, np.maximum(y, 1), color=INK["noise"], linewidth=1,
                              linestyle=(0, (3, 2)))
            run_class(line, at)
    most = 0.0
    for at, run in enumerate(runs, 1):
        x, y = hdr_points(run.details["histograms"][kind])
        if not len(x):
            continue
        most = max(most, x[-1])
        colour = INK[f"run-{at}"]
        run_class(axis.plot(x, np.maximum(y, 1), color=colour)[0], at)
        run_class(axis.plot(x[-1:], np.maximum(y[-1:], 1), color=colour, marker="o",
                            markersize=4.5, markeredgecolor=INK["surface"],
                            markeredgewidth=0.8)[0], at)
    axis.set_title(WAITS[kind])
    end = max(2, math.ceil(most))
    every = -(-end // (2 if narrow else 4))     # as many labels as there is room for
    axis.set_xticks(range(end + 1), [percent_label(tick) if tick % every == 0 else ""
                                     for tick in range(end + 1)])
    axis.set_xlim(-0.02 * end, 1.02 * end)


def percent_label(tick):
    """90, 99, 99.9 … for log10(1 / (1 - q)) of 1, 2, 3 …"""
    return "0" if tick == 0 else f"{100 - 100 * 10.0 ** -tick:.{max(0, tick - 2)}f}"


def _time_axis(axis, runs, kinds):
    histograms = [run.details["histograms"][kind] for run in runs for kind in kinds]
    histograms += [run.details["histograms"]["noise_floor"] for run in runs
                   if run.details["histograms"].get("noise_floor")]
    most = max((histogram["max_ns"] for histogram in histograms), default=0)
    least = min((histogram["columns"]["value_ns"][0] for histogram in histograms
                 if histogram["count"]), default=1)
    axis.set_yscale("log")
    axis.set_ylim(10 ** math.floor(math.log10(max(1, least))) * 0.8, 2.2 * max(most, 10))
    log_time_ticks(axis.yaxis, most)


def log_time_ticks(axis, most):
    from matplotlib.ticker import FixedLocator, NullLocator
    ticks = [tick for tick in TIME_TICKS if tick <= 3 * max(most, 10)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_ticklabels([time_label(tick) for tick in ticks])
    axis.set_minor_locator(NullLocator())


def time_label(nanoseconds):
    """1 µs, 10 ms …, of a round number."""
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")):
        if nanoseconds < limit:
            return f"{nanoseconds / divisor:g} {unit}"
    return f"{nanoseconds / 1e9:g} s"


def utilization(figure, narrow, runs):
    """MMU over the length of the window; the noise floor dashed."""
    figure.set_figheight(2.9 if narrow else 3.3)
    axis = figure.subplots()
    most = 1e6
    for at, run in enumerate(runs, 1):
        columns = run.details["mmu"]["columns"]
        windows = columns["window_ns"]
        most = max([most, *windows])
        for name, colour, style in (("noise_floor", INK["noise"], (0, (3, 2))),
                                    ("worst_mutator", INK[f"run-{at}"], "-")):
            points = [(window, 100 * value) for window, value
                      in zip(windows, columns[name], strict=True) if value is not None and window]
            if points:
                line, = axis.plot(*zip(*points, strict=True), color=colour, linestyle=style,
                                  linewidth=1 if name == "noise_floor" else 1.8)
                run_class(line, at)
    axis.set_xscale("log")
    axis.set_ylim(-2, 103)
    axis.set_yticks(range(0, 101, 20 if narrow else 10),
                    [f"{tick} %" for tick in range(0, 101, 20 if narrow else 10)])
    axis.set_xlabel("length of the window")
    axis.set_ylabel("least share left to the mutator")
    log_time_ticks(axis.xaxis, most / 3)


def comparison(figure, narrow, runs):
    """A panel a figure, a bar a run, longest to the right; the page says which colour is which."""
    shown = [(title, [value_of(run.document) for run in runs], text_of)
             for title, value_of, text_of in COMPARED]
    shown = [row for row in shown if any(row[1])]
    columns = 1 if narrow else 2
    rows = -(-len(shown) // columns)
    figure.set_figheight(rows * (0.42 + 0.21 * len(runs)) + 0.1)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(shown):]:
        axis.set_axis_off()
    for axis, (title, values, text_of) in zip(axes, shown, strict=False):
        _bars(axis, title, values, text_of)


def _bars(axis, title, values, text_of):
    most = max(value or 0 for value in values)
    for at, value in enumerate(values):
        if value is not None:
            bar = axis.barh(at, value, height=0.72, color=INK[f"run-{at + 1}"])[0]
            run_class(bar, at + 1)
        text = axis.text((value or 0) + 0.015 * most, at,
                         NOTHING if value is None else text_of(value), va="center",
                         fontsize=8.5, color=INK["muted"])
        run_class(text, at + 1)
    axis.set_ylim(len(values) - 0.45, -0.55)
    axis.set_xlim(0, 1.25 * most)
    axis.set_title(title, fontweight="normal", pad=3)
    axis.set_axis_off()
    axis.plot([0, 0], [-0.5, len(values) - 0.5], color=INK["grid"], linewidth=1)


def summary_row(histogram):
    """Count, mean, percentiles and maximum in ns of a document's histogram; None: no sample."""
    if not histogram or not histogram["count"]:
        return None
    values, counts = histogram["columns"]["value_ns"], histogram["columns"]["count"]
    below = np.cumsum(np.array(counts, dtype=np.float64))
    mean, deviation = mean_and_deviation(values, counts)

    def at(q):
        rank = max(1.0, math.ceil(round(q * below[-1], 6)))
        return min(values[int(np.searchsorted(below, rank))], histogram["max_ns"])

    return {"count": histogram["count"], "mean": mean, "deviation": deviation,
            "min": values[0], "max": histogram["max_ns"], "at": at}
