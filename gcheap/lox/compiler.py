"""The compiler: one pass over the tokens, as in "Crafting Interpreters", with its messages.

It trusts nothing in the source: what it hands on is code that the VM may run without checks.
Expressions are in expressions.py.
"""
from __future__ import annotations

import sys
import threading
from contextlib import contextmanager

from gcheap.lox.assembler import assemble
from gcheap.lox.expressions import Expressions
from gcheap.lox.functions import BYTE, JUMP, Function, Local
from gcheap.lox.scanner import tokens

MOST_NESTED = 1000
MOST_CAPACITY = 64                  # of the fields that an instance is made with
_FRAMES = 20                        # of Python, for each level: 17 in `nil or nil and … * a.m(`
_STARTERS = frozenset(("class", "fun", "var", "for", "if", "while", "print", "return"))


class CompileError(Exception):
    """The source is no program; `messages` is what to print, bytes, a line for each error."""

    def __init__(self, messages):
        super().__init__(messages.decode(errors="backslashreplace"))
        self.messages = messages


class _TooDeep(Exception):
    pass


class ClassState:
    """A class under way, and the fields that its methods set through `this`."""

    def __init__(self, enclosing):
        self.enclosing = enclosing
        self.has_superclass = False
        self.fields = set()
        self.instruction = None     # CLASS, whose operand is how many those are


class Compiler(Expressions):
    """One compilation.  `names` gives global variables and property accesses their numbers."""

    def __init__(self, source, names):
        self._tokens = tokens(source)
        self.names = names
        self.previous = self.current = None
        self.errors = []
        self._panic = False
        self.function = None
        self.class_ = None
        self.finished = []          # assembled functions; the script is the last
        self._level = 0

    def compile(self):
        """The functions of the program, the script last; CompileError."""
        self.begin(Function(None, "script", None))
        try:
            self.advance()
            while not self.match("end"):
                self.declaration()
        except _TooDeep:
            pass
        if self.errors:
            raise CompileError(b"".join(self.errors))
        self.end()
        return self.finished

    # ---- tokens and errors ----

    def advance(self):
        self.previous = self.current
        while True:
            self.current = next(self._tokens)
            if self.current.kind != "error":
                return
            self.error_at(self.current, None)

    def check(self, kind):
        return self.current.kind == kind

    def match(self, kind):
        if self.current.kind != kind:
            return False
        self.advance()
        return True

    def consume(self, kind, message):
        if self.current.kind == kind:
            self.advance()
        else:
            self.error_at(self.current, message)

    def error(self, message):
        self.error_at(self.previous, message)

    def error_at(self, token, message):
        if self._panic:
            return
        self._panic = True
        where, text = b"", message
        if token.kind == "end":
            where = b" at end"
        elif token.kind == "error":
            text = message or token.text.decode()
        else:
            where = b" at '" + token.text + b"'"
        self.errors.append(b"[line %d] Error%s: %s\n" % (token.line, where, text.encode()))

    def synchronize(self):
        self._panic = False
        while self.current.kind != "end":
            if self.previous.kind == ";" or self.current.kind in _STARTERS:
                return
            self.advance()

    def deeper(self):
        """One level of nesting more; ends the compilation where there are too many."""
        self._level += 1
        if self._level > MOST_NESTED:
            self._panic = False
            self.error_at(self.previous, "Too much nesting.")
            raise _TooDeep

    def shallower(self):
        self._level -= 1

    # ---- code ----

    def emit(self, operation, a=None, b=None):
        return self.function.emit(operation, a, b, self.previous.line)

    def constant(self, value):
        constants = self.function.constants
        if len(constants) == BYTE:
            self.error("Too many constants in one chunk.")
            return 0
        constants.append(value)
        return len(constants) - 1

    def jump(self, operation):
        return self.emit(operation)

    def patch(self, jump):
        function = self.function
        if function.size - function.offsets[jump] - 3 > JUMP:
            self.error("Too much code to jump over.")
        function.code[jump][1] = len(function.code)

    def patch_all(self, jumps):
        """Jumps to one place, the last first, as if each were nested in the one before."""
        for jump in reversed(jumps):
            self.patch(jump)

    def loop(self, start, start_size):
        too_large = self.function.size - start_size + 3 > JUMP
        self.emit("LOOP", start)
        if too_large:
            self.error("Loop body too large.")

    def here(self):
        """Where a loop begins: the next instruction, and the bytes before it."""
        return len(self.function.code), self.function.size

    def begin(self, function):
        self.function = function
        if function.kind != "script":
            function.emit("BOX", function.locals[0], None, self.previous.line)

    def end(self):
        """Ends the function; returns it and the number of its code."""
        function = self.function
        self.emit_return()
        if not self.errors:
            self.finished.append(assemble(function, self.names))
        self.function = function.enclosing
        return function, len(self.finished) - 1

    def emit_return(self):
        if self.function.kind == "initializer":
            self.emit("GET_LOCAL", self.function.locals[0])
        else:
            self.emit("NIL")
        self.emit("RETURN")

    # ---- scopes and variables ----

    def begin_scope(self):
        self.function.depth += 1

    def end_scope(self):
        function = self.function
        function.depth -= 1
        while function.locals and function.locals[-1].depth > function.depth:
            local = function.locals.pop()
            self.emit("CLOSE_UPVALUE" if local.captured else "POP")

    def add_local(self, name):
        variables = self.function.locals
        if len(variables) == BYTE:
            self.error("Too many local variables in function.")
            return
        variables.append(Local(name, -1, len(variables)))

    def declare(self):
        """The name that was just read becomes a local, unless the scope is the outermost."""
        function, name = self.function, self.previous.text
        if function.depth == 0:
            return
        for local in reversed(function.locals):
            if local.depth != -1 and local.depth < function.depth:
                break
            if local.name == name:
                self.error("Already a variable with this name in this scope.")
        self.add_local(name)

    def parse_variable(self, message):
        """Reads and declares a name; returns what `define` wants."""
        self.consume("identifier", message)
        self.declare()
        return None if self.function.depth else self.identifier_constant(self.previous.text)

    def identifier_constant(self, name):
        self.constant(name)
        return name

    def initialize(self):
        if self.function.depth:
            self.function.locals[-1].depth = self.function.depth

    def define(self, name):
        """The value on the stack becomes the variable's."""
        if self.function.depth:
            self.initialize()
            self.emit("BOX", self.function.locals[-1])
        else:
            self.emit("DEFINE_GLOBAL", name)

    # ---- declarations ----

    def declaration(self):
        if self.match("class"):
            self.class_declaration()
        elif self.match("fun"):
            self.fun_declaration()
        elif self.match("var"):
            self.var_declaration()
        else:
            self.statement()
        if self._panic:
            self.synchronize()

    def class_declaration(self):
        self.consume("identifier", "Expect class name.")
        name = self.previous
        constant = self.constant(name.text)
        self.declare()
        instruction = self.emit("CLASS", constant, 0)
        self.define(name.text)
        state = self.class_ = ClassState(self.class_)
        into = self.function.code[instruction]
        if self.match("<"):
            self.consume("identifier", "Expect superclass name.")
            self.variable(False)
            if self.previous.text == name.text:
                self.error("A class can't inherit from itself.")
            self.begin_scope()
            self.add_local(b"super")
            self.initialize()
            superclass = self.function.locals[-1]
            self.named_variable(name.text, False)
            self.emit("INHERIT")
            self.emit("BOX", superclass)
            state.has_superclass = True
        self.named_variable(name.text, False)
        self.consume("{", "Expect '{' before class body.")
        while not self.check("}") and not self.check("end"):
            self.method()
        self.consume("}", "Expect '}' after class body.")
        self.emit("CLASS_END")
        into[2] = min(len(state.fields), MOST_CAPACITY)
        if state.has_superclass:
            self.end_scope()
        self.class_ = state.enclosing

    def method(self):
        self.consume("identifier", "Expect method name.")
        name = self.previous.text
        constant = self.constant(name)
        self.compile_function("initializer" if name == b"init" else "method")
        self.emit("METHOD", constant)

    def fun_declaration(self):
        name = self.parse_variable("Expect function name.")
        self.initialize()
        if not self.function.depth:
            self.compile_function("function")
            self.emit("DEFINE_GLOBAL", name)
            return
        local = self.function.locals[-1]
        self.emit("NEW_CELL", local)        # before the closure, which may capture it
        self.compile_function("function")
        self.emit("FILL_CELL", local)

    def compile_function(self, kind):
        self.begin(Function(self.function, kind, self.previous.text))
        self.begin_scope()
        self.consume("(", "Expect '(' after function name.")
        if not self.check(")"):
            while True:
                self.function.arity += 1
                if self.function.arity > 255:
                    self.error_at(self.current, "Can't have more than 255 parameters.")
                self.parse_variable("Expect parameter name.")
                self.initialize()
                self.emit("BOX", self.function.locals[-1])
                if not self.match(","):
                    break
        self.consume(")", "Expect ')' after parameters.")
        self.consume("{", "Expect '{' before function body.")
        self.block()
        function, number = self.end()
        self.emit("CLOSURE", self.constant(number), function.upvalues)
        self.function.size += 2 * len(function.upvalues)

    def var_declaration(self):
        name = self.parse_variable("Expect variable name.")
        if self.match("="):
            self.expression()
        else:
            self.emit("NIL")
        self.consume(";", "Expect ';' after variable declaration.")
        self.define(name)

    # ---- statements ----

    def statement(self):
        if self.match("print"):
            self.expression()
            self.consume(";", "Expect ';' after value.")
            self.emit("PRINT")
        elif self.match("for"):
            self.for_statement()
        elif self.match("if"):
            self.if_statement()
        elif self.match("return"):
            self.return_statement()
        elif self.match("while"):
            self.while_statement()
        elif self.match("{"):
            self.begin_scope()
            self.block()
            self.end_scope()
        else:
            self.expression_statement()

    def inner_statement(self):
        """What an if, an else or a loop governs; a block is a level by itself."""
        if self.check("{"):
            self.statement()
        else:
            self.deeper()
            self.statement()
            self.shallower()

    def block(self):
        self.deeper()
        while not self.check("}") and not self.check("end"):
            self.declaration()
        self.consume("}", "Expect '}' after block.")
        self.shallower()

    def expression_statement(self):
        self.expression()
        self.consume(";", "Expect ';' after expression.")
        self.emit("POP")

    def for_statement(self):
        self.begin_scope()
        self.consume("(", "Expect '(' after 'for'.")
        if self.match("var"):
            self.var_declaration()
        elif not self.match(";"):
            self.expression_statement()
        start = self.here()
        leave = None
        if not self.match(";"):
            self.expression()
            self.consume(";", "Expect ';' after loop condition.")
            leave = self.jump("JUMP_IF_FALSE")
            self.emit("POP")
        if not self.match(")"):
            body = self.jump("JUMP")
            increment = self.here()
            self.expression()
            self.emit("POP")
            self.consume(")", "Expect ')' after for clauses.")
            self.loop(*start)
            start = increment
            self.patch(body)
        self.inner_statement()
        self.loop(*start)
        if leave is not None:
            self.patch(leave)
            self.emit("POP")
        self.end_scope()

    def if_statement(self):
        over = []
        chained = True
        while chained:                      # else if … else if: no levels
            self.consume("(", "Expect '(' after 'if'.")
            self.expression()
            self.consume(")", "Expect ')' after condition.")
            otherwise = self.jump("JUMP_IF_FALSE")
            self.emit("POP")
            self.inner_statement()
            over.append(self.jump("JUMP"))
            self.patch(otherwise)
            self.emit("POP")
            chained = False
            if self.match("else"):
                chained = self.match("if")
                if not chained:
                    self.inner_statement()
        self.patch_all(over)

    def while_statement(self):
        start = self.here()
        self.consume("(", "Expect '(' after 'while'.")
        self.expression()
        self.consume(")", "Expect ')' after condition.")
        leave = self.jump("JUMP_IF_FALSE")
        self.emit("POP")
        self.inner_statement()
        self.loop(*start)
        self.patch(leave)
        self.emit("POP")

    def return_statement(self):
        if self.function.kind == "script":
            self.error("Can't return from top-level code.")
        if self.match(";"):
            self.emit_return()
            return
        if self.function.kind == "initializer":
            self.error("Can't return a value from an initializer.")
        self.expression()
        self.consume(";", "Expect ';' after return value.")
        self.emit("RETURN")


def compile_source(source, names):
    """The functions of `source` (bytes), the script last; CompileError with all its messages."""
    with _room():
        return Compiler(source, names).compile()


_lock = threading.Lock()
_users = 0
_usual = 0


@contextmanager
def _room():
    """Room for the recursion that MOST_NESTED allows.  The interpreter has one limit for all
    threads: the first compilation under way raises it, the last puts it back."""
    global _users, _usual
    with _lock:
        if _users == 0:
            _usual = sys.getrecursionlimit()
        _users += 1
        wanted = _usual + _FRAMES * MOST_NESTED
        if sys.getrecursionlimit() < wanted:
            sys.setrecursionlimit(wanted)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                sys.setrecursionlimit(_usual)
