"""Pictures of results, drawn by matplotlib (an extra: `pip install 'gcheap[plot]'`).

A picture is a pure function of a JSON document; PNG or SVG, by the ending of the file's name.
"""
import io
import os

from gcheap.errors import GcheapError
from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.text import printable
from gcheap.tools.output import check_target, write_whole
from gcheap.units import counted

ENDINGS = (".png", ".svg")
DOTS_PER_INCH = 150
# Okabe and Ito's colours, which colour-blind people tell apart.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
OPERATIONS = {                  # operation -> (label, colour, marker)
    "move": ("UFFDIO_MOVE", BLUE, "o"),
    "copy": ("UFFDIO_COPY", RED, "s"),
    "zeropage": ("UFFDIO_ZEROPAGE", GREEN, "^"),
    "fault": ("page fault (no batch)", BLACK, None),
    "populate": ("MADV_POPULATE_WRITE", "#808080", "v"),
    "madvise": ("MADV_DONTNEED", ORANGE, "D"),
    "mremap": ("mremap", PURPLE, "P"),
    "memcpy": ("memcpy", SKY, "X"),
}
SERVERS = {"sigbus": ("SIGBUS handler", BLUE, "o"), "reader": ("reader thread", RED, "s")}
CLAIMS = {"allocated": "pages allocated", "recycled": "pages recycled"}
BESIDE = {0: "alone", 1: "beside a running thread"}


def check(target):
    """Raise what would keep `target` from being drawn, before a run is spent on it."""
    if os.path.splitext(target)[1].lower() not in ENDINGS:
        raise GcheapError(f"--plot {target}: expected a file name that ends in "
                          f"{' or '.join(ENDINGS)}")
    check_target(target)
    _figure_class()


def draw_uffd(document, target):
    """Draw the document of `gcheap bench uffd` to the file `target`, whole or not at all."""
    figure = _figure_class()(figsize=(12.5, 9.5), layout="constrained")
    axes = figure.subplots(2, 2)
    threads = document["config"]["threads"]
    for at, axis in enumerate(axes[0]):
        if at < len(threads):
            _costs(axis, document, threads[at])
        else:
            axis.set_axis_off()
    _level(axes[0][:len(threads)])
    _faults(axes[1][0], document)
    _claims(axes[1][1], document)
    # Where no line runs: many pages per call are cheap, single ones are not.
    axes[0][0].legend(fontsize=8, ncols=2, loc="lower left")
    # Names of CPUs and kernels are no formulas, whatever they hold.
    figure.suptitle("Page operations: " + printable(_machine(document)), fontsize=12,
                    parse_math=False)
    _save(figure, target)


def _costs(axis, document, threads):
    """ns per page over pages per call, the interval of the median as a band."""
    batches = document["config"]["batches"]
    for name, (label, colour, marker) in OPERATIONS.items():
        rows = [row for row in document["costs"]
                if row["operation"] == name and row["threads"] == threads]
        medians, lows, highs = ([row["ns_per_page"][key] for row in rows]
                                for key in ("median", "low", "high"))
        if not rows:
            continue
        if marker is None:
            axis.axhline(medians[0], color=colour, linestyle="--", linewidth=1.2, label=label)
            axis.axhspan(lows[0], highs[0], color=colour, alpha=0.12, linewidth=0)
            continue
        at = [row["batch"] for row in rows]
        axis.plot(at, medians, color=colour, marker=marker, markersize=5, linewidth=1.6,
                  label=label)
        axis.fill_between(at, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_xlabel("pages per call")
    axis.set_ylabel(f"time per page of {format_size(document['machine']['page_size'])} (ns)")
    axis.set_title(f"Cost of a page, {BESIDE[threads]}")
    _plain_numbers(axis.yaxis)


def _level(axes):
    """The same y range on all, so that they can be compared."""
    low = min(axis.get_ylim()[0] for axis in axes)
    high = max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(low / 2, high)        # room for the legend


def _faults(axis, document):
    """µs per fault over the pages that the server brings at each."""
    for name, (label, colour, marker) in SERVERS.items():
        for threads in document["config"]["threads"]:
            rows = [row for row in document["faults"]
                    if row["served_by"] == name and row["threads"] == threads]
            if not rows:
                continue
            medians, lows, highs = ([row["ns_per_fault"][key] / 1e3 for row in rows]
                                    for key in ("median", "low", "high"))
            axis.errorbar(
                [row["pages_per_fault"] for row in rows], medians,
                yerr=_around(medians, lows, highs), color=colour, marker=marker, markersize=6,
                linewidth=1.6, capsize=4, linestyle="--" if threads else "-",
                markerfacecolor="white" if threads else colour,
                label=f"{label}, {BESIDE[threads]}")
    pages = document["config"]["pages_per_fault"]
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(pages, [str(count) for count in pages])
    axis.set_xlabel("pages brought per fault")
    axis.set_ylabel("time of a fault (µs)")
    axis.set_title("A fault served with UFFDIO_MOVE")
    _plain_numbers(axis.yaxis)
    if document["faults"]:
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.35)         # room for the legend
        axis.legend(fontsize=9, loc="upper left")


def _claims(axis, document):
    """COPY / MOVE of both claims: right of 1 MOVE is the faster one."""
    batches = document["config"]["claim_batches"]
    names = {}                          # y -> what its row is of
    labelled = set()
    for claim, heading in CLAIMS.items():
        rows = [row for row in document["claims"] if row["claim"] == claim]
        if not rows:
            continue
        first = len(names) + 1
        names[first - 1] = heading
        names |= {first + at: _pages(batch) for at, batch in enumerate(batches)}
        for row in rows:
            threads = row["threads"]
            _ratio(axis, row["copy_over_move"], first + batches.index(row["batch"]), threads,
                   None if threads in labelled else BESIDE[threads])
            labelled.add(threads)
        published = document["published"][claim]["copy_over_move"]
        axis.plot([published] * 2, [first - 0.4, len(names) - 0.6], color=BLACK,
                  linestyle=":", linewidth=1.8,
                  label=None if "published" in labelled else "published")
        labelled.add("published")
    axis.axvline(1, color="#808080", linewidth=1)
    axis.set_xscale("log")
    axis.set_yticks(list(names), list(names.values()))
    for y, label in zip(names, axis.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if names[y] in CLAIMS.values() else "normal")
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("time of COPY / time of MOVE (right of 1: MOVE is faster)")
    axis.set_title("The two published claims, by pages per call")
    _plain_numbers(axis.xaxis)
    if labelled:
        axis.legend(fontsize=9, loc="upper right")


def _ratio(axis, ratio, y, threads, label):
    """One median with its interval; the one beside a running thread a little lower."""
    axis.errorbar(
        [ratio["median"]], [y + (0.14 if threads else -0.14)],
        xerr=_around([ratio["median"]], [ratio["low"]], [ratio["high"]]),
        color=ORANGE if threads else BLUE, marker="s" if threads else "o", markersize=6,
        capsize=3, linestyle="none", label=label)


def _pages(batch):
    return counted(batch, "page")


def _around(medians, lows, highs):
    """Distances below and above, as errorbar wants them."""
    return [[m - low for m, low in zip(medians, lows, strict=True)],
            [high - m for m, high in zip(medians, highs, strict=True)]]


def _plain_numbers(axis):
    """1, 2, 5, 10 ... written out on a logarithmic axis, instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.grid(True, which="major", color="#D8D8D8", linewidth=0.6)
    axis.axes.set_axisbelow(True)


def _machine(document):
    return f"{describe(document)}; medians of {counted(document['rounds'], 'round')}"


def _save(figure, target):
    picture = io.BytesIO()
    ending = os.path.splitext(target)[1].lower().lstrip(".")
    figure.savefig(picture, format=ending, dpi=DOTS_PER_INCH)
    write_whole(target, picture.getvalue())


def _figure_class():
    """matplotlib's Figure: no window system, and pyplot's global state is not touched."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GcheapError(f"--plot needs matplotlib: pip install 'gcheap[plot]' "
                          f"({error})") from None
    return Figure
