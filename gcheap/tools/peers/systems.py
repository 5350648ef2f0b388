"""The systems that are compared: how each is found, built, given its heap, and read.

A system is made once, and `build` raises Unavailable when it cannot be had here.  `command` gives
what runs one workload, `pauses` the system's own account of its pauses.
"""
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from gcheap.building import cflags, libs
from gcheap.tools.peers.programs import Unavailable, build, need, sources

LEAST_JAVA_HEAP = 8 << 20        # below, some collectors do not start
MODES = ("churn", "trees", "full")
JVMS = "/usr/lib/jvm/*/bin/java"
COLLECTORS = {"ZGC": "UseZGC", "Shenandoah": "UseShenandoahGC", "G1": "UseG1GC",
              "Parallel": "UseParallelGC", "Serial": "UseSerialGC"}
JAVA_LOG = "-Xlog:gc,gc+phases,safepoint"
OCAML_FLAGS = "-unsafe -inline 200"
GO_CYCLE = r"^gc \d+ @([\d.]+)s .*?: ([\d.]+)\+[\d.]+\+([\d.]+) ms clock"
FIRST_GENERATIONAL_ZGC, ALWAYS_GENERATIONAL_ZGC = 21, 24


@dataclass
class System:
    """One row of the table.

    moves       whether a forced collection slides or copies what lives ("no": it only frees)
    modes       the workloads that it can run
    """

    name: str
    moves: str
    modes: tuple = MODES
    program: Path | None = field(default=None, init=False)

    def build(self, folder):
        """Builds the program in `folder`; Unavailable."""
        raise NotImplementedError

    def compiled(self):
        """How its program is compiled, in words."""
        return "not compiled"

    def flags(self, live, capacity):
        """What gives it so much heap: arguments, or "" where the program does it by itself."""
        return []

    def command(self, live, capacity, log):
        """The command without the program's own arguments."""
        return [str(self.program), *self.flags(live, capacity)]

    def describe(self, live, capacity):
        """Flags and variables it runs with, and what its program sets, in words."""
        return " ".join(self.flags(live, capacity))

    def variables(self, live, capacity):
        """Environment variables of its process."""
        return {}

    def pauses(self, found, log):
        """The ns of its own pauses while it was measured; None when it tells none."""
        return found.pauses


class CProgram(System):
    """peer.c: gcheap, bdwgc, or free lists."""

    def __init__(self, name, moves, defines, flags, setting):
        super().__init__(name, moves, MODES if defines else MODES[:2])
        self._defines, self._flags, self._setting = defines, flags, setting

    def build(self, folder):
        self.program = folder / f"peer-{self.name.partition(',')[0]}"
        build([need("cc", "gcc"), *self._options(), str(sources() / "peer.c"), "-o",
               str(self.program), *self._flags()])

    def compiled(self):
        return " ".join(["cc", *self._options()])

    def _options(self):
        return ["-O2", *(f"-D{name}" for name in self._defines)]

    def describe(self, live, capacity):
        return self._setting.format(capacity=capacity)

    def variables(self, live, capacity):
        return {"PEER_PYTHON": sys.executable}      # whose gcheap is measured

    def pauses(self, found, log):
        return found.pauses if self._defines else None


class Jvm(System):
    """Peer.java under one collector of one Java virtual machine."""

    def __init__(self, java, major, collector):
        super().__init__(f"{collector} {major}", "yes")
        self._java, self._major, self._collector = java, major, collector

    def build(self, folder):
        self.program = self._java
        self._classes = folder / f"java-{self._major}"
        if not (self._classes / "Peer.class").exists():
            compiler = self._java.parent / "javac"
            if not compiler.exists():
                raise Unavailable(f"no javac beside {self._java}")
            build([str(compiler), "-d", str(self._classes), str(sources() / "Peer.java")])
        build([str(self._java), f"-XX:+{COLLECTORS[self._collector]}", "-version"])

    def flags(self, live, capacity):
        generational = (["-XX:+ZGenerational"] if self._collector == "ZGC" and
                        FIRST_GENERATIONAL_ZGC <= self._major < ALWAYS_GENERATIONAL_ZGC else [])
        size = f"{max(capacity, LEAST_JAVA_HEAP) // 1024}k"
        return [f"-XX:+{COLLECTORS[self._collector]}", *generational, f"-Xms{size}", f"-Xmx{size}"]

    def compiled(self):
        return "javac"

    def describe(self, live, capacity):
        return " ".join([*self.flags(live, capacity), JAVA_LOG])

    def command(self, live, capacity, log):
        return [str(self.program), *self.flags(live, capacity),
                f"{JAVA_LOG}:file={log}:uptime",
                "-cp", str(self._classes), "Peer"]

    def pauses(self, found, log):
        """Of the unified log: "[1.234s] GC(3) Pause Mark Start 0.012ms"; times to safepoint and
        ZGC's allocation stalls, which the program cannot know, go into `found`."""
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []

        def measured(pattern, unit):
            return [round(float(at[2]) * unit) for line in lines
                    if (at := re.match(rf"\[([\d.]+)s\] {pattern}", line))
                    and found.was_measured(float(at[1]))]

        found.reaches = measured(r"Safepoint .*\bReaching safepoint: (\d+) ns", 1)
        if self._collector == "ZGC":
            stalls = measured(r".*\bAllocation Stall .* ([\d.]+)ms$", 1e6)
            found.stalls = len(stalls), max(stalls, default=0), sum(stalls)
        return measured(r".*\bPause .* ([\d.]+)ms$", 1e6)


class GoProgram(System):
    """peer.go."""

    def __init__(self):
        super().__init__("Go", "no")

    def build(self, folder):
        self.program = folder / "peer-go"
        go = need("go")
        build([go, "build", "-o", str(self.program), str(sources() / "peer.go")],
              {"GOCACHE": str(folder / "go-cache"), "GO111MODULE": "off", "GOFLAGS": "",
               "GOTOOLCHAIN": "local"})

    def compiled(self):
        return "go build"

    def variables(self, live, capacity):
        return {"GODEBUG": "gctrace=1"}

    def describe(self, live, capacity):
        return f"GOGC={100 * (capacity - live) // live} GODEBUG=gctrace=1"

    def pauses(self, found, log):
        """Of gctrace: "gc 2 @0.062s 18%: 0.010+77+0.21 ms clock, ...": the outer two stop the
        world."""
        return [round(float(part) * 1e6)
                for at in re.finditer(GO_CYCLE, found.errors, re.MULTILINE)
                if found.was_measured(float(at[1])) for part in (at[2], at[3])]


class OcamlProgram(System):
    """peer.ml."""

    def __init__(self):
        super().__init__("OCaml", "yes")

    def build(self, folder):
        self.program = folder / "peer-ocaml"
        compiler = need("ocamlopt")
        for name in ("peer.ml", "clock.c"):         # it compiles beside its source
            shutil.copy(sources() / name, folder / name)
        build(["sh", "-c", f'cd "$1" && "$2" {OCAML_FLAGS} clock.c peer.ml -o peer-ocaml',
               "sh", str(folder), compiler])

    def compiled(self):
        return f"ocamlopt {OCAML_FLAGS}"

    def describe(self, live, capacity):
        return f"space_overhead={100 * (capacity - live) // live}"

    def pauses(self, found, log):
        return None


class PythonProgram(System):
    """peer.py under CPython or PyPy."""

    def __init__(self, name, commands):
        super().__init__(name, "no")
        self._commands = commands

    def build(self, folder):
        self.program = Path(need(*self._commands))

    def command(self, live, capacity, log):
        return [str(self.program), str(sources() / "peer.py")]

    def describe(self, live, capacity):
        if self.name == "PyPy":
            return f"PYPY_GC_MAJOR_COLLECT={capacity / live:.3g}"
        return "no limit"

    def variables(self, live, capacity):
        if self.name == "PyPy":
            return {"PYPY_GC_MAJOR_COLLECT": f"{capacity / live:.3g}"}
        return {}


def all_systems():
    """Every system that this version knows, those of the virtual machines found here included; a
    Missing for what cannot even be named more closely."""
    jvms = java_machines()
    return [
        CProgram("gcheap", "yes", ["GCHEAP"], lambda: [*cflags(), *libs()],
                 "capacity={capacity} policy=fixed stall_warning_ms=0"),
        *(Jvm(java, major, collector) for major, java in jvms for collector in COLLECTORS),
        *([] if jvms else [Missing(collector, "no java on PATH or below /usr/lib/jvm")
                           for collector in COLLECTORS]),
        CProgram("bdwgc", "no", ["BDWGC"], lambda: ["-lgc"],
                 "GC_set_max_heap_size {capacity}, 7/8 of it at once"),
        GoProgram(),
        OcamlProgram(),
        PythonProgram("PyPy", ("pypy3",)),
        PythonProgram("CPython", (sys.executable,)),
        CProgram("pool, no GC", "–", [], lambda: [], "malloc, free lists"),
    ]


class Missing(System):
    """A system of which there is nothing here."""

    def __init__(self, name, why):
        super().__init__(name, "–")
        self._why = why

    def build(self, folder):
        raise Unavailable(self._why)


def java_machines():
    """[(major version, path of java)] of every virtual machine found, each version once."""
    found = {}
    on_path = shutil.which("java")
    for java in [*([Path(on_path)] if on_path else []), *sorted(Path("/").glob(JVMS.lstrip("/")))]:
        java = java.resolve()
        release = java.parents[1] / "release"
        at = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(errors="replace"),
                       re.MULTILINE) if release.exists() else None
        if at:
            found.setdefault(int(at[1]), java)
    return sorted(found.items())
