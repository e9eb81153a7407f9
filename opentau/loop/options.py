"""The typed options of a loop, one dataclass per group of `configs`; wrong ones fail here, before anything heavy loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opentau.config import build, check_args, later, locate, options_from
from opentau.data.options import MixtureOptions
from opentau.errors import OptionError, near_matches
from opentau.loop.gate import GateOptions
from opentau.loop.lerobot_options import require_trainable
from opentau.loop.placement import PlacementOptions
from opentau.policies.lerobot.start import lerobot
from opentau.policies.options import FAST, FLOW, InferenceOptions, identifying, require_indicator
from opentau.rollout.options import LOCAL_PLACE
from opentau.training.dsrl_options import DsrlOptions
from opentau.training.options import DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.types import Interface, content_hash
from opentau.value.metadata import MetadataOptions
from opentau.value.options import ValueOptions
from robot_bridge.playing.chunking import ChunkingOptions, num_needed, require_bridgeable

Plugin = Mapping[str, Any]
"""{"target": "pkg.mod:Attr", "args": {…}}."""
STAGES_THAT_PLAY = ("collect", "evaluate", "gate", "final")
MAX_PORT = 65_535
BY_FRAME, BY_EPISODE = "frame", "episode"
"""How positive frames are drawn."""
LABEL_INPUTS = ("frames", "advantages", "is_newest", "options", "seed")
"""What a label rule is given beside its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvCostOptions:
    """CPU seconds and bytes measured on two shared cores, for `--dry-run` alone."""

    demonstration_cpu_s: float = 2.0
    """One recorded demonstration."""
    episode_cpu_s: float = 3.2
    """One recorded autonomous episode."""
    scored_episode_cpu_s: float = 1.7
    """One that is only scored, so not rendered in every step."""
    frame_bytes: int = 12_000
    """One recorded frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvOptions:
    """An environment, the expert that knows it, and what their episodes cost."""

    target: str
    args: Mapping[str, Any]
    """Arguments of the environment; the task's number is added as `task_id`."""
    num_tasks: int
    expert: Plugin | None = None
    """Gives demonstrations, in a style drawn from the episode's seed, and clean interventions."""
    perturbation: Plugin | None = None
    """Disturbs what demonstrations execute, never what they record as the right action."""
    cost: EnvCostOptions = field(default_factory=EnvCostOptions)
    interpreter: str = later("")
    """The Python that has the environment's packages, and plays it; '' is this one. Environment, expert and perturbation are
    located there."""

    @property
    def spec(self) -> dict[str, Any]:
        return {"target": self.target, "args": dict(self.args)}

    @property
    def own_spec(self) -> dict[str, Any]:
        """The same for who makes the environment in this process; raises `OptionError` where it belongs to another Python."""
        if self.interpreter:
            raise OptionError(
                f"{self.name} is played under {self.interpreter}; this command makes environments in its own process, "
                "under this Python: use one that it has"
            )
        return self.spec

    def check(self) -> None:
        """Check all plug-ins' arguments; what another Python locates is checked there, when the tasks are described."""
        if not self.interpreter:
            for spec, extra in self.checked:
                check_args(spec, *extra)

    @property
    def checked(self) -> list[tuple[Plugin, tuple[str, ...]]]:
        """Each plug-in's spec with what it is given beside its arguments."""
        checked: list[tuple[Plugin, tuple[str, ...]]] = [(self.spec, ("task_id",))]
        checked += [] if self.expert is None else [(self.expert, ("env",))]
        return checked + ([] if self.perturbation is None else [(self.perturbation, ())])

    @property
    def name(self) -> str:
        """What the environment is called: its suite, else its module."""
        return str(self.args.get("suite") or self.target.split(".")[1])

    def perturbed(self, name: str) -> EnvOptions:
        """Return this environment with one more perturbation."""
        own = self.args.get("perturbation", ())
        names = [own] if isinstance(own, str) else list(own)
        return replace(self, args={**self.args, "perturbation": [*names, name]})

    def image_size(self, interface: Interface) -> int:
        """Return rows and columns of the images that policies see: what is asked for, else the first camera's rows."""
        return int(self.args.get("image_size") or next(iter(interface.cameras.values()))[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """Where iteration 0 learns from."""

    demonstrations: int = 60
    """Scripted demonstrations per task; 0 with `datasets`."""
    datasets: tuple[str, ...] = ()
    """Recorded LeRobot datasets of this environment that are used as demonstrations: folders or names on the hub."""
    max_tries: float = 2.0
    """Failed demonstrations are not learned from; this many attempts per wanted demonstration before giving up."""

    def __post_init__(self) -> None:
        if self.demonstrations < 1 and not self.datasets:
            raise OptionError("data.demonstrations is 0 and data.datasets is empty; give at least one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How training batches are drawn and augmented."""

    shift_share: float = 0.0625
    """Random shift of the images, as a share of their width (4 of 64 pixels)."""
    state_noise: float = 0.02
    """Standard deviation of noise on the encoded state."""
    action_limit: float = 3.0
    """Encoded actions are cut to this: rare extremes of a dimension that hardly moves must not rule the loss."""
    human_share: float = 0.5
    """Share of demonstrations and interventions in an update's batches; the rest is autonomous."""
    held_out_share: float = 0.1
    """Share of the episodes kept out of training, on which the held-out loss is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """The autonomous episodes of an iteration."""

    episodes: int = 60
    """Per task."""
    supervised_share: float = 0.4
    """Share of the episodes in which the supervisor may intervene; at least half run unsupervised."""
    supervisor: Plugin | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.supervised_share <= 0.5:
            raise OptionError(
                f"collect.supervised_share is {self.supervised_share}; it must lie in 0 to 0.5, so that half is autonomous"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How policies are scored."""

    episodes: int = 20
    """Episodes of the first score of iteration 0, per task; 0 skips it. Later iterations are scored by the gate's pairs."""
    final_states: int = 50
    """Official initial states of the final score, per task; nothing else ever sees them."""
    final_episodes: int = 0
    """Further episodes of the final score, per task, on placements drawn from the run's seed."""
    final_indicators: tuple[str, ...] = ()
    """The final policy is scored once more under each of these, such as 'absent' and 'negative'."""

    def __post_init__(self) -> None:
        if self.final_states + self.final_episodes < 1:
            raise OptionError("evaluation.final_states and evaluation.final_episodes are 0; one of them must be positive")
        for indicator in self.final_indicators:
            require_indicator(indicator, name="evaluation.final_indicators")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """How episodes are played."""

    num_stations: int = 2
    """Simulators side by side, one thread each."""
    execute_horizon: int = 8
    """Actions of a chunk played before planning again."""
    delay_ticks: int = 0
    """Control steps between asking for a chunk and having it, injected in virtual time."""
    batch_size: int = 2
    """Rows of an inference batch; smaller ones are padded to it, so that company never changes a result."""
    chunking: ChunkingOptions | None = later(None)
    """How chunks follow each other, `+rollout.chunking.mode=blend`; None has a policy continue what is committed."""
    listen: str = later("")
    """HOST:PORT (and the port after it) where stations of others dial in, `+rollout.listen=127.0.0.1:5600`; '' takes none."""
    listen_in: tuple[str, ...] = later(())
    """The stages that they play in, by work: [collect, gate]; none named: all that play a policy's episodes."""
    keys: str = later("")
    """This machine's key (`opentau keys new NAME`): only trusted robots may come then, and from other machines too."""

    def address_in(self, stage: str) -> tuple[str, int] | None:
        """Return where a stage listens for stations of others, None where it does not."""
        work = stage.split("-")[0]
        if not self.listen or work not in (self.listen_in or STAGES_THAT_PLAY):
            return None
        host, _, port = self.listen.rpartition(":")
        return host, int(port)

    @property
    def num_needed(self) -> int:
        """Actions that a chunk must have."""
        return num_needed(self.delay_ticks, execute_horizon=self.execute_horizon, chunking=self.chunking)

    def __post_init__(self) -> None:
        require_bridgeable(self.delay_ticks, execute_horizon=self.execute_horizon, chunking=self.chunking)
        if self.num_stations < (0 if self.listen else 1):
            raise OptionError(
                f"rollout.num_stations is {self.num_stations}; it must be at least 1, or 0 where rollout.listen takes others"
            )
        host, _, port = self.listen.rpartition(":")
        if self.listen and not (host and port.isdigit() and 0 < int(port) < MAX_PORT):
            raise OptionError(f"rollout.listen is {self.listen!r}; write it as HOST:PORT, for example 127.0.0.1:5600")
        for work in self.listen_in:
            if work not in STAGES_THAT_PLAY:
                raise OptionError(f"rollout.listen_in names {work!r}.{near_matches(work, STAGES_THAT_PLAY)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveOptions:
    """What an iteration learns from its episodes."""

    target: str = "opentau.value.labels:recap_labels"
    """The label rule (`LabelRule`): which frames are learned from, with which indicator and weight; or `DsrlOptions`, for a
    policy that stays as it is and is steered by its noise; or `MetadataOptions`, for one that is told in words how episodes
    went."""
    args: Mapping[str, Any] = field(default_factory=dict)
    start: str = "pretrained"
    """'pretrained' restarts from iteration 0's policy and critic each time (the paper's way), 'incumbent' goes on."""
    indicator: str = "positive"
    """What the improved policy is asked with: 'positive', or 'absent' where the rule gives none."""
    batch_positive_share: float | None = None
    """Share of positive frames among the autonomous ones of an update's batches; null draws them as they come."""
    positive_draw: str = BY_FRAME
    """How these are drawn: 'frame' takes all alike, 'episode' takes an episode first."""

    @property
    def spec(self) -> dict[str, Any]:
        return {"target": self.target, "args": dict(self.args)}

    def __post_init__(self) -> None:
        require_indicator(self.indicator, name="improve.indicator")
        if self.batch_positive_share is not None and not 0 < self.batch_positive_share < 1:
            raise OptionError(
                f"improve.batch_positive_share is {self.batch_positive_share}; it must lie between 0 and 1, or be null"
            )
        if self.positive_draw not in (BY_FRAME, BY_EPISODE):
            raise OptionError(f"improve.positive_draw is {self.positive_draw!r}; use 'frame' or 'episode'")
        if self.start not in ("pretrained", "incumbent"):
            raise OptionError(f"improve.start is {self.start!r}; use 'pretrained' or 'incumbent'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostOptions:
    """CPU seconds and bytes measured on two shared cores, for `--dry-run` alone."""

    update_cpu_s: float = 0.5
    """One policy update."""
    feature_cpu_s: float = 0.001
    """The critic's features of one frame."""
    critic_update_cpu_s: float = 0.02
    checkpoint_bytes: int = 12_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """Everything a run depends on."""

    run_id: str | None = None
    """Name of the run directory; by default derived from the options, so that the same command resumes the same run."""
    seed: int = 0
    task_id: tuple[int, ...] = (0,)
    iterations: int = 2
    torch_threads: int = 1
    """Threads of policy training; part of the result, and recorded."""
    experiment: str = "default"
    env: EnvOptions
    policy: Plugin
    """Returns a `PolicyConfig`; cameras, image size and dimensions are added from the environment's interface."""
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    data: DataOptions = field(default_factory=DataOptions)
    mixture: MixtureOptions = field(default_factory=MixtureOptions)
    batch: BatchOptions = field(default_factory=BatchOptions)
    sft: TrainOptions
    update: TrainOptions
    tuning: TuningOptions = field(default_factory=TuningOptions)
    training: DistributionOptions = field(default_factory=DistributionOptions)
    inference: InferenceOptions = field(default_factory=InferenceOptions)
    value: ValueOptions = field(default_factory=ValueOptions)
    improve: ImproveOptions = field(default_factory=ImproveOptions)
    collect: CollectOptions = field(default_factory=CollectOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    gate: GateOptions = field(default_factory=GateOptions)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    placement: PlacementOptions = field(default_factory=PlacementOptions)
    """Which devices serve and which train, `+placement.serve=cpu`."""
    fleet: Plugin = field(default_factory=lambda: LOCAL_PLACE)
    """Where stations run: a `Place`."""
    cost: CostOptions = field(default_factory=CostOptions)

    def __post_init__(self) -> None:
        for task in self.task_id:
            if not 0 <= task < self.env.num_tasks:
                raise OptionError(
                    f"task_id={task} is not a task of this environment; it has the tasks 0 to {self.env.num_tasks - 1}"
                )
        if self.objective.text_weight != ObjectiveOptions().text_weight:
            raise OptionError("objective.text_weight is set by mixture.text_weight; give that one")
        if self.inference.action_source == FAST and self.rollout.delay_ticks:
            raise OptionError(
                f"rollout.delay_ticks is {self.rollout.delay_ticks} with inference.action_source {FAST!r}; words cannot "
                "continue committed actions: set delay_ticks=0 or action_source=flow"
            )
        if self.gate.guards and not self.rollout.num_stations:
            raise OptionError(
                "gate.guards needs simulators of this run, and rollout.num_stations is 0: give at least one, or name no guards"
            )
        if self.iterations < 0:
            raise OptionError(f"iterations is {self.iterations}; it must be 0 or more")

    def with_changes(self, changes: Mapping[str, Any]) -> LoopOptions:
        """Return these options with others in the place of some, {"group.name": value}; raises `OptionError`."""
        changed = self
        for name, value in changes.items():
            group, _, option = name.partition(".")
            changed = replace(changed, **{group: replace(getattr(changed, group), **{option: value})})
        return changed

    @property
    def is_lerobots(self) -> bool:
        """Whether the policy is LeRobot's: made, trained and served in LeRobot's own environment, without a critic."""
        return locate(self.policy["target"]) is lerobot

    @property
    def steers_noise(self) -> bool:
        """Whether iterations leave the policy as it is and learn what noise its chunks begin as."""
        return locate(self.improve.target) is DsrlOptions

    @property
    def tells_metadata(self) -> bool:
        """Whether policies are told in words how episodes went, instead of what a value function says of them."""
        return locate(self.improve.target) is MetadataOptions

    @property
    def learns_values(self) -> bool:
        """Whether iterations rest on a value function and labels."""
        return not (self.is_lerobots or self.steers_noise or self.tells_metadata)

    @property
    def env_name(self) -> str:
        return self.env.name

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LoopOptions:
        """Build from a composed configuration and check every plug-in's arguments; raises `OptionError`."""
        options = options_from(cls, config, where="loop")
        options.env.check()
        for name in options.gate.guards:
            options.env.perturbed(name).check()
        check_args(options.policy, "cameras", "image_size", "state_dim", "action_dim")
        if options.collect.supervisor is not None:
            check_args(options.collect.supervisor, "max_steps")
        check_args(options.fleet)
        check_args(options.improve.spec, *LABEL_INPUTS)
        if options.steers_noise:
            require_steerable(options)
        if options.is_lerobots:
            require_trainable(options)
        elif options.tells_metadata:
            require_tellable(options)
        return options

    def default_run_id(self, config: Mapping[str, Any]) -> str:
        """Return '<environment>-<tasks>-<experiment>-<hash of the options>'."""
        name = self.env_name.replace("libero_", "")
        tasks = "_".join(map(str, self.task_id))
        return f"{name}-{tasks}-{self.experiment}-{options_id(config)[:6]}"


def require_tellable(options: LoopOptions) -> None:
    """Raise `OptionError` for options that do not go together with improve=metadata."""
    build(options.improve.spec)
    if options.value.labels.demonstration_share is not None:
        raise OptionError(
            f"value.labels.demonstration_share is {options.value.labels.demonstration_share} with improve=metadata, which "
            "has no value function to label by; leave it null"
        )
    if options.improve.indicator != "absent":
        raise OptionError(
            f"improve.indicator is {options.improve.indicator!r} with improve=metadata, whose updates know no indicator; "
            "leave it at 'absent'"
        )


def require_steerable(options: LoopOptions) -> None:
    """Raise `OptionError` for options that do not go together with improve=dsrl."""
    build(options.improve.spec)
    unfit = {
        "rollout.delay_ticks": (options.rollout.delay_ticks, 0),
        "rollout.listen": (options.rollout.listen, ""),
        "inference.action_source": (options.inference.action_source, FLOW),
        "inference.num_candidates": (options.inference.num_candidates, 1),
        "value.labels.demonstration_share": (options.value.labels.demonstration_share, None),
    }
    if options.is_lerobots:
        raise OptionError("improve=dsrl chooses the noise of a policy of ours; policy=lerobot is improved by filtered_bc")
    if options.improve.start != "pretrained":
        raise OptionError(
            f"improve.start is {options.improve.start!r} with improve=dsrl, whose actor learns from all episodes anew in every "
            "iteration; leave it at 'pretrained'"
        )
    for name, (value, wanted) in unfit.items():
        if value != wanted:
            raise OptionError(
                f"{name} is {value!r} with improve=dsrl, which must know the noise of every chunk and the tick at which it was "
                f"asked for; it takes {wanted!r} alone"
            )


def options_id(config: Mapping[str, Any]) -> str:
    """Return the hash of all options that a run's results depend on.

    Estimates of what it costs are no part of it, nor is where stations run, under which Python (the environment's id holds
    versions) or which device computes, nor how a mixture would
    be made that is not used, nor over which processes trainings are spread (any number of them goes on from what another left,
    with the same numbers up to rounding), nor options of inference that are newer than others and at their defaults. Of which
    weights are trained it holds what differs from all.
    """
    config = {**config, "tuning": options_from(TuningOptions, config.get("tuning", {}), where="loop.tuning").to_dict()}
    mixture = config.get("mixture", {})
    is_used = any(mixture.get(name) for name in ("parts", "subtask_weight", "cache_gb"))
    unused = {"cost", "training", "fleet", "placement"}
    if not is_used:
        unused.add("mixture")
    if not config["tuning"]:
        unused.add("tuning")
    env = {name: value for name, value in config["env"].items() if name not in ("cost", "interpreter")}
    used = {name: value for name, value in config.items() if name not in unused}
    return content_hash({**used, "env": env, "inference": identifying(config["inference"])})
