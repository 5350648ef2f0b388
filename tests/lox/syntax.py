"""Lox source to a tree, with the compile-time errors of the book's clox: for `evaluator.py`.

One pass, as clox compiles: names are resolved while parsing, so a function sees the variables that
were declared before it, and a compile error ends a declaration, not the parse.  A node's `line` is
the line that clox would give the instruction in which the node can fail.  Written from the book's
grammar and from what clox prints, not from gcheap.lox, which it judges.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

STATEMENTS = frozenset(["class", "fun", "var", "for", "if", "while", "print", "return"])
KEYWORDS = STATEMENTS | {"and", "else", "false", "nil", "or", "super", "this", "true"}
LOCALS = UPVALUES = 256
ARGUMENTS = 255

_TOKEN = re.compile(
    r'(?P<space>[ \r\t\n]+|//[^\n]*)'
    r'|(?P<identifier>[A-Za-z_][A-Za-z_0-9]*)'
    r'|(?P<number>[0-9]+(?:\.[0-9]+)?)'
    r'|(?P<string>"[^"]*")'
    r'|(?P<operator>[!=<>]=|[-+*/(){},.;!=<>])')


class CompileError(Exception):
    """What clox prints of a program that does not compile, a line an error."""


@dataclass(slots=True)
class Token:
    kind: str           # the text of an operator or keyword, else identifier, number, ..., end
    text: str
    line: int


def scan(source: str):
    """Yields the tokens; an error is a token whose text is the message."""
    line, at = 1, 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            if source[at] == '"':
                line += source.count("\n", at)
                yield Token("error", "Unterminated string.", line)
                break
            yield Token("error", "Unexpected character.", line)
            at += 1
            continue
        at, text, kind = match.end(), match.group(), match.lastgroup
        line += text.count("\n")
        if kind == "operator" or text in KEYWORDS:
            yield Token(text, text, line)
        elif kind != "space":
            yield Token(kind, text, line)
    while True:
        yield Token("end", "", line)


class Variable:
    """One declaration of a local variable; the activations of its function have a cell of it."""
    __slots__ = ("name", "depth")

    def __init__(self, name: str, depth: int | None) -> None:
        self.name, self.depth = name, depth


@dataclass(slots=True)
class Node:
    """`kind` names the method of the evaluator; `parts` are its arguments."""
    kind: str
    line: int
    parts: tuple


@dataclass
class Function:
    """A function, method, initializer or the script (`name` None)."""
    name: str | None
    kind: str
    enclosing: Function | None
    parameters: list[Variable] = field(default_factory=list)
    captured: list[Variable] = field(default_factory=list)
    body: list[Node] = field(default_factory=list)
    locals: list[Variable] = field(default_factory=list)
    depth: int = 0

    def __post_init__(self) -> None:
        named = self.kind in ("method", "initializer")
        self.this = Variable("this" if named else "", 0)
        self.locals.append(self.this)


# Binding power of what follows an operand, and of its right operand.
_INFIX = {"or": 2, "and": 3, "!=": 4, "==": 4, ">": 5, ">=": 5, "<": 5, "<=": 5, "-": 6, "+": 6,
          "/": 7, "*": 7, "(": 9, ".": 9}
_ASSIGNMENT, _UNARY = 1, 8


def parse(source: str) -> Function:
    """The script of a program; CompileError with everything that is wrong with it."""
    return Parser(source).program()


class Parser:
    def __init__(self, source: str) -> None:
        self.tokens = scan(source)
        self.errors: list[str] = []
        self.panic = False
        self.classes: list[bool] = []           # of each class around: has it a superclass?
        self.function = Function(None, "script", None)
        self.previous = self.current = Token("end", "", 1)
        self.advance()

    def program(self) -> Function:
        while not self.match("end"):
            self.function.body.append(self.declaration())
        if self.errors:
            raise CompileError("".join(f"{line}\n" for line in self.errors))
        return self.function

    # ---- tokens and errors -------------------------------------------------------------------

    def advance(self) -> None:
        self.previous = self.current
        self.current = next(self.tokens)
        while self.current.kind == "error":
            self.error(self.current.text, self.current)
            self.current = next(self.tokens)

    def check(self, kind: str) -> bool:
        return self.current.kind == kind

    def match(self, kind: str) -> bool:
        if self.current.kind != kind:
            return False
        self.advance()
        return True

    def consume(self, kind: str, message: str) -> Token:
        if self.current.kind == kind:
            self.advance()
        else:
            self.error(message, self.current)
        return self.previous

    def error(self, message: str, token: Token | None = None) -> None:
        token = token or self.previous
        if self.panic:
            return
        self.panic = True
        where = {"end": " at end", "error": ""}.get(token.kind, f" at '{token.text}'")
        self.errors.append(f"[line {token.line}] Error{where}: {message}")

    def synchronize(self) -> None:
        self.panic = False
        while not self.check("end"):
            if self.previous.kind == ";" or self.current.kind in STATEMENTS:
                return
            self.advance()

    def node(self, kind: str, *parts) -> Node:
        return Node(kind, self.previous.line, parts)

    # ---- variables ---------------------------------------------------------------------------

    def declare(self, name: str) -> Variable | None:
        """A local variable that cannot be read yet; None in global scope."""
        function = self.function
        if function.depth == 0:
            return None
        for local in reversed(function.locals):
            if local.depth is not None and local.depth < function.depth:
                break
            if local.name == name:
                self.error("Already a variable with this name in this scope.")
        return self.add_local(name)

    def add_local(self, name: str) -> Variable:
        variable = Variable(name, None)
        if len(self.function.locals) == LOCALS:
            self.error("Too many local variables in function.")
        else:
            self.function.locals.append(variable)
        return variable

    def define(self, variable: Variable | None) -> None:
        if variable is not None:
            variable.depth = self.function.depth

    def variable(self, message: str) -> tuple[str, Variable | None]:
        name = self.consume("identifier", message).text
        return name, self.declare(name)

    def resolve(self, function: Function | None, name: str) -> Variable | None:
        if function is None:
            return None
        for local in reversed(function.locals):
            if local.name == name:
                if local.depth is None:
                    self.error("Can't read local variable in its own initializer.")
                return local
        found = self.resolve(function.enclosing, name)
        if found is not None and found not in function.captured:
            if len(function.captured) == UPVALUES:
                self.error("Too many closure variables in function.")
            else:
                function.captured.append(found)
        return found

    def named(self, name: str, assignable: bool) -> Node:
        target = self.resolve(self.function, name)
        if assignable and self.match("="):
            return self.node_after("assign", name, target, self.expression())
        return self.node("read", name, target)

    def node_after(self, kind: str, *parts) -> Node:
        """A node whose last part was just parsed: its instruction has that line."""
        return self.node(kind, *parts)

    def begin(self) -> None:
        self.function.depth += 1

    def end(self) -> None:
        function = self.function
        function.depth -= 1
        while len(function.locals) > 1 and (
                function.locals[-1].depth is None or function.locals[-1].depth > function.depth):
            function.locals.pop()

    # ---- declarations ------------------------------------------------------------------------

    def declaration(self) -> Node:
        if self.match("class"):
            node = self.class_declaration()
        elif self.match("fun"):
            node = self.fun_declaration()
        elif self.match("var"):
            node = self.var_declaration()
        else:
            node = self.statement()
        if self.panic:
            self.synchronize()
        return node

    def class_declaration(self) -> Node:
        name, target = self.variable("Expect class name.")
        self.define(target)
        superclass = super_variable = None
        self.classes.append(False)
        if self.match("<"):
            self.consume("identifier", "Expect superclass name.")
            superclass = self.named(self.previous.text, False)
            if self.previous.text == name:
                self.error("A class can't inherit from itself.")
            self.begin()
            super_variable = self.add_local("super")
            self.define(super_variable)
            self.named(name, False)
            self.classes[-1] = True
        line = self.previous.line
        self.named(name, False)
        self.consume("{", "Expect '{' before class body.")
        methods = []
        while not self.check("}") and not self.check("end"):
            method = self.consume("identifier", "Expect method name.").text
            methods.append(self.function_body(
                method, "initializer" if method == "init" else "method"))
        self.consume("}", "Expect '}' after class body.")
        if self.classes.pop():
            self.end()
        return Node("class", line, (name, target, superclass, super_variable, methods))

    def function_body(self, name: str, kind: str) -> Function:
        made = self.function = Function(name, kind, self.function)
        self.begin()
        self.consume("(", "Expect '(' after function name.")
        if not self.check(")"):
            while True:
                if len(made.parameters) == ARGUMENTS:
                    self.error("Can't have more than 255 parameters.", self.current)
                _, parameter = self.variable("Expect parameter name.")
                self.define(parameter)
                made.parameters.append(parameter)
                if not self.match(","):
                    break
        self.consume(")", "Expect ')' after parameters.")
        self.consume("{", "Expect '{' before function body.")
        made.body = self.block()
        self.function = made.enclosing
        return made

    def fun_declaration(self) -> Node:
        name, target = self.variable("Expect function name.")
        self.define(target)
        return self.node("fun", name, target, self.function_body(name, "function"))

    def var_declaration(self) -> Node:
        name, target = self.variable("Expect variable name.")
        value = self.expression() if self.match("=") else self.node("literal", None)
        self.consume(";", "Expect ';' after variable declaration.")
        self.define(target)
        return self.node("var", name, target, value)

    # ---- statements --------------------------------------------------------------------------

    def statement(self) -> Node:
        if self.match("print"):
            value = self.expression()
            self.consume(";", "Expect ';' after value.")
            return self.node("print", value)
        if self.match("for"):
            return self.for_statement()
        if self.match("if"):
            condition = self.condition("if")
            then = self.statement()
            return self.node("if", condition, then,
                             self.statement() if self.match("else") else None)
        if self.match("return"):
            return self.return_statement()
        if self.match("while"):
            condition = self.condition("while")
            return self.node("while", condition, self.statement(), None)
        if self.match("{"):
            self.begin()
            body = self.block()
            self.end()
            return self.node("block", body)
        return self.expression_statement()

    def block(self) -> list[Node]:
        body = []
        while not self.check("}") and not self.check("end"):
            body.append(self.declaration())
        self.consume("}", "Expect '}' after block.")
        return body

    def condition(self, word: str) -> Node:
        self.consume("(", f"Expect '(' after '{word}'.")
        condition = self.expression()
        self.consume(")", "Expect ')' after condition.")
        return condition

    def for_statement(self) -> Node:
        self.begin()
        self.consume("(", "Expect '(' after 'for'.")
        first = []
        if self.match("var"):
            first.append(self.var_declaration())
        elif not self.match(";"):
            first.append(self.expression_statement())
        condition = self.node("literal", True)
        if not self.match(";"):
            condition = self.expression()
            self.consume(";", "Expect ';' after loop condition.")
        increment = None
        if not self.match(")"):
            increment = self.expression()
            self.consume(")", "Expect ')' after for clauses.")
        loop = self.node("while", condition, self.statement(), increment)
        self.end()
        return self.node("block", [*first, loop])

    def return_statement(self) -> Node:
        if self.function.kind == "script":
            self.error("Can't return from top-level code.")
        if self.match(";"):
            return self.node("return", None)
        if self.function.kind == "initializer":
            self.error("Can't return a value from an initializer.")
        value = self.expression()
        self.consume(";", "Expect ';' after return value.")
        return self.node("return", value)

    def expression_statement(self) -> Node:
        value = self.expression()
        self.consume(";", "Expect ';' after expression.")
        return self.node("expression", value)

    # ---- expressions -------------------------------------------------------------------------

    def expression(self, power: int = _ASSIGNMENT) -> Node | None:
        self.advance()
        assignable = power <= _ASSIGNMENT
        node = self.operand(assignable)
        if node is None:
            return None
        while power <= _INFIX.get(self.current.kind, 0):
            self.advance()
            node = self.infix(node, self.previous.kind, assignable)
        if assignable and self.match("="):
            self.error("Invalid assignment target.")
        return node

    def operand(self, assignable: bool) -> Node | None:
        token = self.previous
        match token.kind:
            case "number":
                return self.node("literal", float(token.text))
            case "string":
                return self.node("literal", token.text[1:-1])
            case "nil" | "true" | "false":
                return self.node("literal", {"nil": None, "true": True, "false": False}[token.kind])
            case "identifier":
                return self.named(token.text, assignable)
            case "this":
                if not self.classes:
                    self.error("Can't use 'this' outside of a class.")
                    return self.node("literal", None)
                return self.named("this", False)
            case "super":
                return self.super_access()
            case "(":
                inner = self.expression()
                self.consume(")", "Expect ')' after expression.")
                return inner or self.node("literal", None)
            case "-" | "!":
                return self.node_after("unary", token.kind, self.expression(_UNARY))
        self.error("Expect expression.")
        return None

    def super_access(self) -> Node:
        if not self.classes:
            self.error("Can't use 'super' outside of a class.")
        elif not self.classes[-1]:
            self.error("Can't use 'super' in a class with no superclass.")
        self.consume(".", "Expect '.' after 'super'.")
        name = self.consume("identifier", "Expect superclass method name.").text
        this = self.named("this", False)
        arguments = self.arguments() if self.match("(") else None
        return self.node("super", name, this, self.named("super", False), arguments)

    def infix(self, left: Node, operator: str, assignable: bool) -> Node:
        if operator in ("and", "or"):
            return self.node_after(operator, left, self.expression(_INFIX[operator]))
        if operator == "(":
            return self.node_after("call", left, self.arguments())
        if operator == ".":
            name = self.consume("identifier", "Expect property name after '.'.").text
            if assignable and self.match("="):
                return self.node_after("set", left, name, self.expression())
            if self.match("("):
                return self.node_after("invoke", left, name, self.arguments())
            return self.node("get", left, name)
        return self.node_after("binary", operator, left, self.expression(_INFIX[operator] + 1))

    def arguments(self) -> list[Node]:
        found = []
        if not self.check(")"):
            while True:
                argument = self.expression()
                if len(found) == ARGUMENTS:
                    self.error("Can't have more than 255 arguments.")
                found.append(argument)
                if not self.match(","):
                    break
        self.consume(")", "Expect ')' after arguments.")
        return found
