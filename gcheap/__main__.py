"""`python -m gcheap`: the same as the `gcheap` command."""
import sys

from gcheap.cli import main

if __name__ == "__main__":
    sys.exit(main())
