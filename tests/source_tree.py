"""Whether the tests run in the source tree, or beside an installed wheel (tests/versions.py)."""
from __future__ import annotations

import pytest
from support import ROOT

IN_TREE = (ROOT / "gcheap").is_dir()
needs_tree = pytest.mark.skipif(not IN_TREE,
                                reason="the source tree is missing here: no gcheap/ beside tests/")
