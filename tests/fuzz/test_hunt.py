"""The faults of the hunt are still what the core would have to be changed for."""
from __future__ import annotations

import pytest
from source_tree import needs_tree

from fuzz.hunt import FAULTS, ROOT


@needs_tree
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_can_be_planted(fault):
    text = (ROOT / "gcheap" / fault.file).read_text()
    assert fault.plant(text) != text
