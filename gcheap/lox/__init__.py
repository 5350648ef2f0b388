"""Lox, the language of Robert Nystrom's "Crafting Interpreters", on a gcheap heap.

    gcheap.lox.run('print "hello";')

docs/reference/lox.md has the language's limits, the natives beyond the book, and what is atomic.
"""
from gcheap.lox.session import Session, run

__all__ = ["Session", "run"]
