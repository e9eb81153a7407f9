"""Convert a dataset of the layout v2.1 to v3.0 in place, with LeRobot's own script."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset


def main() -> int:
    """Convert; the original stays beside it with `_old` appended to its name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the dataset's folder")
    convert_dataset("local/dataset", root=parser.parse_args().root, push_to_hub=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
