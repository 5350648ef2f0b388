"""The book's limits, to the number; and sources and programs that are too much for anything."""
from __future__ import annotations

import pytest

from lox.evaluator import evaluate
from lox.running import MODES, options_of, run

STRESS = {"gc_stress": 1}


def lines(template: str, numbers) -> str:
    return "\n".join(template.format(i=i) for i in numbers)


def function(body: str, call: str = "f();") -> str:
    return f"fun f() {{\n{body}\n}}\n{call}\n"


@pytest.fixture(params=MODES)
def mode(request) -> dict[str, object]:
    return options_of(request.param)


def compile_error(source: str, error: str, **options) -> None:
    outcome = run(source, **options)
    assert (outcome.status, outcome.out) == (65, "")
    assert outcome.err.endswith(f"] {error}\n") and outcome.err.count("\n") == 1


def prints(source: str, text: str, **options) -> None:
    outcome = run(source, **options)
    assert (outcome.status, outcome.out, outcome.err) == (0, text, "")


# ---- of the compiler ---------------------------------------------------------------------

def constants(count: int) -> str:
    return lines("{i};", range(count))


def test_256_constants(mode):
    prints(function(constants(255) + "\nprint 255;"), "255\n", **mode)
    compile_error(function(constants(256) + '\n"oops";'),
                  "Error at '\"oops\"': Too many constants in one chunk.", **mode)


def test_constants_are_not_shared(mode):
    """As in the book: each literal and each global name is one, however often it stands there."""
    compile_error(function(lines("1;", range(257))),
                  "Error at '1': Too many constants in one chunk.", **mode)
    compile_error(function(lines("f;", range(257))),
                  "Error at 'f': Too many constants in one chunk.", **mode)


def test_each_function_has_its_constants(mode):
    inner = "fun g() {\n" + constants(255) + "\nprint 255;\n}\ng();\n"
    prints(function(constants(250) + inner), "255\n", **mode)


def test_255_locals(mode):
    """One more is what is called, or `this`."""
    declared = lines("var v{i} = {i};", range(200)) + lines("\nvar v{i} = v0;", range(200, 255))
    prints(function(declared + "\nprint v199 + v254;"), "199\n", **mode)
    compile_error(function(declared + "\nvar oops;"),
                  "Error at 'oops': Too many local variables in function.", **mode)


def test_locals_of_blocks_that_ended_do_not_count(mode):
    block = "{" + lines("var v{i};", range(200)) + "}\n"
    prints(function(block * 3 + "print 1;"), "1\n", **mode)


def test_256_captured_variables(mode):
    def source(count):
        outer = lines("var a{i} = nil;", range(128))
        middle = lines("var b{i} = nil;", range(count - 128))
        uses = lines("a{i};", range(128)) + lines("\nb{i};", range(count - 128))
        return (f"fun f() {{\n{outer}\nfun g() {{\n{middle}\nfun h() {{\n{uses}\nprint b0;\n}}\n"
                f"h();\n}}\ng();\n}}\nf();\n")
    prints(source(256), "nil\n", **mode)
    compile_error(source(257), "Error at 'b128': Too many closure variables in function.", **mode)


def test_255_parameters_and_arguments(mode):
    def source(parameters, arguments):
        names = ", ".join(f"p{i}" for i in range(parameters))
        values = ", ".join(["x"] * (arguments - 1) + ['"last"'])
        # Within a function the argument is a local: globals would be constants.
        return (f"fun f({names}) {{ return p{parameters - 1}; }}\n"
                f"fun g(x) {{ return f({values}); }}\nprint g(1);\n")
    prints(source(255, 255), "last\n", **mode)
    compile_error(source(256, 1), "Error at 'p255': Can't have more than 255 parameters.", **mode)
    compile_error(source(1, 256), "Error at '\"last\"': Can't have more than 255 arguments.",
                  **mode)
    outcome = run(source(255, 254), **mode)
    assert outcome.err.startswith("Expected 255 arguments but got 254.\n[line 2] in g()\n")


def test_methods_have_as_many(mode):
    names = ", ".join(f"p{i}" for i in range(255))
    values = ", ".join(["x"] * 255)
    prints(f"class A {{ m({names}) {{ return this; }} }}\n"
           f"fun g(x) {{ return A().m({values}); }}\nprint g(1);\n", "A instance\n", **mode)


def nothings(count: int) -> str:
    """Statements of twice so many bytes of code: 402 of 102 tokens, or two of two."""
    many, few = divmod(count, 201)
    return ("nil" + " or nil" * 50 + ";\n") * many + "nil;\n" * few


# Bytes between a jump and where it leads, beside the body's, as clox compiles them.
JUMPS = {
    "while": ("while (false) {{\n{body}}}", 8, "Loop body too large."),
    "for": ("for (;;) {{ if (true) return;\n{body}}}", 3 + 1 + 3 + 1 + 2 + 3 + 1,
            "Loop body too large."),
    "if": ("if (false) {{\n{body}}}", 4, "Too much code to jump over."),
    "else": ("if (true) {{ nil; }} else {{\n{body}}}", 1, "Too much code to jump over."),
}


@pytest.mark.parametrize("name", JUMPS)
def test_code_that_is_jumped_over(name, mode):
    template, more, error = JUMPS[name]
    template += "\nprint 0;"        # where the compiler finds its way again
    most = (65535 - more) // 2
    if not mode:                    # it is long
        prints(function(template.format(body=nothings(most))) + "print 1;",
               "1\n" if name == "for" else "0\n1\n")
    compile_error(function(template.format(body=nothings(most + 1))),
                  f"Error at '}}': {error}", **mode)


@pytest.mark.parametrize("operator", ["and", "or"])
def test_operands_that_are_jumped_over(operator):
    """A byte for the left operand's pop, one for the first `true`, and two for each other."""
    first = "false" if operator == "and" else "true"
    most = (65535 - 2) // 2
    prints(function(f"print {first} {operator} true{' == true' * most};"), f"{first}\n")
    compile_error(function(f"print {first} {operator} true{' == true' * (most + 1)};"),
                  "Error at 'true': Too much code to jump over.")


# ---- of the VM ---------------------------------------------------------------------------

@pytest.mark.parametrize("depth", [1, 62, 63, 64, 65, 1000])
@pytest.mark.parametrize("more", [{}, STRESS], ids=["plain", "stressed"])
def test_64_frames(depth, more):
    source = (f"fun f(n) {{\n  if (n == 1) return 1;\n  return f(n - 1) + 1;\n}}\n"
              f"print f({depth});\n")
    outcome = run(source, **more)
    assert outcome == evaluate(source)
    assert outcome.status == (0 if depth <= 63 else 70)


def test_frames_that_are_full_of_locals():
    """63 functions of 255 locals: the stack holds what the frames may."""
    declared = lines("var v{i} = n;", range(254))
    source = (f"fun f(n) {{\n{declared}\nif (n == 1) return v253;\nreturn f(n - 1) + v253;\n}}\n"
              "print f(63);\n")
    prints(source, "2016\n")
    assert run(source.replace("f(63)", "f(64)")).err.startswith("Stack overflow.\n")


@pytest.mark.parametrize("depth", [10, 100, 200, 999])
def test_operands_that_wait(depth):
    """Each open parenthesis leaves an operand on the stack."""
    prints(function("var x = 1;\nprint " + "(x + " * depth + "x" + ")" * depth + ";"),
           f"{depth + 1}\n")


# ---- too much ----------------------------------------------------------------------------

def refused(outcome) -> None:
    """The book's error or one clear line, with a trace if the program was running."""
    assert outcome.status in (65, 70) and outcome.out == ""
    assert 0 < len(outcome.err) < 10_000
    assert outcome.err.count("\n") == 1 or "[line" in outcome.err


DEEP = {
    "parentheses": "print {}1{};".format("(" * 50_000, ")" * 50_000),
    "parentheses not closed": "print " + "(" * 50_000,
    "negations": "print " + "-" * 50_000 + "1;",
    "nots": "print " + "!" * 50_000 + "nil;",
    "blocks": "{" * 50_000 + "}" * 50_000,
    "blocks not closed": "{" * 50_000,
    "ifs": "if (true) " * 20_000 + "print 1;",
    "elses": "if (false) nil; else " * 5_000 + "print 1;",
    "whiles": "while (false) " * 20_000 + "print 1;",
    "functions": "fun f() {" * 2_000 + "}" * 2_000,
    "classes": "class A { m() {" * 2_000 + "}}" * 2_000,
    "calls": "f" + "()" * 50_000 + ";",
    "arguments": "f(" * 20_000 + ")" * 20_000 + ";",
    "properties": "a" + ".b" * 50_000 + ";",
    "assignments": "a = " * 50_000 + "1;",
    "ands": "print nil" + " and nil" * 20_000 + ";",
    "equalities": "print true" + " == true" * 100_000 + ";",
    "supers": "super." * 20_000,
    "closing": "}" * 50_000,
    "semicolons": ";" * 50_000,
    "strings": '"' * 50_001,
    "operators": "+-*/" * 20_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting(name):
    outcome = run(DEEP[name])
    assert outcome.status in (0, 65, 70)
    if outcome.status == 70:
        refused(outcome)
    elif outcome.status == 65:
        assert all(line.startswith("[line 1] Error") for line in outcome.err.splitlines())


# What a level begins with, what is innermost, and what each ends with.  Names are of locals: those
# of globals are constants, of which a function has 256.
NESTED = {
    "blocks": ("{", "", "}"),
    "ifs": ("if (nil) {", "", "}"),
    "ifs without blocks": ("if (nil) ", "nil;", ""),
    "elses": ("if (nil) nil; else {", "", "}"),
    "whiles": ("while (nil) {", "", "}"),
    "fors": ("for (; nil;) ", "nil;", ""),
    "functions": ("fun f() {", "", "}"),
    "classes": ("class A { m() {", "", "}}"),
    "parentheses": ("(", "nil", ")"),
    "operands": ("x + (", "x", ")"),
    "every precedence": ("x or x and x == x < x + x * x(", "x", ")"),
    "negations": ("!-", "x", ""),
    "assignments": ("x = ", "x", ""),
}
LEVELS = {"negations": 2}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("more", [{}, STRESS], ids=["plain", "stressed"])
def test_1000_levels_of_nesting(name, more):
    """One more is one error, at whatever was too much."""
    opening, inside, closing = NESTED[name]
    end = "" if inside in ("", "nil;") else ";"
    most = 999 // LEVELS.get(name, 1)               # the body of the function is one

    def source(depth):
        return (f"fun f(x) {{\n{opening * depth}{inside}{closing * depth}{end}\n}}\nprint 1;")
    prints(source(most), "1\n", **more)
    for depth in (most + 1, 100_000):
        outcome = run(source(depth), **more)
        assert (outcome.status, outcome.out, outcome.err.count("\n")) == (65, "", 1)
        assert outcome.err.endswith(": Too much nesting.\n")


@pytest.mark.parametrize(("first", "link", "nbytes"), [
    ("if (nil) nil;", " else if (nil) nil;", 1 + 3 + 1 + 2 + 3 + 1),
    ("nil", " and true", 3 + 1 + 1), ("nil", " or nil", 3 + 3 + 1 + 1)])
def test_chains_are_no_nesting(first, link, nbytes):
    """They end where the first jump does not reach over the others any more."""
    end = "" if first.endswith(";") else ";"
    most = 65535 // nbytes
    for count, status in ((most - 1, 0), (most + 2, 65)):
        outcome = run(function(first + link * count + end) + "print 1;")
        assert outcome.status == status
        assert (outcome.out, outcome.err.count("\n")) == (("1\n", 0) if not status else ("", 1))
        assert not status or outcome.err.endswith("Too much code to jump over.\n")


def test_a_line_of_a_megabyte():
    prints("nil;" * 250_000 + "print 1;", "1\n")
    prints("//" + "x" * 1_000_000 + "\nprint 1;", "1\n")
    prints(" " * 1_000_000 + "print 1;", "1\n")
    outcome = run("nil;" * 250_000 + "print nil + 1;")
    assert outcome.err.endswith("\n[line 1] in script\n")


def test_a_million_lines():
    outcome = run("\n" * 1_000_000 + "-nil;")
    assert outcome.err == "Operand must be a number.\n[line 1000001] in script\n"


def test_huge_constants():
    long = "x" * 1_000_000
    prints(f'print "{long}" == "{long}"; print "{long}y" == "{long}";', "true\nfalse\n")
    prints(f"var {long} = 1; print {long};", "1\n")
    prints(f'class A {{}} var a = A(); a.{long} = 3; print a.{long};', "3\n")
    outcome = run(f"print {long};")
    assert outcome.status == 70 and outcome.err.startswith("Undefined variable 'x")
    prints(f"print {'9' * 400}; print 0.{'0' * 400}1; print {'1' * 1_000_000};",
           "inf\n0\ninf\n")


def test_text_that_is_not_utf_8():
    """Characters are bytes, as in the book; nothing is lost on the way to the output."""
    from lox.running import run_bytes
    assert run_bytes(b'print "\xff\xfe" + "\x80";') == (0, b"\xff\xfe\x80\n", b"")
    assert run_bytes(b"// \xff\xc3\nprint 1;") == (0, b"1\n", b"")
    assert run_bytes(b"print \xff;") == (65, b"", b"[line 1] Error: Unexpected character.\n")


@pytest.mark.parametrize("source", [b"\0", b"print 1;\0print 2;", b'print "a\0b";', b"\0" * 1000])
def test_zero_bytes(source):
    from lox.running import run_bytes
    status, _, err = run_bytes(source)
    assert status in (0, 65) and err.count(b"\n") <= 2


# ---- memory ------------------------------------------------------------------------------

GREEDY = {
    "list": "class L {}\nvar l = nil;\nwhile (true) { var n = L(); n.next = l; l = n; }",
    "string": 'var s = "0123456789";\nwhile (true) s = s + s;',
    "strings": 'class L {}\nvar l = nil; var s = "x";\n'
               'while (true) { s = s + "y"; var n = L(); n.next = l; n.s = s; l = n; }',
    "array": "array(100000000);",
    "larger than anything": "array(1000000000000);",
    "larger than an address": "array(1000000000000000);",
    "larger than a word": "array(10000000000 * 10000000000);",
    "arrays": "var a = nil;\nwhile (true) { var b = array(1000); b.set(0, a); a = b; }",
    "closures": "var last = nil;\nwhile (true) { var before = last; fun f() { return before; } "
                "last = f; }",
    "classes": "var last = nil;\nwhile (true) { class A { m() { return last; } } var a = A(); "
               "a.before = last; last = a; }",
    "bound methods": "class A { m() {} }\nvar a = array(1000000);\nvar i = 0;\n"
                     "while (true) { a.set(i, A().m); i = i + 1; }",
    "fields": "fun f() { class A {} var a = A(); a.x = array(200000); g(a); }\n"
              "fun g(a) { a.y = array(200000); while (true) a.z = array(300000); }\nf();",
}


@pytest.mark.parametrize("name", GREEDY)
@pytest.mark.parametrize("more", [{}, {"backend": "stw"}], ids=["auto", "stw"])
def test_memory_that_runs_out(name, more):
    """An error of the program, with its trace: the heap is as it was."""
    outcome = run(GREEDY[name], capacity="4MiB", **more)
    assert outcome.status == 70 and outcome.out == ""
    first, *trace = outcome.err.splitlines()
    assert "memory" in first.lower() and trace[-1].endswith("in script")
    assert all(line.startswith("[line ") for line in trace)


def test_memory_that_runs_out_in_a_thread():
    outcome = run("fun f() {" + GREEDY["list"].replace("\n", " ") + "}\n"
                  "var t = spawn(f);\njoin(t);\nprint \"over\";", capacity="4MiB")
    assert outcome.status == 70 and "memory" in outcome.err.lower()


def test_a_heap_that_is_full_of_garbage_is_not_exhausted():
    prints("class A {}\nfor (var i = 0; i < 200000; i = i + 1) { var a = A(); a.a = a; }\n"
           "print 1;", "1\n", capacity="2MiB")
