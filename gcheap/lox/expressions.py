"""Expressions of the compiler: a Pratt parser (Pratt, POPL 1973), as in the book."""
from __future__ import annotations

(NONE, ASSIGNMENT, OR, AND, EQUALITY, COMPARISON, TERM, FACTOR, UNARY, CALL) = range(10)

_BINARY = {
    "!=": (EQUALITY, ("EQUAL", "NOT")), "==": (EQUALITY, ("EQUAL",)),
    ">": (COMPARISON, ("GREATER",)), ">=": (COMPARISON, ("LESS", "NOT")),
    "<": (COMPARISON, ("LESS",)), "<=": (COMPARISON, ("GREATER", "NOT")),
    "+": (TERM, ("ADD",)), "-": (TERM, ("SUBTRACT",)),
    "*": (FACTOR, ("MULTIPLY",)), "/": (FACTOR, ("DIVIDE",)),
}


class Expressions:
    """The half of the compiler that reads expressions; the other half is compiler.Compiler."""

    def expression(self):
        self.parse(ASSIGNMENT)

    def inner_expression(self, precedence=ASSIGNMENT):
        """One level of nesting deeper.  Operands of infix operators are none: they nest by
        precedence, which ends."""
        self.deeper()
        self.parse(precedence)
        self.shallower()

    def parse(self, precedence):
        """An expression whose operators bind at least as tightly as `precedence`."""
        self.advance()
        prefix = _PREFIX.get(self.previous.kind)
        if prefix is None:
            self.error("Expect expression.")
            return
        can_assign = precedence <= ASSIGNMENT
        prefix(self, can_assign)
        while True:
            binds, infix = _INFIX.get(self.current.kind, _NO_INFIX)
            if precedence > binds:
                break
            self.advance()
            infix(self, can_assign)
        if can_assign and self.match("="):
            self.error("Invalid assignment target.")

    # ---- prefix ----

    def grouping(self, can_assign):
        self.inner_expression()
        self.consume(")", "Expect ')' after expression.")

    def unary(self, can_assign):
        operator = self.previous.kind
        self.inner_expression(UNARY)
        self.emit("NOT" if operator == "!" else "NEGATE")

    def number(self, can_assign):
        self.emit("CONSTANT", self.constant(float(self.previous.text)))

    def string(self, can_assign):
        self.emit("CONSTANT", self.constant(self.previous.text[1:-1]))

    def literal(self, can_assign):
        self.emit(self.previous.kind.upper())

    def variable(self, can_assign):
        self.named_variable(self.previous.text, can_assign)

    def this(self, can_assign):
        if self.class_ is None:
            self.error("Can't use 'this' outside of a class.")
            return
        self.variable(False)
        if can_assign and self.match("."):
            self.consume("identifier", "Expect property name after '.'.")
            if self.check("="):         # an instance will have such a field
                self.class_.fields.add(self.previous.text)
            self.dotted(can_assign)

    def super_(self, can_assign):
        if self.class_ is None:
            self.error("Can't use 'super' outside of a class.")
        elif not self.class_.has_superclass:
            self.error("Can't use 'super' in a class with no superclass.")
        self.consume(".", "Expect '.' after 'super'.")
        self.consume("identifier", "Expect superclass method name.")
        name = self.previous.text
        constant = self.constant(name)
        self.named_variable(b"this", False)
        if self.match("("):
            count = self.arguments()
            self.named_variable(b"super", False)
            self.emit("SUPER_INVOKE", name, count)
        else:
            self.named_variable(b"super", False)
            self.emit("GET_SUPER", constant)

    # ---- infix ----

    def binary(self, can_assign):
        precedence, operations = _BINARY[self.previous.kind]
        self.parse(precedence + 1)
        for operation in operations:
            self.emit(operation)

    # `a and b and c` is right-associative, but its jumps lead to one place: a loop, no levels.

    def and_(self, can_assign):
        ends = []
        chained = True
        while chained:
            ends.append(self.jump("JUMP_IF_FALSE"))
            self.emit("POP")
            self.parse(AND + 1)
            chained = self.match("and")
        self.patch_all(ends)

    def or_(self, can_assign):
        ends = []
        chained = True
        while chained:
            otherwise = self.jump("JUMP_IF_FALSE")
            ends.append(self.jump("JUMP"))
            self.patch(otherwise)
            self.emit("POP")
            self.parse(OR + 1)
            chained = self.match("or")
        self.patch_all(ends)

    def call(self, can_assign):
        self.emit("CALL", self.arguments())

    def arguments(self):
        count = 0
        if not self.check(")"):
            while True:
                self.inner_expression()
                if count == 255:
                    self.error("Can't have more than 255 arguments.")
                count += 1
                if not self.match(","):
                    break
        self.consume(")", "Expect ')' after arguments.")
        return min(count, 255)

    def dot(self, can_assign):
        self.consume("identifier", "Expect property name after '.'.")
        self.dotted(can_assign)

    def dotted(self, can_assign):
        name = self.previous.text
        self.constant(name)
        if can_assign and self.match("="):
            self.inner_expression()
            self.emit("SET_PROPERTY", name)
        elif self.match("("):
            count = self.arguments()
            self.emit("INVOKE", name, count)
        else:
            self.emit("GET_PROPERTY", name)

    # ---- variables ----

    def named_variable(self, name, can_assign):
        local = self.resolve(self.function, name)
        if local is not None:
            kind, operand = "LOCAL", local
        else:
            operand = self.resolve_upvalue(self.function, name)
            kind = "UPVALUE"
            if operand is None:
                kind, operand = "GLOBAL", self.identifier_constant(name)
        if can_assign and self.match("="):
            self.inner_expression()
            self.emit("SET_" + kind, operand)
        else:
            self.emit("GET_" + kind, operand)

    def resolve(self, function, name):
        """The local of that name, or None."""
        local = function.find_local(name)
        if local is not None and local.depth == -1:
            self.error("Can't read local variable in its own initializer.")
        return local

    def resolve_upvalue(self, function, name):
        """The number of the upvalue for a local of an enclosing function, or None."""
        chain = []
        local = None
        while local is None and function.enclosing is not None:
            chain.append(function)
            function = function.enclosing
            local = self.resolve(function, name)
        if local is None:
            return None
        local.captured = True
        captured = local
        for function in reversed(chain):
            captured = self.add_upvalue(function, captured)
        return captured

    def add_upvalue(self, function, captured):
        for number, known in enumerate(function.upvalues):
            if known is captured or (known == captured and isinstance(captured, int)):
                return number
        if len(function.upvalues) == 256:
            self.error("Too many closure variables in function.")
            return 0
        function.upvalues.append(captured)
        return len(function.upvalues) - 1


_PREFIX = {
    "(": Expressions.grouping, "-": Expressions.unary, "!": Expressions.unary,
    "number": Expressions.number, "string": Expressions.string,
    "identifier": Expressions.variable, "this": Expressions.this, "super": Expressions.super_,
    "nil": Expressions.literal, "true": Expressions.literal, "false": Expressions.literal,
}
_INFIX = {sign: (precedence, Expressions.binary) for sign, (precedence, _) in _BINARY.items()}
_INFIX |= {"and": (AND, Expressions.and_), "or": (OR, Expressions.or_),
           "(": (CALL, Expressions.call), ".": (CALL, Expressions.dot)}
_NO_INFIX = (NONE, None)
