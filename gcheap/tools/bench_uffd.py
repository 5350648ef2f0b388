"""`gcheap bench uffd`: what the kernel's page operations cost here, and two published claims.

Every round measures everything once, first with no other running thread and then beside one
that spins on another CPU; medians and ratios are formed over the rounds, so that drift of the
machine meets all of them alike.  A first round is thrown away: it warms the machine up (a host
backs guest memory at its first touch) and finds out what this kernel has.
"""
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from gcheap.errors import GcheapError
from gcheap.tools import plots
from gcheap.tools.arguments import add_json, file_name, positive_int
from gcheap.tools.intervals import summary
from gcheap.tools.suite import metric, run_suite
from gcheap.tools.uffd_tables import show

# In the order in which they are shown; `gcheap.tools._uffd_costs.Scratch` has one method each.
OPERATIONS = ("move", "copy", "zeropage", "fault", "populate", "madvise", "mremap", "memcpy")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
UNBATCHED = ("fault",)          # a touch faults one page in, however many are touched
SERVED_BY = {"sigbus": "sigbus_faults", "reader": "reported_faults"}
PAGES_PER_FAULT = (1, 4, 16)
HUGE = ("move", "copy", "fault")
HUGE_COUNT = 8                  # huge pages moved in a sample
MOST_HUGE_BYTES = 64 << 20      # a larger huge page (64 KiB kernels have 512 MiB) is skipped
CLAIM_BATCHES = (1, 16, 64, 256)
# Claim -> (what COPY does, what MOVE does): methods of Scratch.
CLAIMS = {"allocated": ("copy", "allocate_and_move"),
          "recycled": ("copy_and_release", "move")}
PUBLISHED = {
    "source": "message of the patch that brought UFFDIO_MOVE (linux-mm, October 2023); the "
              "second figure is of a compactor's whole time on a Pixel 6, not of the ioctls",
    "allocated": {"text": "COPY about 20 % faster when pages must be allocated",
                  "copy_over_move": 0.8},
    "recycled": {"text": "MOVE over 40 % faster when pages are recycled",
                 "copy_over_move": 1 / 0.6},
}
DEFAULT_ROUNDS, DEFAULT_PAGES = 9, 4096
QUICK_ROUNDS, QUICK_PAGES = 2, 512

HUGE_PAGE_SIZE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"


class Sample(NamedTuple):
    """What one measurement is of: the key of its value in a round."""

    kind: str                   # "cost", "fault", "huge", "allocated" or "recycled"
    name: str                   # operation, server of faults, or "copy" and "move" of a claim
    batch: int                  # pages per call; pages per fault
    threads: int                # other running threads


def add(suites):
    parser = suites.add_parser(
        "uffd", help="costs of MOVE, COPY, ZEROPAGE, faults ..., and two published claims",
        description="Measure ns per page of the kernel's page operations by batch, alone and "
                    "beside a running thread; the service of faults; huge pages; and COPY "
                    "against MOVE where pages must be allocated and where they are recycled. "
                    "Exit status: 0 done, 2 it could not run, 130 interrupted (whole rounds "
                    "are shown).")
    parser.add_argument("--rounds", type=positive_int, metavar="N",
                        help=f"measured rounds (default {DEFAULT_ROUNDS})")
    parser.add_argument("--pages", type=positive_int, metavar="N",
                        help="pages of one sample, a multiple of 512 "
                             f"(default {DEFAULT_PAGES})")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_ROUNDS} rounds of {QUICK_PAGES} pages: a look, no result")
    add_json(parser)
    parser.add_argument("--plot", type=file_name, metavar="FILE",
                        help="draw the results to FILE: PNG or SVG, by the ending of its name")
    parser.set_defaults(run=run)


def run(args):
    """Run the rounds; after Ctrl-C report the whole rounds there are."""
    if args.plot:
        plots.check(args.plot)
    config = config_of(args)
    found = Found()

    def show_and_draw(document, console):
        show(document, console)
        if args.plot:
            plots.draw_uffd(document, args.plot)

    return run_suite("uffd", args, config, lambda console: measure(config, found, console),
                     lambda: summarize(found, config), show_and_draw)


def config_of(args):
    pages = args.pages or (QUICK_PAGES if args.quick else DEFAULT_PAGES)
    if pages % BATCHES[-1]:
        raise GcheapError(f"--pages {pages}: expected a multiple of {BATCHES[-1]}, which every "
                          f"batch divides")
    cpus = sorted(os.sched_getaffinity(0))
    return {"rounds": args.rounds or (QUICK_ROUNDS if args.quick else DEFAULT_ROUNDS),
            "pages": pages, "batches": list(BATCHES), "pages_per_fault": list(PAGES_PER_FAULT),
            "claim_batches": list(CLAIM_BATCHES), "threads": [0, 1] if len(cpus) > 1 else [0],
            "huge_count": HUGE_COUNT, "huge_bytes": huge_page_size()}


def plan(config):
    """The samples of one round, in the order in which they are taken."""
    for threads in config["threads"]:
        for batch in config["batches"]:
            for name in OPERATIONS:
                if batch == 1 or name not in UNBATCHED:
                    yield Sample("cost", name, batch, threads)
        for pages in config["pages_per_fault"]:
            for name in SERVED_BY:
                yield Sample("fault", name, pages, threads)
        if config["huge_bytes"]:
            for name in HUGE:
                yield Sample("huge", name, 1, threads)
        for batch in config["claim_batches"]:
            for claim in CLAIMS:
                yield Sample(claim, "copy", batch, threads)
                yield Sample(claim, "move", batch, threads)


@dataclass
class Found:
    """What `measure` collects; only whole rounds are in it."""

    rounds: list = field(default_factory=list)          # {Sample: ns}
    shares: list = field(default_factory=list)          # of its CPU that the thread beside had
    skipped: dict = field(default_factory=dict)         # what was not measured: why


def measure(config, found, console):
    """Take the rounds; fills `found`."""
    skipped = found.skipped
    if len(config["threads"]) == 1:
        skipped["with another running thread"] = "this process may use one CPU only"
    if not config["huge_bytes"]:
        skipped["huge pages"] = "this kernel has none, or none of a size that can be measured"
    samples = list(plan(config))
    with Bench(config) as bench:
        console.print(Text("warming up"))
        working = find_working(bench, samples, skipped)
        for turn in range(1, config["rounds"] + 1):
            bench.shares.clear()
            found.rounds.append(one_round(bench, working))
            found.shares += bench.shares
            console.print(Text(f"round {turn}/{config['rounds']}"))


def find_working(bench, samples, skipped):
    """The samples that this kernel can give; takes each of them once."""
    refused = set()

    def attempt(sample):
        what = (sample.kind, sample.name)
        if what not in refused:
            try:
                bench.take(sample)
            except OSError as error:
                refused.add(what)
                skipped[f"{sample.kind}: {sample.name}"] = error.strerror or str(error)
                bench.renew()
        return what not in refused

    tried = {}
    for threads, group in grouped(samples):
        with bench.beside(threads):
            tried.update((sample, attempt(sample)) for sample in group)
    return [sample for sample in samples if tried[sample]]


def one_round(bench, samples):
    values = {}
    for threads, group in grouped(samples):
        with bench.beside(threads):
            values.update((sample, bench.take(sample)) for sample in group)
    return values


def grouped(samples):
    """[(threads, samples)]: a thread beside the measurement is started once a group."""
    for threads in sorted({sample.threads for sample in samples}):
        yield threads, [sample for sample in samples if sample.threads == threads]


class Bench:
    """The memory and the threads of a run.  Pins the measuring thread to one CPU meanwhile."""

    def __init__(self, config):
        self.config = config
        self.cpus = sorted(os.sched_getaffinity(0))
        self.scratch = self.reported = self.huge = None
        self.shares = []        # of its CPU that the thread beside had, one a round

    def __enter__(self):
        os.sched_setaffinity(0, self.cpus[:1])
        try:
            self.renew()
        except OSError as error:
            self.__exit__()
            raise GcheapError(f"{error.strerror}: nothing to measure here; gcheap doctor says "
                              f"what would help") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        self.close()
        os.sched_setaffinity(0, self.cpus)

    def close(self):
        for memory in (self.scratch, self.reported, self.huge):
            if memory is not None:
                memory.close()
        self.huge = None

    def renew(self):
        """Make the memory, or replace it after a failure."""
        from gcheap.tools._uffd_costs import Scratch
        self.close()
        self.scratch = Scratch(self.config["pages"])
        self.reported = Scratch(self.config["pages"], False)

    def take(self, sample):
        """Nanoseconds per page (costs and claims), per fault, or per huge page."""
        if sample.kind == "fault":
            elapsed, faults = self.faults(sample)
            return elapsed / faults
        if sample.kind == "huge":
            return self.huge_page(sample.name)
        method = sample.name
        if sample.kind in CLAIMS:
            method = CLAIMS[sample.kind][sample.name == "move"]
        return getattr(self.scratch, method)(sample.batch) / self.scratch.pages

    def faults(self, sample):
        if sample.name == "sigbus":
            return self.scratch.sigbus_faults(sample.batch)
        with self.reader():
            return self.reported.reported_faults(sample.batch)

    def huge_page(self, name):
        if name == "copy":              # COPY makes small pages only: as many as fill a huge one
            per_page = self.scratch.copy(BATCHES[-1]) / self.scratch.pages
            return per_page * self.config["huge_bytes"] / os.sysconf("SC_PAGE_SIZE")
        if self.huge is None:
            self.huge = new_huge_pages(self.config)
        before = anonymous_huge_bytes()
        elapsed = self.huge.move() if name == "move" else self.huge.fault()
        gained = anonymous_huge_bytes() - before
        if name == "fault":
            self.huge.drop()
        whole = gained >= 0 if name == "move" else gained >= self.huge.count * self.huge.size
        if not whole:
            self.huge.close()
            self.huge = None
            raise OSError(0, "the kernel gave small pages" if name == "fault"
                          else "the kernel split huge pages instead of moving them whole")
        return elapsed / self.huge.count

    @contextmanager
    def beside(self, threads):
        """Another thread that runs all the time on another CPU, or none."""
        from gcheap.tools._uffd_costs import Spinner
        if not threads:
            yield
            return
        spinner = Spinner()
        with on_thread(spinner.spin, self.cpus[1:2]):
            try:
                yield
            finally:
                spinner.stop()
        self.shares.append(spinner.cpu_ns / max(spinner.wall_ns, 1))

    @contextmanager
    def reader(self):
        """A thread that reads faults and serves them, on whichever CPU it is put."""
        stop = os.eventfd(0)
        try:
            with on_thread(lambda: self.reported.read_faults(stop), self.cpus):
                try:
                    yield
                finally:
                    os.eventfd_write(stop, 1)
        finally:
            os.close(stop)


@contextmanager
def on_thread(body, cpus):
    """`body()` on a thread that may use `cpus`; joined at the end, when it has been stopped."""
    started = threading.Event()

    def pinned():
        os.sched_setaffinity(0, cpus)
        started.set()
        body()

    thread = threading.Thread(target=pinned, daemon=True)
    thread.start()
    try:
        started.wait()
        yield
    finally:
        thread.join()


def new_huge_pages(config):
    from gcheap.tools._uffd_costs import HugePages
    before = anonymous_huge_bytes()
    huge = HugePages(config["huge_count"], config["huge_bytes"])
    if anonymous_huge_bytes() - before < huge.count * huge.size:
        huge.close()
        raise OSError(0, "the kernel gave small pages (see gcheap doctor)")
    return huge


def anonymous_huge_bytes():
    """Bytes of this process that transparent huge pages back."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


def huge_page_size():
    """Bytes of a transparent huge page, None without or when it is too large to measure."""
    with suppress(OSError, ValueError):
        size = int(Path(HUGE_PAGE_SIZE).read_text())
        if size <= MOST_HUGE_BYTES:
            return size
    return None


def summarize(found, config):
    """The suite's part of the document: a pure function of what `measure` collected."""
    rounds = found.rounds
    samples = list(rounds[0]) if rounds else []

    def over_rounds(sample):
        return summary([values[sample] for values in rounds])

    def rows(kind, label, count, unit):
        return [{label: sample.name, count: sample.batch, "threads": sample.threads,
                 unit: over_rounds(sample)} for sample in samples if sample.kind == kind]

    return {
        "rounds": len(rounds),
        "metrics": {title(sample): metric("ns", "less", [values[sample] for values in rounds])
                    for sample in samples},
        "skipped": found.skipped,
        "other_thread_ran": summary(found.shares),
        "costs": rows("cost", "operation", "batch", "ns_per_page"),
        "faults": rows("fault", "served_by", "pages_per_fault", "ns_per_fault"),
        "huge_pages": [{"operation": row["operation"], "bytes": config["huge_bytes"],
                        "threads": row["threads"], "ns": row["ns"]}
                       for row in rows("huge", "operation", "batch", "ns")],
        "claims": [claim_row(rounds, copy) for copy in samples
                   if copy.kind in CLAIMS and copy.name == "copy"
                   and copy._replace(name="move") in rounds[0]],
        "published": PUBLISHED,
        "samples": [{**sample._asdict(), "ns": [values[sample] for values in rounds]}
                    for sample in samples],
    }


def claim_row(rounds, copy):
    """COPY against MOVE; the ratio is formed inside each round."""
    move = copy._replace(name="move")
    return {
        "claim": copy.kind, "batch": copy.batch, "threads": copy.threads,
        "copy_ns_per_page": summary([values[copy] for values in rounds]),
        "move_ns_per_page": summary([values[move] for values in rounds]),
        "copy_over_move": summary([values[copy] / values[move] for values in rounds]),
    }


def title(sample):
    """The name of a sample's figure among the metrics."""
    count = {"fault": "pages a fault"}.get(sample.kind, "pages a call")
    return (f"{sample.kind}: {sample.name}, {sample.batch} {count}"
            + (", beside a running thread" if sample.threads else ""))
