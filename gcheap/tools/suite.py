"""What all suites of `gcheap bench` share: how one runs, takes turns, and what its document has.

    run_suite   the target is checked; measuring, until done or Ctrl-C; the document; the tables
    take_turns  every round runs every case, A B C A B C ..., so that drift of the machine meets all
                of them alike
    metrics     the part of a document that `gcheap compare` reads, the same for every suite

A document is {"version", "machine", "provenance", "benchmark", "config", "rounds", "interrupted",
"interval", "metrics", ...} and whatever else the suite knows.  `metrics` maps a figure's name to

    {"unit": "ns", "better": "less" | "more" | None, "values": [one a repetition],
     "median": m, "low": l, "high": h, "rounds": n}

`better` None: a figure that has no good side.
"""
from rich.text import Text

from gcheap.provenance import stamp
from gcheap.tools.consoles import progress_console, result_console
from gcheap.tools.intervals import interval_facts, summary
from gcheap.tools.output import check_log, check_targets, emit_json
from gcheap.units import duration, percent
from gcheap.workloads.document import noise_of

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130


def run_suite(name, args, config, measure, summarize, show, noise_seconds=0.0):
    """Runs a suite, returns its exit status.

    measure(console)    measures; Ctrl-C may end it anywhere
    summarize()         the suite's own part of the document, of what was measured until then:
                        "rounds", "metrics", ...; "verified" False makes the exit status 1
    show(document, console)     prints it
    noise_seconds       of the control loop that is run first and joins the document as
                        `noise_floor_us`; every suite that shows pauses has it
    """
    check_targets([("--json", args.json), ("--plot", getattr(args, "plot", None))])
    check_log(args.json)
    results = result_console(args.json)
    began = stamp(config.get("seed"))
    console = progress_console()
    interrupted = False
    try:
        if noise_seconds:
            began["noise_floor_us"] = noise_floor(noise_seconds)
        measure(console)
    except KeyboardInterrupt:
        interrupted = True
    document = document_of(name, config, summarize(), began, interrupted)
    if document["rounds"]:
        show(document, results)
    else:
        console.print(Text("interrupted before a whole round was done"))
    if args.json:
        emit_json(document, args.json)
    if interrupted:
        return EXIT_INTERRUPTED
    return 0 if document.get("verified", True) else EXIT_WRONG


def document_of(name, config, found, began, interrupted=False):
    """The whole document: `began` is the stamp, `found` the suite's own part."""
    return began | {"benchmark": name, "config": config, "interrupted": interrupted,
                    "interval": interval_facts(found["rounds"])} | found


def noise_floor(seconds):
    """Of a control loop that never touches a heap: as a run of `gcheap stress` has it."""
    from gcheap.workloads._noise import measure_noise

    return noise_of(measure_noise(seconds))


def noise_line(document):
    """What this machine does to a loop that touches no heap, in a line."""
    noise = document.get("noise_floor_us")
    if noise is None:
        return Text("the machine's noise floor was not measured")
    p99, longest = (duration(noise[name] * 1e3) for name in ("p99", "max"))
    return Text(f"the machine's noise floor (a loop that touches no heap, one thread, "
                f"{noise['seconds']:.1f} s before all rounds): p99 {p99}, longest {longest}, "
                f"MMU at 10 ms {percent(noise['mmu']['10ms'])}")


def take_turns(rounds, cases, take, rows, console):
    """Appends `{"round", "case", **take(case)}` to `rows` for every case of every round.

    `take` returns a dict with the line of progress under "progress", which is not kept.
    """
    for number in range(1, rounds + 1):
        for case in cases:
            row = take(case)
            console.print(Text(f"round {number}/{rounds}  {case}: {row.pop('progress')}"))
            rows.append({"round": number, "case": case, **row})


def whole_rounds(rows, cases):
    """[{case: row}] of the rounds in which every case ran."""
    turns = {}
    for row in rows:
        turns.setdefault(row["round"], {})[row["case"]] = row
    return [turn for turn in turns.values() if len(turn) == len(cases)]


def metric(unit, better, values):
    """One figure of a document's `metrics`; a value of None is left out."""
    values = [value for value in values if value is not None]
    return {"unit": unit, "better": better, "values": values} | summary(values)


def metrics_of(turns, cases, units):
    """`metrics` of whole rounds: "CASE: KEY" for every case, and every key of `units`, which maps
    it to (unit, better)."""
    return {f"{case}: {key.replace('_', ' ')}": metric(
                unit, better, [turn[case].get(key) for turn in turns])
            for case in cases for key, (unit, better) in units.items()}
