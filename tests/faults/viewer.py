"""A viewer of a run: `python -m … ENDPOINT FILE` writes how many events it has seen, again and again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from robot_bridge.viewing.client import RemoteRunClient


def main() -> None:
    endpoint, file = sys.argv[1:]
    num_seen = 0
    with RemoteRunClient(endpoint, credentials=None, answer_s=30.0) as client:
        while True:
            num_seen += len(client.new_events())
            Path(file).write_text(str(num_seen))
            time.sleep(0.05)


if __name__ == "__main__":
    main()
