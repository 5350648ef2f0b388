"""`gcheap lox` as a process: exit status, standard error, the REPL, files, options, --json."""
from __future__ import annotations

import json
import os
import resource

import pytest

from lox.running import command


@pytest.fixture
def program(tmp_path):
    """program(source): a file of it."""
    def write(source: str | bytes, name: str = "program.lox"):
        path = tmp_path / name
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        return path
    return write


def test_a_program_runs(program):
    done = command(program('print "hello";\nprint 1 + 2;\n'))
    assert (done.status, done.out, done.err) == (0, "hello\n3\n", "")


@pytest.mark.parametrize("source", ["", "\n", "// nothing\n"])
def test_an_empty_program_does_nothing(program, source):
    done = command(program(source))
    assert (done.status, done.out, done.err) == (0, "", "")


def test_a_program_that_does_not_compile(program):
    done = command(program('print "no";\nprint 1 +;\nvar 2;\n'))
    assert (done.status, done.out) == (65, "")
    assert done.err == ("[line 2] Error at ';': Expect expression.\n"
                        "[line 3] Error at '2': Expect variable name.\n")


def test_a_run_time_error_and_its_trace(program):
    done = command(program(
        'print "before";\nfun f() { return 1 + "a"; }\nfun g() {\n  f();\n}\ng();\n'))
    assert (done.status, done.out) == (70, "before\n")
    assert done.err == ("Operands must be two numbers or two strings.\n[line 2] in f()\n"
                        "[line 4] in g()\n[line 6] in script\n")


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.lox"
    done = command(missing)
    assert (done.status, done.out) == (74, "")
    assert done.err == f'Could not open file "{missing}".\n'
    done = command(tmp_path)
    assert (done.status, done.out) == (74, "")
    assert done.err == f'Could not open file "{tmp_path}".\n'


def test_a_file_without_permission(program):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = program("print 1;")
    path.chmod(0)
    done = command(path)
    assert (done.status, done.err) == (74, f'Could not open file "{path}".\n')


def test_arguments_of_the_program(program):
    path = program("var a = args(); for (var i = 0; i < a.len(); i = i + 1) print a.get(i);")
    done = command(path, "one", "--two", "drei ☃")
    assert (done.status, done.out) == (0, "one\n--two\ndrei ☃\n"), done.err


def test_a_program_reads_a_file(program, tmp_path):
    other = program("read\nthis", "other.txt")
    done = command(program('print readFile(args().get(0)) + "!";'), other)
    assert (done.status, done.out) == (0, "read\nthis!\n"), done.err


@pytest.mark.uninstrumented("sanitizers map terabytes")
def test_a_file_without_end_is_no_more_than_the_heap_holds(program):
    path = program('print "on";\nreadFile("/dev/zero");\n')
    done = command("--capacity", "4MiB", path, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_AS, (2**30, 2**30)))
    assert (done.status, done.out) == (70, "on\n")
    assert done.err == ("Out of memory: the heap of 4194304 bytes cannot hold the file.\n"
                        "[line 2] in script\n")


@pytest.mark.parametrize("options", [
    ["--gc-stress"], ["--gc-stress", "3"], ["--backend", "stw"], ["--backend", "copy"],
    ["--faults", "handler"], ["--verify", "3"], ["--capacity", "8MiB"],
    ["--gc-stress", "2", "--verify", "2", "--capacity", "32MiB"]])
def test_options_of_the_heap(program, options):
    path = program("class A { init(n) { this.n = n; } }\nvar s = 0;\n"
                   "for (var i = 0; i < 50; i = i + 1) s = s + A(i).n;\nprint s;\n")
    done = command(*options, path)
    assert (done.status, done.out, done.err) == (0, "1225\n", "")


@pytest.mark.parametrize("options", [
    ["--backend", "teleport"], ["--capacity", "huge"], ["--gc-stress=-1"], ["--verify", "9"],
    ["--no-such-option"]])
def test_bad_usage_is_one_line(program, options):
    done = command(*options, program("print 1;"))
    assert done.status == 64 and done.out == ""
    assert done.err.count("\n") == 1 and "lox" in done.err


OUT_OF_MEMORY = "class L {}\nvar l = nil;\nwhile (true) { var n = L(); n.next = l; l = n; }\n"


@pytest.mark.parametrize("asked", [{}, {"GCHEAP_STALL_WARNING_MS": "20"}], ids=["", "asked"])
def test_memory_that_runs_out_is_one_line_and_the_trace(program, asked):
    """What the heap says of its stalls is for those who ask: each placement here waits for longer
    than it takes to be said."""
    slow = {"GCHEAP_DELAY_PLACEMENTS_US": "120000", "GCHEAP_RELOCATE": "always"}
    done = command("--capacity", "1MiB", program(OUT_OF_MEMORY), env=os.environ | slow | asked)
    *stalls, error, trace = done.err.splitlines()
    assert (done.status, done.out, trace) == (70, "", "[line 3] in script")
    assert error.startswith("Out of memory: the heap of 1048576 bytes is full")
    assert bool(stalls) == bool(asked) and all(" stalled for " in line for line in stalls)


# ---- the REPL ----------------------------------------------------------------------------

def test_the_repl_keeps_what_was_defined():
    done = command(stdin="var a = 1;\nfun f() { return a + 1; }\nprint f();\na = 5;\nprint f();\n")
    assert (done.status, done.err) == (0, "")
    assert done.out == "> > > 2\n> > 6\n> \n"


def test_the_repl_goes_on_after_errors():
    done = command(stdin='print 1 +;\nprint x;\nfun f() { nil(); }\nf();\nprint "on";\n')
    assert done.status == 0 and done.out == "> > > > > on\n> \n"
    assert done.err == ("[line 1] Error at ';': Expect expression.\n"
                        "Undefined variable 'x'.\n[line 1] in script\n"
                        "Can only call functions and classes.\n[line 1] in f()\n"
                        "[line 1] in script\n")


def test_an_empty_repl():
    done = command(stdin="")
    assert (done.status, done.out, done.err) == (0, "> \n", "")


def test_the_repl_has_classes_closures_and_collections():
    done = command("--gc-stress", stdin=(
        "class A { init(n) { this.n = n; } get() { return this.n; } }\nvar a = A(3);\n"
        "class B < A { get() { return super.get() * 2; } }\nvar g = B(4).get;\ngc();\n"
        "print a.get() + g();\n"))
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith("> 11\n> \n")


@pytest.mark.parametrize("options", [[], ["--gc-stress", "100"], ["--backend", "stw"]])
def test_the_repl_goes_on_after_memory_ran_out(options):
    """A line that needs room ends with the error, and leaves nothing half defined."""
    done = command("--capacity", "1MiB", *options, stdin=(
        OUT_OF_MEMORY + "class Other {}\nvar other = 1;\nprint l == nil;\nl = nil;\n"
        "class Other { m() { return 2; } }\nvar other = Other();\nprint other.m();\n"))
    assert done.status == 0 and done.out == "> > > > > > false\n> > > > 2\n> \n", done.err
    errors = [line for line in done.err.splitlines() if not line.startswith("[line 1] in ")]
    assert len(errors) == 3 and all(line.startswith("Out of memory: ") for line in errors)


def test_a_heap_that_cannot_hold_what_a_program_begins_with():
    done = command("--capacity", "min", "/dev/null", *(f"{i:05}" * 2_000 for i in range(150)))
    assert (done.status, done.out, done.err.count("\n")) == (70, "", 1)
    assert done.err.startswith("Out of memory: ")


# ---- what was measured -------------------------------------------------------------------

def test_json(program, tmp_path):
    path = program("class A { init() { this.x = nil; } }\n"
                   "for (var i = 0; i < 100; i = i + 1) A();\ngc();\nprint 1;\n")
    target = tmp_path / "run.json"
    done = command("--json", target, "--backend", "stw", path)
    assert (done.status, done.out) == (0, "1\n"), done.err
    document = json.loads(target.read_text())
    assert document["status"] == 0 and document["cycles"] >= 1
    assert document["pauses"]["count"] >= 1
    assert document["longest_pause_us"] == document["pauses"]["max_us"] > 0


def test_the_environment_sets_what_no_option_does(program):
    environment = os.environ | {"GCHEAP_CAPACITY": "4MiB", "GCHEAP_COLLECT_EVERY": "7"}
    for options, capacity, stress in ([], 2**22, 7), (["--capacity", "5MiB", "--gc-stress", "3"],
                                                      5 * 2**20, 3):
        done = command("--json", "-", *options, program("array(1);"), env=environment)
        config = json.loads(done.out)["config"]
        assert (config["capacity"], config["gc_stress"]) == (capacity, stress)


def test_json_of_a_repl_is_alone_on_standard_output():
    done = command("--json", "-", stdin="print 1;\n")
    assert json.loads(done.out)["status"] == 0
    assert (done.status, done.err) == (0, "> 1\n> \n")


def test_stress_collects_at_every_allocation(program, tmp_path):
    path, target = program("class A {}\nfor (var i = 0; i < 100; i = i + 1) A();\n"), tmp_path / "x"
    cycles = []
    for options in ([], ["--gc-stress", "50"], ["--gc-stress"]):
        done = command(*options, "--json", target, path)
        assert done.status == 0, done.err
        cycles.append(json.loads(target.read_text())["cycles"])
    assert cycles[0] == 0 and 1 <= cycles[1] < cycles[2] and cycles[2] >= 100


def test_json_that_cannot_be_written_is_said_before_the_program_runs(program):
    done = command("--json", "/nonexistent/run.json", program("print 1;"))
    assert done.status != 0 and done.out == "" and done.err.count("\n") == 1
