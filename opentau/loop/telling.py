"""What improve=metadata tells a policy: words for each frame's episode, and whether the policy's prompt has room for them."""

from __future__ import annotations

from pathlib import Path

from opentau.checkpoint import write_json
from opentau.config import build
from opentau.data.frames import FrameTable
from opentau.data.telling import with_told
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions
from opentau.loop.setting import Setting
from opentau.policies.config import PolicyConfig
from opentau.policies.pretrained import Pretrained
from opentau.policies.prompts import PromptWriter
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.types import Source
from opentau.value.metadata import HIGH, QUALITIES, Metadata, MetadataOptions, metadata_of
from opentau.value.table import ValueTable

METADATA_FILE = "metadata.json"
"""Beside a policy that was told metadata: where the speeds of each task part, and of how many episodes each was told."""


def metadata_options(options: LoopOptions) -> MetadataOptions:
    """Return the arguments of improve=metadata."""
    made: MetadataOptions = build(options.improve.spec)
    return made


def table_metadata(setting: Setting, table: FrameTable) -> Metadata:
    """Return how the episodes of a table went, with the outcomes that people gave them."""
    frames = ValueTable(table=table, max_steps=setting.max_steps)
    return metadata_of(frames, metadata_options(setting.options))


def write_metadata(directory: Path, metadata: Metadata, *, table: FrameTable, options: MetadataOptions) -> dict[str, float]:
    """Write what was told beside a policy, and return the shares of high quality by source for the stage's summary."""
    is_high = metadata.quality == QUALITIES.index(HIGH)
    told = [{*metadata.speed[slice(record.start, record.start + record.length)]} for record in table.episodes]
    counts = {word: sum(position in words for words in told) for position, word in enumerate(options.speeds)}
    write_json(directory / METADATA_FILE, {"asked": options.asked, "limits": metadata.limits, "episodes": counts})
    of_source = {source: table.source == source for source in Source}
    return {
        f"high_{source.name.lower()}": round(float(is_high[rows].mean()), 4) for source, rows in of_source.items() if rows.any()
    }


def require_room(setting: Setting, start: PolicyConfig | Pretrained) -> None:
    """Raise `OptionError`, before anything is trained, for a policy whose prompt is too short for a task and its metadata.

    A pre-trained policy's words are known only once it is loaded; it raises when it reads them.
    """
    if isinstance(start, Pretrained):
        return
    writer = PromptWriter(start, TextTokenizer.shipped(num_locations=start.num_locations))
    text = metadata_options(setting.options).asked
    for task in setting.tasks:
        if not writer.fits(with_told(task.prompt, text)):
            raise OptionError(
                f"improve=metadata tells the policy {with_told(task.prompt, text)!r}, which has more than the "
                f"{start.max_prompt_tokens} tokens that it reads; train one that reads more (+policy.args.max_prompt_tokens=…)"
            )
