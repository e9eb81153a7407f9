"""One robot as a policy knows it: what it offers, how its numbers are encoded, and which of its cameras are which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentau.data.codec import Codec
from opentau.data.options import MAIN
from opentau.errors import DataError, OptionError, near_matches
from opentau.types import Interface

# Shapes: leading axes are free; S and A are the policy's dimensions, s and a the embodiment's.


@dataclass(frozen=True, slots=True, kw_only=True)
class Embodiment:
    """A robot or simulator that a policy was trained on, with the statistics of its control mode."""

    name: str
    interface: Interface
    codec: Codec
    cameras: Mapping[str, str]
    """The policy's camera to the interface's; the policy's other cameras are missing on this robot and masked out."""
    hint: str = ""
    """Words added to every prompt, such as the control rate, where one policy serves several robots."""

    def __post_init__(self) -> None:
        dims = {"state": self.codec.state.dim, "action": self.codec.action.dim}
        offered = {"state": self.interface.state_dim, "action": self.interface.action_dim}
        if dims != offered:
            raise DataError(f"embodiment {self.name}: its statistics have the dimensions {dims}, its interface {offered}")
        unknown = set(self.cameras.values()) - set(self.interface.cameras)
        if unknown:
            raise DataError(
                f"embodiment {self.name} has no camera {min(unknown)!r}; it has {', '.join(sorted(self.interface.cameras))}"
            )

    @classmethod
    def sole(cls, interface: Interface, codec: Codec, *, name: str = MAIN) -> Embodiment:
        """Return the embodiment of a policy that serves one robot, whose cameras are the policy's."""
        return cls(name=name, interface=interface, codec=codec, cameras={camera: camera for camera in interface.cameras})

    @property
    def statistics_id(self) -> str:
        """Identity of the numbers that encode its states and actions."""
        return self.codec.id

    def prompted(self, prompt: str) -> str:
        """Return a prompt as the policy reads it."""
        return prompted(prompt, self.hint)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "interface": self.interface.to_dict(),
            "codec": self.codec.to_dict(),
            "cameras": dict(self.cameras),
            "hint": self.hint,
            "statistics_id": self.statistics_id,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Embodiment:
        """Build from `to_dict`; statistics that are not those of their id raise `DataError`."""
        made = cls(
            name=plain["name"],
            interface=Interface.from_dict(plain["interface"]),
            codec=Codec.from_dict(plain["codec"]),
            cameras=dict(plain["cameras"]),
            hint=plain["hint"],
        )
        if made.statistics_id != plain["statistics_id"]:
            raise DataError(
                f"embodiment {made.name} names the statistics {plain['statistics_id'][:12]}, its numbers are "
                f"{made.statistics_id[:12]}; fetch the checkpoint again"
            )
        return made


def prompted(prompt: str, hint: str) -> str:
    """Return a prompt with the words that tell a robot."""
    return f"{prompt} ({hint})" if hint else prompt


def named_embodiment(embodiments: Sequence[Embodiment], name: str | None) -> Embodiment:
    """Return the embodiment of a name, the first without one."""
    if not embodiments:
        raise OptionError("a policy needs at least one embodiment; give the interface and statistics of its data")
    if name is None:
        return embodiments[0]
    found = {each.name: each for each in embodiments}
    if name not in found:
        raise OptionError(f"the policy was trained on no embodiment {name!r}.{near_matches(name, found)}")
    return found[name]
