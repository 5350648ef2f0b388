"""The faults of the hunt are still what the core would have to be changed for."""
from __future__ import annotations

import pytest

from fuzz.hunt import FAULTS, ROOT


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_can_be_planted(fault):
    path = ROOT / "gcheap" / fault.file
    if not path.exists():
        pytest.skip("the sources are not here")
    text = path.read_text()
    assert fault.plant(text) != text
