"""From a checkpoint to a policy that answers: ours in this process, LeRobot's in its environment, openpi's wherever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from opentau import events
from opentau.errors import OptionError
from opentau.events import EventLog
from opentau.loop.chunk_values import choice_by_value
from opentau.loop.lerobot_options import require_askable
from opentau.loop.options import LoopOptions
from opentau.loop.placement import serving_device
from opentau.policies.lerobot.folder import LeRobotFolder, is_lerobot_folder
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.protocols import Policy
from opentau.rollout.lerobot_environment import environment_variables, lerobot_python, module_command
from opentau.rollout.policy_process import PolicyProcess
from opentau.rollout.remote_policy import RemotePolicy, is_remote_policy
from opentau.types import Interface, require_fit

SERVER = "lerobot_side.serve"


@contextmanager
def served_policy(
    checkpoint: Path,
    options: LoopOptions,
    *,
    interface: Interface,
    log: EventLog,
    log_dir: Path,
    indicator: str | None = None,
) -> Iterator[Policy]:
    """Yield a policy to be served with the options of `inference`; `indicator` stands above theirs.

    A checkpoint of ours is compared with the robot's interface before its weights are read. A process of LeRobot's is compared
    before it starts, and gone when the block ends; what it says is kept under `log_dir`.
    """
    is_remote = is_remote_policy(checkpoint)
    if not is_remote and not is_lerobot_folder(checkpoint):
        require_checkpoint_fits(checkpoint, options, interface=interface)
        yield load_answering(checkpoint, options, indicator=indicator)
        return
    if indicator is not None:
        raise OptionError(f"{checkpoint} is no policy of OpenTau's and knows no indicator; leave evaluation.final_indicators")
    require_askable(options)
    if is_remote:
        with RemotePolicy.read(checkpoint).dial(interface) as remote:
            text = f"policy {remote.policy_version[:8]} answers over openpi's protocol, without seeds: episodes may not repeat"
            log.emit(events.NOTE, level="info", text=text)
            yield remote
        return
    with _lerobot_process(LeRobotFolder.read(checkpoint), options, interface=interface, log_dir=log_dir) as process:
        horizon = process.action_horizon
        text = f"policy {process.policy_version[:8]} answers from LeRobot's environment, {horizon} actions a chunk"
        log.emit(events.NOTE, level="info", text=text)
        yield process


def require_checkpoint_fits(checkpoint: Path, options: LoopOptions, *, interface: Interface) -> None:
    """Raise `InterfaceMismatch` with a table of both sides unless a checkpoint of ours fits; reads no weights."""
    processor = Processor.load(checkpoint)
    require_fit(
        policy=processor.interface,
        action_horizon=processor.config.action_horizon,
        statistics_id=processor.embodiment.statistics_id,
        station=interface,
        num_needed=options.rollout.num_needed,
        wanted_statistics="",
        station_id=f"of {options.env.target}",
    )


def load_answering(checkpoint: Path, options: LoopOptions, *, indicator: str | None = None) -> VLAPolicy:
    """Load a checkpoint of ours with all that it needs to answer as the options say, the critic of its choice among it."""
    policy = load_policy(checkpoint, options, indicator=indicator)
    if options.inference.critic is not None:
        policy.choose_by(choice_by_value(Path(options.inference.critic).expanduser(), served=policy, options=options))
    return policy


def load_policy(checkpoint: Path, options: LoopOptions, *, indicator: str | None = None) -> VLAPolicy:
    """Load a checkpoint of ours as the options say, for its features; without an indicator there is nothing to guide by."""
    name = indicator or options.inference.indicator
    guidance = options.inference.guidance if name not in ("absent", options.inference.guided_from) else 1.0
    inference = replace(options.inference, indicator=name, guidance=guidance)
    device = serving_device(options.placement)
    return VLAPolicy.load(checkpoint, options=inference, batch_size=options.rollout.batch_size, device=device)


def _lerobot_process(folder: LeRobotFolder, options: LoopOptions, *, interface: Interface, log_dir: Path) -> PolicyProcess:
    args = options.policy.get("args") or {} if options.is_lerobots else {}
    used, camera_keys = folder.fit(interface, camera_names=args.get("camera_names"))
    python = lerobot_python(args.get("python"))
    own = [str(folder.path), "--device", str(args.get("device", "cpu"))]

    def command(arguments: Sequence[str]) -> list[str]:
        return module_command(python, SERVER, [*own, *arguments])

    return PolicyProcess(
        command,
        interface=used,
        camera_keys=camera_keys,
        policy_version=folder.id,
        environment=environment_variables,
        log_path=log_dir / f"lerobot-{folder.id[:12]}.log",
    )
