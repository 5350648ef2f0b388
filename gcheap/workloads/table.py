"""The workloads of gcheap, as a table: `gcheap stress --list`, help and documentation read it."""

from __future__ import annotations

from importlib import import_module

from gcheap.errors import OptionError
from gcheap.options import Between, parse_size
from gcheap.text import shown
from gcheap.workloads.definition import Workload, anything, session_of, setting

KIB, MIB = 1 << 10, 1 << 20


def words(value, name):
    """The type of a setting that is text."""
    if not isinstance(value, str) or not value:
        raise OptionError(f"{name}={shown(value)}: expected text")
    return value


def native(name, shows, kind, *, module=None, check=False, threads=None, **more) -> Workload:
    """A workload whose worker is `kind` of the module of its name; `check`: the module has one."""
    module = f"gcheap.workloads.{module or '_' + name.replace('-', '_')}"
    return Workload(
        name, shows,
        session_of(lambda: getattr(import_module(module), kind),
                   (lambda config: import_module(module).threads(config)) if threads else None),
        check=(lambda config: import_module(module).check(config)) if check else anything,
        **more)


BUILT_IN = (
    native(
        "churn", "the general case: small nodes and arrays replaced at random, young garbage",
        "Churn", least=32 * KIB, check=True),
    native(
        "trees", "garbage that dies young beside one large live tree: binary trees built bottom-up",
        "Trees", least=8 * KIB, check=True, settings=(
            setting("depth", Between(1, 64), None, "of the largest trees; default: the greatest "
                    "that the live bytes allow"),)),
    native(
        "array-holes", "arrays of 16 bytes to 4 MiB: holes of every size, large runs, straddling",
        "ArrayHoles", least=64 * KIB, check=True),
    native(
        "gcbench", "Boehm's GCBench: a stretched heap, trees built top-down and bottom-up",
        "GCBench", least=64 * KIB, check=True, settings=(
            setting("depth", Between(6, 26), None, "of the long-lived and the largest short-lived "
                    "tree; the first is two levels deeper; default: 16, or what the live bytes "
                    "allow"),)),
    native(
        "lru-cache", "a cache of strings: objects that die in the order of their last use",
        "LruCache", least=64 * KIB, outside=0.1, settings=(
            setting("hit_ratio", Between(0, 100), 90, "percent of look-ups that hit"),)),
    native(
        "queue", "everything lives equally long: batches from a producer to a consumer mutator",
        "Queue", least=64 * KIB, settings=(
            setting("batch", Between(1, 1000), 32, "items handed over at a time"),)),
    native(
        "graph-mutate", "SATB's worst case: the only references to objects move while marking runs",
        "GraphMutate", least=64 * KIB, outside=0.3),
    native(
        "weak-table", "ephemerons and weak references: entries that die and must, or live and must",
        "WeakTables", least=64 * KIB, outside=1.2),
    native(
        "old-to-young", "a large old structure into which references to young objects are stored",
        "OldToYoung", least=64 * KIB, outside=0.1),
    native(
        "fragment", "survivors of growing sizes left thinly everywhere: nothing is ever dense",
        "Fragment", least=128 * KIB, outside=0.4),
    native(
        "big-arrays", "few, large arrays: huge pages, pages never touched, allocation in megabytes",
        "BigArrays", least=1 * MIB),
    native(
        "deep-list", "one list of up to 10 million cells: marking has nothing to do in parallel",
        "DeepList", least=64 * KIB, check=True, settings=(
            setting("cells", Between(1000, 10**9), None, "of each mutator's list; default: 10 "
                    "million, or what the live bytes allow"),)),
    native(
        "wide", "one array of up to 10 million slots: marking and fixing of a single large object",
        "Wide", least=64 * KIB, check=True, outside=0.25,
        most_live=lambda config: (config.settings["slots"] or 10_000_000) * 17, settings=(
            setting("slots", Between(1000, 10**9), None, "of the array that all mutators share; "
                    "default: 10 million, or what the live bytes allow"),)),
    native(
        "many-roots", "pauses against the number of handles, which the flip rewrites",
        "ManyRoots", least=64 * KIB, check=True, settings=(
            setting("roots", Between(1000, 1_000_000), None, "handles of all mutators together; "
                    "default: 100,000, or what the live bytes allow"),)),
    native(
        "many-threads", "time to safepoint and pauses against the number of attached threads",
        "ManyThreads", least=128 * KIB, check=True, threads=True, settings=(
            setting("threads", Between(2, 64), None, "attached, of which --mutators run without a "
                    "rest; default: 64, or what the live bytes allow"),)),
    native(
        "compaction", "cycles back to back under random reads and writes: faults, recycled pages",
        "Compaction", least=64 * KIB),
    native(
        "steady", "latency at a fixed rate of allocation, free of coordinated omission",
        "Steady", least=64 * KIB, check=True, settings=(
            setting("rate", parse_size, 16 * MIB, "bytes allocated a second by each mutator"),
            setting("loop", words, "open", "open: operations begin by the clock, latency counts "
                    "from the intended begin; closed: the interval follows the end of the last",
                    ("open", "closed")))),
    native(
        "replay", "the allocations of a real program: a trace from a file",
        "Replay", least=64 * KIB, check=True, operand="file", settings=(
            setting("file", words, None, "the trace (docs/reference/traces-replay.md); default: "
                    "one drawn from the seed"),)),
)
