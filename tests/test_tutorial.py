"""docs/tutorial/tiny-lisp.md: its code is examples/tiny_lisp.py, and its sessions are true."""
import doctest
import re
import sys

import pytest
from support import ROOT, run_python

PAGE = ROOT / "docs/tutorial/tiny-lisp.md"
PROGRAM = ROOT / "examples/tiny_lisp.py"
BLOCKS = re.findall(r"^```(python|pycon)\n(.*?)^```$", PAGE.read_text(), re.S | re.M)

MERGE_SORT = """
(define split (lambda (l a b) (if (null l) (cons a b) (split (cdr l) b (cons (car l) a)))))
(define merge (lambda (a b)
  (if (null a) b
  (if (null b) a
  (if (< (car a) (car b)) (cons (car a) (merge (cdr a) b)) (cons (car b) (merge a (cdr b))))))))
(define sort (lambda (l)
  (if (null l) l (if (null (cdr l)) l
    ((lambda (halves) (merge (sort (car halves)) (sort (cdr halves)))) (split l nil nil))))))
(define scatter (lambda (n x l) (if (eq n 0) l (scatter (- n 1) (rest (+ (* x 7) 3)) (cons x l)))))
(define rest (lambda (x) (if (< x 101) x (rest (- x 101)))))
(define again (lambda (n last) (if (eq n 0) last (again (- n 1) (sort (scatter 100 1 nil))))))
(again 5 nil)
"""


@pytest.fixture
def tiny_lisp(monkeypatch):
    monkeypatch.syspath_prepend(PROGRAM.parent)
    import tiny_lisp
    yield tiny_lisp
    del sys.modules["tiny_lisp"]


def joined(pieces):
    """A piece that begins indented goes on with the class before it."""
    text = pieces[0]
    for piece in pieces[1:]:
        text += ("\n" if piece.startswith(" ") else "\n\n") + piece
    return text


def test_the_page_builds_the_example():
    assert joined([text for kind, text in BLOCKS if kind == "python"]) == PROGRAM.read_text()
    assert len(PROGRAM.read_text().splitlines()) <= 200


def test_each_step_does_what_its_session_shows(monkeypatch):
    """Each session, with no more of the program than stands above it."""
    monkeypatch.setenv("GCHEAP_STALL_WARNING_MS", "0")      # the page fills a heap
    names: dict[str, object] = {"__name__": "tiny_lisp"}
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL, verbose=False)
    said, pieces, tried = [], [], 0
    for number, (kind, text) in enumerate(BLOCKS):
        if kind == "python":
            pieces.append(text)
            continue
        exec(compile(joined(pieces), "tiny_lisp.py", "exec"), names)
        # A DocTest copies its names; what a session defines is there in the next one.
        test = doctest.DocTestParser().get_doctest(text, names, f"step {number}", str(PAGE), 0)
        runner.run(test, out=said.append, clear_globs=False)
        names.update(test.globs)
        tried += len(test.examples)
    assert not runner.failures, "".join(said)
    assert tried >= 20


def test_programs_run_while_the_heap_is_collected(tiny_lisp):
    lisp = tiny_lisp.Lisp("2MiB", verify=2, collect_every=20000)
    with lisp.heap:
        numbers, x = [], 1
        for _ in range(100):
            numbers.append(x)
            x = (7 * x + 3) % 101
        expected = f"({' '.join(map(str, sorted(numbers)))})"
        got = tiny_lisp.interpret(lisp, MERGE_SORT)
        lisp.m.detach()
        assert got == expected
        assert lisp.heap.stats().relocations > 0


@pytest.mark.parametrize(("program", "says"), [
    ("(car 5)", "expected a pair"),
    ("(+ 'a 1)", "expected a number"),
    ("nowhere", "nowhere has no value"),
    ("(5 6)", "5 is no function"),
    ("((lambda (x) x))", "too few arguments"),
    ("((lambda () 1) 2)", "expected a pair"),
    (")", "has not begun"),
    ("(foo", "an expression or a ) is missing"),
    ("(foo '", "an expression or a ) is missing"),
    ("(append \"a\" \"b", "a string does not end"),
    ("1152921504606846976", "does not fit a number of 61 bits"),
])
def test_mistakes_are_told(tiny_lisp, program, says):
    lisp = tiny_lisp.Lisp("1MiB")
    with lisp.heap:
        with pytest.raises(tiny_lisp.LispError, match=re.escape(says)):
            tiny_lisp.interpret(lisp, program)
        assert tiny_lisp.interpret(lisp, "'(1 \"two\" (-3 . four))") .startswith('(1 "two" (-3 ')
        lisp.m.detach()


def test_the_program_runs_files_and_a_prompt(tmp_path):
    source = tmp_path / "double.lisp"
    source.write_text("(define twice (lambda (s) (append s s))) ; strings\n(twice \"ab\")\n")
    command = f"import runpy, sys; sys.argv[0] = 'x'; runpy.run_path({str(PROGRAM)!r}, " \
              "run_name='__main__')"
    done = run_python(command, arguments=(str(source),))
    assert (done.returncode, done.stdout, done.stderr) == (0, '"abab"\n', "")
    done = run_python(command, input="(car 1)\n(foo\n(+ 1 2)\n")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("> LispError('expected a pair')\n"
                                  "> LispError('an expression or a ) is missing')\n> 3\n> ")
    assert "relocations" in done.stdout
    source.write_text("(car 1)")
    for path, says in ((source, "expected a pair"), (tmp_path / "none", "No such file")):
        done = run_python(command, arguments=(str(path),))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"{path}: ") and says in done.stderr
