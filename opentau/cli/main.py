"""The table from command to function; the one place where imports are late, so that every command starts fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from opentau.errors import OpenTauError, near_matches

COMMANDS: dict[str, tuple[str, str]] = {
    "loop": ("opentau.cli.loop:main", "run the improvement cycle; the same command resumes it"),
    "sft": ("opentau.cli.sft:main", "train a policy from recorded datasets or scripted demonstrations"),
    "demonstrate": ("opentau.cli.stages:demonstrate", "record scripted demonstrations as a dataset"),
    "collect": ("opentau.cli.stages:collect", "record episodes with a checkpoint or an expert"),
    "value": ("opentau.cli.stages:value", "fit the value function on recorded episodes"),
    "label": ("opentau.cli.stages:label", "label recorded episodes with advantages"),
    "update": ("opentau.cli.stages:update", "update a policy on labelled episodes"),
    "expert": ("opentau.cli.expert:main", "train an expert by reinforcement learning for a task without a script"),
    "data": ("opentau.cli.data:main", "look at datasets, check, mix and export them; make visual questions"),
    "checkpoint": ("opentau.cli.checkpoint:main", "take published π0 and π0.5 in, write LeRobot's layout"),
    "parts": ("opentau.cli.parts:main", "fetch the pre-trained parts of policy=small into the cache"),
    "study": ("opentau.cli.study:main", "compare variants over seeds and tasks; resumable"),
    "eval": ("opentau.cli.evaluate:main", "score a checkpoint; --json for scripts"),
    "serve": ("opentau.cli.serve:main", "serve a policy to stations that dial in"),
    "gateway": ("opentau.cli.gateway:main", "serve a policy to robots that speak openpi's protocol"),
    "robot": ("opentau.cli.robot:main", "set up a robot arm, check it, record demonstrations"),
    "keys": ("opentau.cli.keys:main", "keys for links between machines: make, trust, list, revoke"),
    "status": ("opentau.cli.status:main", "where a run stands; --json for scripts"),
    "ctl": ("opentau.cli.ctl:main", "steer a run: pause, take over a station, label, promote, set, …"),
    "tui": ("opentau.cli.tui:main", "watch and steer a run in the terminal"),
    "report": ("opentau.cli.report:main", "write a run's report again"),
    "tensorboard": ("opentau.cli.tensorboard:main", "write a run's metrics for TensorBoard, live or afterwards"),
    "runs": ("opentau.cli.runs:main", "list runs, prune what they no longer need"),
    "bench": ("opentau.cli.bench:main", "measure this machine: control steps per second of an environment"),
    "doctor": ("opentau.cli.doctor:main", "check this machine: rendering, packages, cores, disk"),
}

USAGE = "usage: opentau COMMAND [options]   (opentau COMMAND --help teaches each)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors that a user can act on are printed without a traceback."""
    # Threads of torch that wait must not spin: beside busy simulators that makes training several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name in ("--version", "version"):
        from opentau import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        print(f"opentau: unknown command {name!r}.{near_matches(name, COMMANDS)}\n{USAGE}", file=sys.stderr)
        return 2
    from opentau.config import locate

    try:
        return int(locate(COMMANDS[name][0])(rest) or 0)
    except OpenTauError as error:
        print(f"opentau {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nopentau {name}: interrupted; nothing recorded is lost, the same command resumes.", file=sys.stderr)
        return 130


def _overview() -> str:
    rows = "\n".join(f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items())
    return f"OpenTau improves robot policies in a loop.\n\n{USAGE}\n\n{rows}\n\nStart with: opentau loop --dry-run"


if __name__ == "__main__":
    sys.exit(main())
