import numpy as np
import pytest

from segjax.data.chains import MISSING, SEQUENCE_END, SIZE, describe_end, find_chains
from segjax.errors import UserError
from tests.video_tools import Table


def by_place(chains):
    return {(chain.record, chain.direction): chain for chain in chains}


def test_chains_of_one_sequence():
    chains = by_place(find_chains(Table((7,), every=3), steps=2, needs_before=False))
    assert set(chains) == {(r, d) for r in (0, 3, 6) for d in (1, -1)}
    assert chains[3, 1].records == (4, 5) and chains[3, -1].records == (2, 1) and chains[3, 1].end == ""
    assert chains[0, -1].records == () and chains[0, -1].end == SEQUENCE_END
    assert chains[6, -1].records == (5, 4) and chains[6, -1].before is None


def test_the_three_frames_of_every_step_are_those_published():
    chain = by_place(find_chains(Table((9,), every=8, first=4), steps=3, needs_before=True))
    assert [chain[4, 1].inputs(p) for p in (1, 2, 3)] == [(3, 4, 5), (4, 5, 6), (4, 6, 7)]
    assert [chain[4, -1].inputs(p) for p in (1, 2, 3)] == [(5, 4, 3), (4, 3, 2), (4, 2, 1)]
    assert [chain[4, -1].inputs(p, "near") for p in (1, 2, 3)] == [(5, 4, 3), (4, 3, 2), (3, 2, 1)]


def test_a_network_that_looks_back_needs_the_frame_before():
    chains = by_place(find_chains(Table((4,)), steps=3, needs_before=True))
    assert chains[0, 1].records == () and chains[0, 1].end == SEQUENCE_END
    assert chains[1, 1].records == (2, 3)


def test_sequences_do_not_touch():
    chains = by_place(find_chains(Table((3, 3)), steps=5, needs_before=False))
    assert chains[2, 1].records == () and chains[3, -1].records == () and chains[3, 1].records == (4, 5)


def test_a_missing_frame_ends_a_chain_and_is_listed():
    table = Table((7,), without={(0, 4)})
    chains = by_place(find_chains(table, steps=3, needs_before=False))
    assert chains[2, 1].records == (3,) and chains[2, 1].end == MISSING
    assert describe_end(chains[2, 1], table) == f"v0_002 -> step +2: {MISSING}"
    assert chains[4, -1].records == () and chains[4, -1].end == MISSING  # record 4 is frame 5


def test_a_frame_of_another_size_ends_a_chain():
    table = Table((5,))
    table.sizes[3] = (9, 9)
    chains = by_place(find_chains(table, steps=3, needs_before=False))
    assert chains[1, 1].records == (2,) and chains[1, 1].end == SIZE


@pytest.mark.parametrize("stride", [1, 2, 30])
def test_neighbours_are_as_far_apart_as_frames_are_numbered(stride):
    chains = by_place(find_chains(Table((5,), stride=stride), steps=1, needs_before=False))
    assert chains[1, 1].records == (2,) and chains[1, -1].records == (0,)


def test_a_given_distance_is_kept_to():
    table = Table((5,), stride=2)
    assert all(not chain.records for chain in find_chains(table, steps=1, needs_before=False, frame_step=1))
    far = by_place(find_chains(table, steps=2, needs_before=False, frame_step=4))
    assert far[0, 1].records == (2, 4)


def test_errors():
    table = Table((4,))
    with pytest.raises(UserError, match="steps=0"):
        find_chains(table, steps=0, needs_before=False)
    with pytest.raises(UserError, match="directions"):
        find_chains(table, steps=1, needs_before=False, directions=(2,))
    table.frames[1] = 0
    with pytest.raises(UserError, match="both frame 0"):
        find_chains(table, steps=1, needs_before=False)
    with pytest.raises(UserError, match="none of the 4 frames is labelled"):
        none = Table((4,))
        none.labelled = np.zeros(4, bool)
        find_chains(none, steps=1, needs_before=False)
    with pytest.raises(UserError, match="no frame has a neighbour"):
        find_chains(Table((1, 1)), steps=1, needs_before=False)
