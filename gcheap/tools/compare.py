"""`gcheap compare BEFORE AFTER`: what changed, and whether it stands out of the noise."""
from rich.text import Text

from gcheap.errors import GcheapError
from gcheap.text import printable
from gcheap.tools.arguments import add_json
from gcheap.tools.consoles import result_console
from gcheap.tools.differences import ALPHA, judge, repetitions_needed
from gcheap.tools.documents import load
from gcheap.tools.intervals import METHOD, ratio, summary
from gcheap.tools.output import check_targets, emit_json
from gcheap.tools.tables import new_table
from gcheap.units import NOTHING, duration, size, three_digits

WORDS = ("worse", "better", "changed", "cannot tell", "same")
STYLES = {"worse": "bold red", "better": "green", "changed": "yellow"}
NANOSECONDS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}
EXIT_WORSE = 1


def add(commands):
    parser = commands.add_parser(
        "compare", help="what changed between two results, and whether it is more than noise",
        description="Compare two JSON documents of the same suite of gcheap bench, or two of "
                    "gcheap stress. Exit status: 0 nothing got worse, 1 something did and stands "
                    "out of the noise, 2 they cannot be compared.")
    parser.add_argument("before", metavar="BEFORE.json")
    parser.add_argument("after", metavar="AFTER.json")
    parser.add_argument("--all", action="store_true",
                        help="show every figure, not only those that stand out")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args):
    check_targets([("--json", args.json)], [args.before, args.after])
    before, after = _read(args.before), _read(args.after)
    document = compare(before, after)
    show(document, result_console(args.json), everything=args.all)
    if args.json:
        emit_json(document, args.json)
    return EXIT_WORSE if document["counts"]["worse"] else 0


def _read(path):
    try:
        return load(path)
    except OSError as error:
        raise GcheapError(f"cannot read {path}: {error.strerror or error}") from None


def compare(before, after):
    """The document of a comparison of two Results; GcheapError when they are of two suites."""
    if before.suite != after.suite:
        raise GcheapError(f"{before.path} is of {before.suite} and {after.path} of {after.suite}: "
                          f"expected two documents of one suite")
    names = [name for name in before.figures if name in after.figures]
    if not names:
        raise GcheapError(f"{before.path} and {after.path} have no figure in common: other cases "
                          f"were measured")
    pairs = [(before.figures[name].values, after.figures[name].values,
              after.figures[name].better) for name in names]
    verdicts = judge(pairs)
    rows = [{"name": name, "unit": after.figures[name].unit, "better": better,
             "before": summary(a), "after": summary(b), **ratio(a, b),
             "p": verdict.p, "adjusted_p": verdict.adjusted, "verdict": verdict.word}
            for name, (a, b, better), verdict in zip(names, pairs, verdicts, strict=True)]
    return {
        "suite": before.suite,
        "before": _about(before), "after": _about(after),
        "machine_differs": _differences(before.machine, after.machine),
        "config_differs": _differences(before.config, after.config),
        "only_before": [name for name in before.figures if name not in after.figures],
        "only_after": [name for name in after.figures if name not in before.figures],
        "method": {"test": "Mann-Whitney, two-sided; Holm's correction over all figures that can "
                           "tell", "alpha": ALPHA, "interval": METHOD},
        "repetitions_needed": repetitions_needed(len(names)),
        "counts": {word: sum(row["verdict"] == word for row in rows) for word in WORDS},
        "figures": rows,
    }


def _about(results):
    return {"path": results.path, "version": results.version, "provenance": results.provenance}


def _differences(before, after):
    """{key: [before, after]} of what is not equal."""
    return {key: [before.get(key), after.get(key)] for key in sorted({*before, *after})
            if before.get(key) != after.get(key)}


# ---- the tables --------------------------------------------------------------------------

def show(document, console, everything=False):
    """Print a comparison: what differs beside the figures, then the figures."""
    for name in ("before", "after"):
        console.print(Text(f"{name}: {about(document[name])}"))
    for key, (a, b) in document["machine_differs"].items():
        console.print(Text(f"another machine: {key} {_plain(a)}, then {_plain(b)}",
                           style="bold yellow"))
    for key, (a, b) in document["config_differs"].items():
        console.print(Text(f"another configuration: {key} {_plain(a)}, then {_plain(b)}",
                           style="yellow"))
    shown = [row for row in document["figures"]
             if everything or row["verdict"] in ("worse", "better", "changed")]
    if shown:
        console.print()
        console.print(table(shown))
    console.print()
    for word in ("only_before", "only_after"):
        if document[word]:
            console.print(Text(f"{len(document[word])} figures {word.replace('_', ' ')}"))
    console.print(conclusion(document))


def about(side):
    """One line: which file, which gcheap, when, on how busy a machine."""
    made = side["provenance"]
    build = made.get("build") or {}
    parts = [side["path"], f"gcheap {side['version']}"]
    if build.get("commit"):
        parts.append(f"commit {build['commit'][:12]}" + ("+" if build.get("modified") else ""))
    if build.get("variant", "release") != "release":
        parts.append(f"build {build['variant']}")
    if made.get("date"):
        parts.append(made["date"])
    if made.get("load_average"):
        parts.append(f"load average {made['load_average'][0]:.1f}")
    return printable(", ".join(map(str, parts)))


def table(rows):
    made = new_table()
    for header in ("figure", "before", "after", "after / before", "verdict"):
        made.add_column(header, justify="left" if header in ("figure", "verdict") else "right",
                        overflow="fold", no_wrap=header != "figure")
    for row in rows:
        made.add_row(row["name"], _side(row, "before"), _side(row, "after"), _ratio(row),
                     Text(row["verdict"], style=STYLES.get(row["verdict"], "")))
    return made


def _side(row, name):
    side = row[name]
    if side["median"] is None:
        return NOTHING
    return f"{figure(side['median'], row['unit'])}\n{_range(side, row['unit'])}"


def _range(side, unit):
    return f"{figure(side['low'], unit)}–{figure(side['high'], unit)}"


def _ratio(row):
    if row["ratio"] is None:
        return NOTHING
    if row["low"] is None and row["high"] is None:      # one run of a side: no interval
        return f"{row['ratio']:.2f}"
    low, high = (NOTHING if row[key] is None else f"{row[key]:.2f}" for key in ("low", "high"))
    return f"{row['ratio']:.2f}\n{low}–{high}"


def figure(value, unit):
    """A value in its unit; times and sizes in the unit that fits."""
    if unit in NANOSECONDS:
        return duration(value * NANOSECONDS[unit])
    if unit == "B":
        return size(value)
    return f"{three_digits(value)}{' ' if unit and unit[0].isalpha() else ''}{unit}"


def conclusion(document):
    counts = document["counts"]
    told = len(document["figures"]) - counts["cannot tell"]
    parts = [f"{counts[word]} {word}" for word in ("worse", "better", "changed") if counts[word]]
    line = (f"{told} figures compared: " + (", ".join(parts) or "nothing stands out of the noise")
            + f" (at most {ALPHA:.0%} chance of any false alarm)")
    if not told:
        line = f"cannot tell: {len(document['figures'])} figures"
    if counts["cannot tell"]:
        line += (f"; too few repetitions of {counts['cannot tell']}: "
                 f"{document['repetitions_needed']} on each side would do")
    return Text(line, style="bold red" if counts["worse"] else "")


def _plain(value):
    return NOTHING if value is None else printable(str(value), 60)
