from __future__ import annotations

import numpy as np
import pytest

from streamer.ring import Overrun, Ring


def ramp(start: int, end: int) -> np.ndarray:
    return np.arange(start, end, dtype=np.float32)


def test_samples_are_read_back_by_their_absolute_position() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 7))
    ring.write(ramp(7, 14))
    np.testing.assert_array_equal(ring.read(5, 13), ramp(5, 13))


def test_samples_that_were_overwritten_are_an_overrun_that_names_the_oldest_left() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 14))
    with pytest.raises(Overrun) as caught:
        ring.read(3, 8)
    assert caught.value.oldest == 4


def test_a_block_larger_than_the_ring_leaves_its_end() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 11))
    np.testing.assert_array_equal(ring.read(7, 11), ramp(7, 11))


def test_samples_that_are_not_there_yet_cannot_be_read() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 2))
    with pytest.raises(ValueError, match="of 2"):
        ring.read(1, 3)


def test_a_read_is_a_copy() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 4))
    before = ring.read(0, 4)
    ring.write(ramp(4, 8))
    np.testing.assert_array_equal(before, ramp(0, 4))


def test_a_write_under_way_makes_the_samples_it_replaces_an_overrun() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 4))
    ring._writing = 6  # the writer is just about to store samples 4 and 5
    with pytest.raises(Overrun):
        ring.read(1, 4)
    np.testing.assert_array_equal(ring.read(2, 4), ramp(2, 4))
