"""Writes `fitted.npz`: images as LeRobot 0.6.1 and TensorAuto OpenTau bring them to the size of their towers.

Both scale by torch's bilinear interpolation without averaging and cut sides to whole pixels; LeRobot puts the image in the
middle, an odd pixel of black below or right of it, TensorAuto OpenTau in the lower right corner. This follows that description
in torch, where `opentau.data.images` follows it in numpy. Run: python tests/golden/images/generate.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

SHAPES = [(48, 64, 32), (64, 48, 32), (37, 50, 28), (20, 15, 28), (30, 41, 28), (45, 45, 28)]
"""Rows, columns, size: wide, high, sides that are cut, images that grow, an odd rest, a square."""


def main() -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"shapes": np.array(SHAPES)}
    for number, (num_rows, num_columns, size) in enumerate(SHAPES):
        # No level is 0, so that black tells where no image is.
        image = rng.integers(40, 256, (num_rows, num_columns, 3), dtype=np.uint8)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        ratio = max(num_columns / size, num_rows / size)
        sides = (int(num_rows / ratio), int(num_columns / ratio))
        scaled = F.interpolate(pixels, size=sides, mode="bilinear", align_corners=False)
        missing_rows, missing_columns = size - sides[0], size - sides[1]
        above, left = missing_rows // 2, missing_columns // 2
        centred = F.pad(scaled, (left, missing_columns - left, above, missing_rows - above))
        corner = F.pad(scaled, (missing_columns, 0, missing_rows, 0))
        arrays[f"image_{number}"] = image
        arrays[f"lerobot_{number}"], arrays[f"tensorauto_{number}"] = (
            fitted[0].permute(1, 2, 0).numpy() for fitted in (centred, corner)
        )
    np.savez_compressed(Path(__file__).parent / "fitted.npz", **arrays)


if __name__ == "__main__":
    main()
