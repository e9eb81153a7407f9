"""Images keep their shape and their place when they are brought to another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.data.images import ImageFit, resize_with_pad, scaled_sides

GOLDEN = Path(__file__).parents[2] / "golden" / "images"
HALF_A_LEVEL = 0.501 / 255


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


@pytest.mark.parametrize("fit", [ImageFit.LEROBOT, ImageFit.TENSORAUTO])
def test_other_projects_images_are_theirs_up_to_whole_levels(fit):
    with np.load(GOLDEN / "fitted.npz", allow_pickle=False) as golden:
        shapes = [tuple(int(side) for side in shape) for shape in golden["shapes"]]
        for number, (_, _, size) in enumerate(shapes):
            ours = resize_with_pad(golden[f"image_{number}"][None], size=size, fit=fit)[0] / 255
            theirs = golden[f"{fit.value}_{number}"]
            assert np.abs(ours - theirs).max() <= HALF_A_LEVEL, (number, fit)
            # Where theirs is black, ours is as well: nothing is moved by a pixel.
            assert not ours[theirs.max(axis=-1) == 0].any()
    assert len(shapes) == 6


def test_tensorautos_images_lie_in_the_lower_right_corner_and_the_others_in_the_middle():
    frames = np.full((1, 16, 32, 3), 200, np.uint8)
    rows = {fit: np.flatnonzero(resize_with_pad(frames, size=32, fit=fit)[0].any(axis=(1, 2))) for fit in ImageFit}
    assert rows[ImageFit.TENSORAUTO].tolist() == list(range(16, 32))
    for fit in (ImageFit.CENTRED, ImageFit.OPENPI, ImageFit.LEROBOT):
        assert rows[fit].tolist() == list(range(8, 24)), fit


def test_a_side_that_is_no_whole_number_is_cut_but_by_default():
    assert scaled_sides(370, 500, size=224, fit=ImageFit.CENTRED) == (166, 224)
    for fit in (ImageFit.OPENPI, ImageFit.LEROBOT, ImageFit.TENSORAUTO):
        assert scaled_sides(370, 500, size=224, fit=fit) == (165, 224), fit
    assert scaled_sides(1, 500, size=224, fit=ImageFit.OPENPI) == (1, 224)


def test_openpis_images_are_ours_where_sides_are_whole():
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    assert np.array_equal(resize_with_pad(frames, size=32, fit=ImageFit.OPENPI), resize_with_pad(frames, size=32))


def test_between_the_nearest_two_pixels_thin_things_can_vanish():
    frames = np.zeros((1, 128, 128, 3), np.uint8)
    frames[0, :, 63] = 255
    assert resize_with_pad(frames, size=16, fit=ImageFit.LEROBOT)[0].max() == 0
