"""Fuzzing: heaps against a model in plain Python, and everything that parses."""
