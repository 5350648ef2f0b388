"""`gcheap bench alloc`: what the operations of a mutator cost, by object size and threads.

Every round measures each once, in turns.  *Bare* allocation is so little that no cycle starts; in
*sustained* allocation cycles come as they do, and all objects die at once.
"""
import threading
from dataclasses import dataclass

from rich.text import Text

import gcheap
from gcheap.errors import OptionError
from gcheap.options import format_size
from gcheap.provenance import describe
from gcheap.text import shown
from gcheap.tools.arguments import accepted, add_common, add_rounds, settle_heap_options, settled
from gcheap.tools.suite import metrics_of, run_suite, take_turns, whole_rounds
from gcheap.tools.tables import new_table
from gcheap.units import counted, duration, size, three_digits

SIZES = "16,32,64,128,512,2048"
THREADS = "1,2"
CAPACITY = 128 << 20
BARE_BYTES = CAPACITY // 8      # of all threads together, far below the goal of a cycle
SUSTAINED_BYTES = 4 * CAPACITY
HEADER = 8
MOST_OBJECT = 4096              # larger ones are large objects before long
COUNT = 2_000_000               # of the operations that allocate nothing
HEAP_OPTIONS = ("backend", "faults", "unit_pages")
# Operations of gcheap.workloads._micro -> what is done.
OPERATIONS = {
    "store": "a reference stored in a slot, through the write barrier",
    "load": "a slot read and followed",
    "handle": "a handle taken and dropped",
    "poll": "a safepoint poll, no pause being on",
    "enter": "the heap entered and left",
}
UNITS = {"ns_per_operation": ("ns", "less"), "bytes_per_s": ("B/s", "more")}


@dataclass(frozen=True)
class Case:
    """One measurement: bare or sustained allocation, or one of OPERATIONS."""

    kind: str
    threads: int = 1
    bytes: int = 0

    def __str__(self):
        beside = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.kind} {self.bytes} B{beside}" if self.bytes else self.kind


def whole_numbers(text, least, most, what):
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [least - 1]
    if not all(least <= number <= most for number in found):
        raise OptionError(f"{shown(text)}: expected {what} from {least} to {most}, separated by "
                          f"commas")
    return found


def parse_sizes(text):
    found = whole_numbers(text, 16, MOST_OBJECT, "sizes of objects in bytes")
    if any(size % 8 for size in found):
        raise OptionError(f"{shown(text)}: expected multiples of 8, as objects are")
    return found


def parse_threads(text):
    return whole_numbers(text, 1, 64, "numbers of threads")


def add(suites):
    parser = suites.add_parser(
        "alloc", help="allocation rate by size and threads; barrier, handles, safepoint",
        description="Measure what the operations of a mutator cost, in turns: bare allocation (no "
                    "cycle runs), sustained allocation (cycles as they come), the write barrier, "
                    "reads, handles, polls, entering the heap. Exit status: 0 done, 2 it could "
                    "not run, 130 interrupted (whole rounds are shown).")
    parser.add_argument("--sizes", type=accepted(parse_sizes), default=parse_sizes(SIZES),
                        metavar="N,N...", help=f"bytes of objects, header included (default "
                                               f"{SIZES})")
    parser.add_argument("--threads", type=accepted(parse_threads), default=parse_threads(THREADS),
                        metavar="N,N...", help=f"threads that allocate (default {THREADS})")
    add_rounds(parser, 9)
    add_common(parser, run, HEAP_OPTIONS)


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    settle_heap_options(args, HEAP_OPTIONS)
    config = {"sizes": args.sizes, "threads": args.threads, "rounds": args.rounds,
              "capacity": CAPACITY, "bare_bytes": BARE_BYTES, "sustained_bytes": SUSTAINED_BYTES,
              **settled(args, HEAP_OPTIONS)}
    cases = {str(case): case for case in plan(args)}
    rows = []

    def measure(console):
        options = settled(args, HEAP_OPTIONS)
        with gcheap.Heap(CAPACITY, policy="fixed", stall_warning_ms=0, **options) as heap:
            bench = Bench(heap)
            for case in cases.values():         # touches everything once; not counted
                bench.take(case)
            take_turns(args.rounds, cases, lambda case: bench.take(cases[case]), rows, console)

    return run_suite("alloc", args, config, measure, lambda: summarize(rows, cases), show)


def plan(args):
    for kind in ("bare", "sustained"):
        for threads in args.threads:
            for nbytes in args.sizes:
                yield Case(kind, threads, nbytes)
    for operation in OPERATIONS:
        yield Case(operation)


class Bench:
    """Takes measurements on one heap, each thread attached for the time of one."""

    def __init__(self, heap):
        self.heap = heap
        self.shapes = {}

    def shape(self, nbytes):
        if nbytes not in self.shapes:
            raw = [("filler", f"V{nbytes - HEADER}")]
            self.shapes[nbytes] = self.heap.shape(f"Bytes{nbytes}", raw=raw).id
        return self.shapes[nbytes]

    def take(self, case):
        """{ns_per_operation, bytes_per_s, cycles, progress}."""
        from gcheap.workloads import _micro

        if case.bytes:
            share = BARE_BYTES if case.kind == "bare" else SUSTAINED_BYTES
            count = share // case.threads // case.bytes
            arguments = (_micro.alloc_loop, self.shape(case.bytes), count)
        elif case.kind in ("poll", "enter"):
            count = COUNT
            arguments = (getattr(_micro, f"{case.kind}_loop"), count)
        else:
            count = COUNT
            pair = self.heap.shape("Pair", refs=("first", "second")).id
            arguments = (getattr(_micro, f"{case.kind}_loop"), pair, count)
        self.heap.collect()
        before = self.heap.stats().cycles
        elapsed = max(self.on_threads(case.threads, *arguments))
        cycles = self.heap.stats().cycles - before
        if case.kind == "bare" and cycles:
            raise RuntimeError(f"{case}: a cycle started, which bare allocation must not have")
        cost = elapsed / count
        rate = case.bytes * case.threads / cost * 1e9 if case.bytes else None
        return {"ns_per_operation": cost, "bytes_per_s": rate, "cycles": cycles,
                "progress": f"{duration(cost)}" + (f", {size(rate)}/s" if rate else "")}

    def on_threads(self, threads, loop, *arguments):
        """The ns that each of so many threads took for `loop(mutator, *arguments)`, all started
        together."""
        took, errors, ready = [], [], threading.Barrier(threads)

        def body():
            try:
                with self.heap.attach() as mutator:
                    ready.wait()
                    took.append(loop(mutator.native(), *arguments))
            except BaseException as error:      # raised below, in the measuring thread
                errors.append(error)
                ready.abort()

        made = [threading.Thread(target=body, daemon=True) for _ in range(threads)]
        for thread in made:
            thread.start()
        for thread in made:
            thread.join()
        if errors:
            raise errors[0]
        return took


def summarize(rows, cases):
    """The suite's part of the document."""
    rounds = whole_rounds(rows, cases)
    metrics = metrics_of(rounds, cases, UNITS)
    return {
        "rounds": len(rounds),
        "metrics": {name: row for name, row in metrics.items() if row["values"]},
        "cases": [{"case": name, "kind": case.kind, "threads": case.threads, "bytes": case.bytes}
                  for name, case in cases.items()],
        "runs": rows,
    }


def show(document, console):
    """Print allocation by size and threads, then the other operations."""
    config, metrics = document["config"], document["metrics"]
    console.print(Text(f"{counted(document['rounds'], 'round')} in turns, medians, "
                       f"{format_size(config['capacity'])} of capacity, {describe(document)}"))
    for kind, title in (("bare", "allocation, no cycle running"),
                        ("sustained", "allocation, cycles as they come")):
        console.print()
        table = new_table()
        for header in (title, *(f"{nbytes} B" for nbytes in config["sizes"])):
            table.add_column(header, justify="right" if table.columns else "left", no_wrap=True)
        for threads in config["threads"]:
            names = [str(Case(kind, threads, nbytes)) for nbytes in config["sizes"]]
            beside = counted(threads, "thread")
            table.add_row(f"{beside}: ns an object",
                          *(_cell(metrics[f"{name}: ns per operation"]) for name in names))
            table.add_row(f"{beside}: MB/s of all", *(
                three_digits(metrics[f"{name}: bytes per s"]["median"] / 1e6) for name in names))
        console.print(table)
    console.print()
    table = new_table()
    for header in ("operation", "ns", "of"):
        table.add_column(header, justify="right" if header == "ns" else "left")
    for operation, what in OPERATIONS.items():
        table.add_row(operation, _cell(metrics[f"{operation}: ns per operation"]), what)
    console.print(table)


def _cell(row):
    return (f"{three_digits(row['median'])}\n"
            f"{three_digits(row['low'])}–{three_digits(row['high'])}")
