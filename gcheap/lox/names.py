"""Numbers of global variables and of property accesses, for one compilation.

A global is the same for every unit of a program, so a line of the REPL may define what an earlier
function uses.  Nothing is the program's until the compilation has succeeded.
"""
from __future__ import annotations

from gcheap.lox._vm import CACHE_WORDS, MOST_GLOBALS, MOST_SITES


class TooMany(Exception):
    """More globals or property accesses than a program may have."""


class Names:
    """`globals_` (name -> number) and `sites` (a count) are the program's so far."""

    def __init__(self, globals_, sites):
        self._known = globals_
        self._first_site = sites
        self.new_globals = {}
        self.new_sites = []

    def global_(self, name):
        number = self._known.get(name)
        if number is None:
            number = self.new_globals.get(name)
        if number is None:
            number = self.new_globals[name] = len(self._known) + len(self.new_globals)
            if number >= MOST_GLOBALS:
                raise TooMany("Too many global variables in one program.")
        return number

    def site(self, name):
        """Where the cache of one more access to property `name` begins, in words."""
        number = self._first_site + len(self.new_sites)
        if number >= MOST_SITES:
            raise TooMany("Too many property accesses in one program.")
        self.new_sites.append(name)
        return number * CACHE_WORDS
