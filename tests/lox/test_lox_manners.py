"""What a Lox program, the command and `run` do when their surroundings do not play along."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import PATIENCE, wait_until

import gcheap.lox
from gcheap.errors import GcheapError
from lox.evaluator import Outcome
from lox.running import command, run

FOREVER = "var i = 0;\nwhile (true) { i = i + 1; %s }\n"


def start(tmp_path, source: str, **kwargs) -> subprocess.Popen:
    program = tmp_path / "program.lox"
    program.write_text(source)
    return subprocess.Popen([sys.executable, "-m", "gcheap", "lox", program],
                            stderr=subprocess.PIPE, text=True, **kwargs)


def test_output_that_nobody_reads_ends_the_program(tmp_path):
    process = start(tmp_path, FOREVER % "print i;", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "1\n"
    process.stdout.close()
    assert process.wait(PATIENCE) == 1
    assert process.stderr.read() == ""


def test_output_that_cannot_be_written(tmp_path):
    with open("/dev/full", "w") as full:
        process = start(tmp_path, "print 1;", stdout=full)
        assert process.wait(PATIENCE) == 74
    said = process.stderr.read()
    assert said.count("\n") == 1 and "No space left on device" in said


GOOD, BAD, WRONG = "print 1;", "print ;", "print nil + 1;"
BADF = "gcheap: output cannot be written: Bad file descriptor\n"


@pytest.mark.uninstrumented("a shell does not run with it preloaded", only="thread")
@pytest.mark.parametrize(("redirection", "source", "status", "out", "err"), [
    (">&-", GOOD, 74, "", BADF), (">&-", "", 0, "", ""), (">&-", None, 74, "", BADF),
    ("--json - >&-", GOOD, 74, "", "gcheap: cannot write to standard output: it is closed\n"),
    ("--json - >/dev/full", "", 74, "",
     "gcheap: cannot write to standard output: No space left on device\n"),
    ("<&-", None, 0, "> \n", ""),
    ("</proc/self/mem", None, 74, "> ", "Could not read standard input.\n"),
    ("</dev/zero", None, 74, "> ", "Not enough memory to read a line of standard input.\n"),
    ("/dev/zero", None, 74, "", 'Not enough memory to read "/dev/zero".\n'),
    ("2>&-", BAD, 65, "", ""), ("2>/dev/full", BAD, 65, "", ""), ("2>&-", WRONG, 70, "", ""),
    ("2>/dev/full", WRONG, 70, "", ""), ("2>&-", GOOD, 0, "1\n", ""),
    ("<&- >&- 2>&-", None, 74, "", ""),
    ("nowhere 2>/dev/full", None, 74, "", "")])
def test_descriptors_that_are_closed_or_full(tmp_path, redirection, source, status, out, err):
    """`source`: of a file; None: a REPL with a line to print."""
    program = tmp_path / "program.lox"
    program.write_text(source or "")
    line = f'"$0" -m gcheap lox {redirection} {"" if source is None else program}'
    done = subprocess.run(["sh", "-c", line, sys.executable], input="print 2;\n", text=True,
                          capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_ctrl_c_ends_a_program(tmp_path):
    process = start(tmp_path, 'print "on"; spawn(array); ' + FOREVER % "", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "on\n"         # spawn writes it
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == -signal.SIGINT


def test_ctrl_c_stops_a_program_that_python_runs():
    read, write = os.pipe()

    def interrupt():
        os.read(read, 3)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    def threads():
        return set(os.listdir("/proc/self/task"))
    before = threads()
    waiter = threading.Thread(target=interrupt)
    waiter.start()
    with pytest.raises(KeyboardInterrupt):
        gcheap.lox.run('print "on"; fun f() {} join(spawn(f)); ' + FOREVER % "", out=write,
                       capacity="16MiB")
    waiter.join()
    os.close(read)
    os.close(write)
    wait_until(lambda: threads() <= before, "its threads end")
    assert run("print 1;") == Outcome(0, "1\n", "")


def test_threads_that_join_each_other_can_be_stopped():
    """The script waits for both, then, and they for each other: nothing else ends them."""
    read, write = os.pipe()
    source = ("var a; var b;\nfun f() { while (b == nil) {} print \"f\"; join(b); }\n"
              "fun g() { while (a == nil) {} print \"g\"; join(a); }\n"
              "a = spawn(f);\nb = spawn(g);\njoin(a);\nprint \"never\";\n")
    with gcheap.lox.Session(out=write, capacity="16MiB") as session:
        def stop():
            said = b""
            while len(said) < 4:                    # what both print before they join
                said += os.read(read, 4)
            session.stop()
        beside = threading.Thread(target=stop)
        beside.start()
        session.interpret(source)
        assert session.wait() == 70
        beside.join()
    os.close(write)
    assert os.read(read, 10) == b""
    os.close(read)


def test_several_programs_at_once():
    """Each has its heap, its globals and its output."""
    def one(i):
        return run(f"class A {{ init(n) {{ this.n = n; }} }}\nvar mine = {i};\nvar sum = 0;\n"
                   "for (var k = 0; k < 300; k = k + 1) sum = sum + A(mine).n;\nprint sum;\n"
                   "fun f() { return mine; }\nprint join(spawn(f));\n", gc_stress=20)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(16))) == [
            Outcome(0, f"{300 * i}\n{i}\n", "") for i in range(16)]


@pytest.mark.parametrize(("arguments", "error"), [
    ({"capacity": "huge"}, GcheapError), ({"gc_stress": -1}, GcheapError),
    ({"backend": "teleport"}, GcheapError), ({"no_such_option": 1}, GcheapError),
    ({"gc_stress": 1, "collect_every": 2}, GcheapError)])
def test_bad_options_are_refused(arguments, error):
    with pytest.raises(error):
        gcheap.lox.run("print 1;", **arguments)


@pytest.mark.parametrize("source", [None, 5, ["print 1;"]])
def test_sources_are_text(source):
    with pytest.raises(TypeError, match="expected str or bytes"):
        gcheap.lox.run(source)


def test_a_closed_descriptor_is_an_error():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError):
        gcheap.lox.run("print 1;", out=write, capacity="16MiB")


def test_the_repl_takes_long_lines_and_any_bytes():
    done = command(stdin=b'print "' + b"x" * 200_000 + b'" == "";\n\xff\nprint 2;\n')
    assert (done.status, done.out) == (0, "> false\n> > 2\n> \n")
    assert done.err == "[line 1] Error: Unexpected character.\n"
