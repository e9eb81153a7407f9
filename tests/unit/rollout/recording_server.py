"""A server that records the episodes of a station that dials in, for tests that kill it: `python -m … FOLDER SESSION`.

While FOLDER/hold exists, the second episode is taken in but not recorded, and FOLDER/holding says so.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from opentau.rollout.recorder import record
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, Episode
from tests.unit.rollout.sessions import options, plan


class Writer:
    """Marks every recorded episode by a file, and every recording by a line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recorded(self) -> set[int]:
        return {int(path.stem) for path in self._folder.glob("*.recorded")}

    def add(self, index: int, episode: Episode) -> None:
        if index == 1 and (self._folder / "hold").exists():
            (self._folder / "holding").touch()
            time.sleep(60)
        with open(self._folder / "recordings", "a") as file:
            file.write(f"{index}\n")
        (self._folder / f"{index}.recorded").write_text(episode.digest())


def main() -> None:
    folder = Path(sys.argv[1])
    endpoints = folder / "endpoints"
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in endpoints.read_text().split()] if endpoints.exists() else [0, 0]
    plans = [plan(index, actor=Actor.EXPERT, policy_id="") for index in range(3)]
    setup = options(
        num_stations=0, env={"image_size": 160}, session=sys.argv[2], control_port=ports[0], inference_port=ports[1]
    )
    with RolloutSession(setup, policies={}) as session:
        config = session.station_config("arm")
        partial = endpoints.with_suffix(".partial")
        partial.write_text(f"{config.control_endpoint} {config.inference_endpoint}")
        partial.rename(endpoints)
        record(session, plans, Writer(folder))


if __name__ == "__main__":
    main()
