"""The rows of a report's tables, as text with units."""
from __future__ import annotations

from gcheap.options import BY_NAME, format_size
from gcheap.report.figures import WAITS, summary_row
from gcheap.text import printable
from gcheap.units import NOTHING, counted, duration, number, percent, size

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
# What may tell runs apart, in the order in which it is said.
TELLING = ("workload", "backend", "faults", "policy", "live", "capacity", "mutators", "unit_pages",
           "batch_units", "mark_threads", "settings", "verify", "relocate", "collect_every",
           "delay_placements_us", "seed", "seconds")
SIZES = ("live", "capacity")


def labels(runs):
    """A short name for each run, no two alike: what its configuration has that others' has not."""
    configs = [run.document["config"] | {"workload": run.document["workload"],
                                         "backend": run.document["backend"],
                                         "faults": run.document["fault_mode"]} for run in runs]
    texts = [""] * len(runs)
    for key in TELLING:
        values = [_value(key, config.get(key)) for config in configs]
        # What tells no two runs apart that are not told apart already is left out.
        if len(set(zip(texts, values, strict=True))) > len(set(texts)):
            texts = [f"{text}, {value}" if text else value
                     for text, value in zip(texts, values, strict=True)]
    texts = [text or printable(config["workload"], 60)
             for text, config in zip(texts, configs, strict=True)]
    return [text if texts.count(text) == 1 else f"{text} #{texts[:at + 1].count(text)}"
            for at, text in enumerate(texts)]


def _value(key, value):
    if key in SIZES and isinstance(value, int):
        return f"{format_size(value)} {'of capacity' if key == 'capacity' else key}"
    text = printable(_plain(value), 60)
    if key in ("workload", "backend", "policy", "settings"):
        return text
    return f"{key.replace('_', ' ')} {text}"


def _plain(value):
    """As people write it; the settings of a workload are an object."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {NOTHING if item is None else item}"
                         for key, item in value.items()) or NOTHING
    return str(value)


def heading(run):
    """What was run, in a line."""
    document = run.document
    config = document["config"]
    return (f"{printable(document['workload'], 60)}, {size(config['live'])} live in "
            f"{size(config['capacity'])}, {counted(config['mutators'], 'mutator')}, "
            f"{document['seconds']:.1f} s, backend {printable(document['backend'])}, faults "
            f"{printable(document['fault_mode'])}, seed {config['seed']}")


def machine(run):
    found = run.document["machine"]
    model = found.get("cpu_model") or found["architecture"]
    return (f"{number(found['cpus'])} CPUs ({printable(model, 80)}), "
            f"{size(found['memory_bytes'])} of memory, pages of {size(found['page_size'])}, "
            f"Linux {printable(found['kernel'], 80)}, gcheap {printable(run.document['version'])}")


def circumstances(run):
    """When it ran and how busy the machine was then, as far as the document says so."""
    found = run.document.get("provenance") or {}
    parts = [printable(found["date"], 60)] if found.get("date") else []
    if found.get("load_average"):
        parts.append("load average " + " ".join(f"{load:.1f}" for load in found["load_average"]))
    return ", ".join(parts)


def us(value):
    return duration(None if value is None else value * 1e3)


def ms(value):
    return duration(None if value is None else value * 1e6)


def noise_of(document, key):
    """A figure of the control loop, or None where it did not run."""
    return (document["noise_floor_us"] or {}).get(key)


def tiles(run):
    """[(name, value, what stands beside it)] of a single run."""
    document = run.document
    stalls, noise = document["stalls"], document["noise_floor_us"] or {}
    floor = f"noise floor {us(noise.get('max'))}" if noise else "no noise floor measured"
    quiet = percent((noise.get("mmu") or {}).get("10ms"))
    return [
        ("Longest pause", us(document["pauses"]["max_us"]), floor),
        ("Longest wait for room", ms(stalls["max_ms"]),
         f"allocation stalls: {number(stalls['count'])}, {ms(stalls['total_ms'])} in all"),
        ("Operation, p99.9", us(document["op_latency_us"]["p99_9"]),
         f"longest {us(document['op_latency_us']['max'])}"),
        ("Least utilization over 10 ms", percent(document["mmu"]["10ms"]),
         f"noise floor {quiet}"),
        ("Operations", f"{number(document['ops_per_s'])}/s",
         f"{number(document['ops'])} in {document['seconds']:.1f} s"),
        ("Peak resident heap", size(document["peak_heap_resident_bytes"]),
         f"{size(document['live_bytes'])} live at the end"),
    ]


SUMMARY = (
    ("pauses", lambda d: number(d["pauses"]["count"])),
    ("pause, p50 / p99", lambda d: f"{us(d['pauses']['p50_us'])} / {us(d['pauses']['p99_us'])}"),
    ("pause, longest", lambda d: us(d["pauses"]["max_us"])),
    ("noise floor, longest", lambda d: us(noise_of(d, "max"))),
    ("time to safepoint, p99 / longest", lambda d: f"{us(d['time_to_safepoint_us']['p99'])} / "
                                                   f"{us(d['time_to_safepoint_us']['max'])}"),
    ("faults (waits for another's unit)", lambda d: f"{number(d['faults']['count'])} "
                                                    f"({number(d['faults']['waits'])})"),
    ("fault, p99 / longest", lambda d: f"{us(d['faults']['p99_us'])} / "
                                       f"{us(d['faults']['max_us'])}"),
    ("allocation stalls", lambda d: number(d["stalls"]["count"])),
    ("stall, longest / in all", lambda d: f"{ms(d['stalls']['max_ms'])} / "
                                          f"{ms(d['stalls']['total_ms'])}"),
    ("operation, p99.9 / longest", lambda d: f"{us(d['op_latency_us']['p99_9'])} / "
                                             f"{us(d['op_latency_us']['max'])}"),
    ("least utilization over 10 / 50 ms", lambda d: f"{percent(d['mmu']['10ms'])} / "
                                                    f"{percent(d['mmu']['50ms'])}"),
    ("operations", lambda d: f"{number(d['ops_per_s'])}/s"),
    ("allocation", lambda d: f"{size(d['alloc_bytes_per_s'])}/s"),
    ("CPU time / the collector's", lambda d: " / ".join(
        ms((d.get("cost") or {}).get(key)) for key in ("cpu_ms", "collector_cpu_ms"))),
    ("cycles", lambda d: number(d["cycles"])),
    ("cycle, p50 / longest", lambda d: f"{ms(d['cycle_ms']['p50'])} / {ms(d['cycle_ms']['max'])}"),
    ("relocation, p50 / longest", lambda d: f"{ms(d['relocate_ms']['p50'])} / "
                                            f"{ms(d['relocate_ms']['max'])}"),
    ("moved / copied / recycled", lambda d: " / ".join(
        size(d["bytes"][key]) for key in ("moved", "copied", "recycled"))),
    ("peak resident heap", lambda d: size(d["peak_heap_resident_bytes"])),
    ("peak RSS of the process", lambda d: size(d["peak_rss_bytes"])),
)


def summary(runs):
    """[(name, [a text a run])]."""
    return [(name, [text(run.document) for run in runs]) for name, text in SUMMARY]


def percentile_rows(runs):
    """[(kind of wait, run number, [count, mean, percentiles, longest])], with the noise floors."""
    rows = []
    for kind, title in [*WAITS.items(), ("noise_floor", "Noise floor")]:
        for at, run in enumerate(runs, 1):
            row = summary_row(run.details["histograms"].get(kind))
            if row is not None:
                rows.append((title, at, [number(row["count"]), duration(row["mean"]), *(
                    duration(row["at"](q)) for q in QUANTILES.values()), duration(row["max"])]))
    return rows


def options(runs):
    """[(option of the run, [a text a run])]: all that its configuration says."""
    names = list(dict.fromkeys(name for run in runs for name in run.document["config"]))
    rows = []
    for name in names:
        values = [run.document["config"].get(name) for run in runs]
        rows.append((printable(name, 60), [
            size(value) if name in SIZES and isinstance(value, int) else
            NOTHING if value is None else printable(_plain(value), 120) for value in values],
            BY_NAME[name].help if name in BY_NAME else ""))
    return rows


def verdict(document):
    """(whether all is well, a sentence)."""
    if document["verified"]:
        return True, "Verified: every check passed."
    if document["failures"] == 0:
        return False, "Not verified: the run ended before its last check."
    failure = printable(document["failure"] or "a check failed", 200)
    return False, f"NOT verified: {failure}."
