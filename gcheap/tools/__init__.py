"""The commands of the `gcheap` command line, one module each, and what they share.

A command module has `add(commands)`, which adds its parser to the argparse subparsers and
sets its `run(args) -> exit status`.  `gcheap.cli` lists them.
"""
