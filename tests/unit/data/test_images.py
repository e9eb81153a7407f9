"""Images keep their shape and their place when they are brought to another size."""

from __future__ import annotations

import numpy as np
import pytest

from opentau.data.images import resize_with_pad


def test_images_of_the_size_come_back_as_they_are():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert resize_with_pad(frames, size=16) is frames


SHAPES = [((16, 32), (8, 24), (0, 32)), ((32, 16), (0, 32), (8, 24)), ((64, 64), (0, 32), (0, 32))]


@pytest.mark.parametrize(("shape", "rows", "columns"), SHAPES)
def test_the_longer_side_fills_the_square_and_the_rest_is_black(shape, rows, columns):
    frames = np.full((2, *shape, 3), 200, np.uint8)
    resized = resize_with_pad(frames, size=32)
    assert resized.shape == (2, 32, 32, 3)
    inside = np.zeros((32, 32), bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert (resized[:, inside] == 200).all()
    assert not resized[:, ~inside].any()


def test_thin_things_do_not_vanish_when_images_shrink():
    frames = np.zeros((1, 128, 128, 3), np.uint8)
    frames[0, :, 63] = 255
    assert resize_with_pad(frames, size=32)[0].sum(axis=1).min() > 0


def test_left_stays_left_and_up_stays_up():
    frames = np.zeros((1, 40, 40, 3), np.uint8)
    frames[0, :10, :10] = 255
    resized = resize_with_pad(frames, size=20)[0]
    assert resized[1, 1].tolist() == [255] * 3
    assert not resized[15:, 15:].any()
