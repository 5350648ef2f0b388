"""The from-space that benchmarks make up: assembly of it is right, or its speed says nothing."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcheap.workloads._micro_slide import MadeUpSpace


@given(st.integers(1, 300), st.integers(2, 300), st.data())
def test_every_slot_leads_where_its_object_went(live, words, data):
    slots = data.draw(st.integers(0, min(words - 1, 20)))
    assert MadeUpSpace(live, words, slots, seed=live).check()


def test_the_loops_run():
    space = MadeUpSpace(100, 4, 2)
    assert space.forward_loop(1000) > 0 and space.assemble_loop(2) > 0
    assert space.live_bytes == 3200


@pytest.mark.parametrize("shape", [(0, 4, 2), (1, 1, 0), (1, 4, 4), (1, 1 << 20, 0)])
def test_what_cannot_be_made_up(shape):
    with pytest.raises(ValueError, match="expected"):
        MadeUpSpace(*shape)
