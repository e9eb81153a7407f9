"""Visual questions from files: JSON lines with images beside them, conversations, and parquet as Hugging Face stores it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from opentau.data.parquet import read_table
from opentau.data.vlm.boxes import read_boxes
from opentau.data.vlm.samples import ANY_CAMERA, QuestionSet, VisualSample
from opentau.errors import DataError
from opentau.types import content_hash, derive_seed

CAPTION_PROMPT = "describe the image"
IMAGE_PLACEHOLDER = "<image>"
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt")
"""Who asks and who answers, in the two conversation formats that are common."""
SPLIT_UNITS = 1 << 32
HELD_OUT = ("validation", "test")
"""Beginnings of files, or names of folders, whose questions are held out."""
FIX = "Correct or remove that row, or fetch the questions again."


def read_questions(root: Path, *, validation_share: float = 0.1) -> QuestionSet:
    """Read the questions of a folder or file.

    What is understood: *.jsonl, *.json (a list), *.parquet and *.arrow with ``messages`` or ``conversations`` (every question
    and answer of one is a sample), ``question`` and ``answer``, or ``caption`` or ``text``; ``image`` or ``images`` as paths
    relative to the file, {camera: path}, or stored content, which stays in memory as it is stored. Files named validation* or
    test* are held out; without one a share of the groups (episodes, where they are named) is. Raises `DataError` naming file
    and row for what cannot be read.
    """
    if not root.exists():
        raise DataError(f"there are no questions at {root}; give a folder or a .jsonl, .json or .parquet file")
    files = sorted(path for path in root.rglob("*") if path.suffix in READERS) if root.is_dir() else [root]
    files = [path for path in files if path.name not in DESCRIPTIONS]
    if not files or any(path.suffix not in READERS for path in files):
        raise DataError(f"{root} holds no questions; it needs files of the kinds {', '.join(READERS)}")
    held_out = [path for path in files if path.stem.startswith(HELD_OUT) or path.parent.name in HELD_OUT]
    samples = {path: [sample for row in READERS[path.suffix](path) for sample in _samples(row, path)] for path in files}
    train = [sample for path in files if path not in held_out for sample in samples[path]]
    validation = [sample for path in held_out for sample in samples[path]]
    if not held_out:
        is_held = [derive_seed(0, "held out", sample.group) % SPLIT_UNITS < validation_share * SPLIT_UNITS for sample in train]
        validation = [sample for sample, held in zip(train, is_held, strict=True) if held]
        train = [sample for sample, held in zip(train, is_held, strict=True) if not held]
    return QuestionSet(root=root, train=tuple(train), validation=tuple(validation))


Row = tuple[int, Mapping[str, Any]]
"""Number, for errors, and content."""


def _json_lines(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"questions {path}, row {number}: {error}. {FIX}") from error


def _json_list(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"questions {path}: {error}. {FIX}") from error
    if not isinstance(rows, list):
        raise DataError(f"questions {path} hold no list. {FIX}")
    yield from enumerate(rows, 1)


def _parquet(path: Path) -> Iterator[Row]:
    yield from enumerate(read_table(path, where="questions", fix=FIX).to_pylist(), 1)


def _arrow(path: Path) -> Iterator[Row]:
    """Read a file of a dataset that Hugging Face `datasets` saved to disk."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            rows = [row for batch in stream for row in batch.to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"questions {path}: {error}. {FIX}") from error
    yield from enumerate(rows, 1)


READERS = {".jsonl": _json_lines, ".json": _json_list, ".parquet": _parquet, ".arrow": _arrow}
DESCRIPTIONS = ("info.json", "manifest.json", "dataset_info.json", "state.json", "dataset_dict.json")
"""Files beside questions that hold none."""


def _samples(row: Row, path: Path) -> Iterator[VisualSample]:
    """Yield the questions of a row."""
    number, plain = row
    where = f"questions {path}, row {number}"
    if not isinstance(plain, Mapping):
        raise DataError(f"{where} is no object. {FIX}")
    sample_id = f"{path.parent.name}/{path.name}:{number if plain.get('id') is None else plain['id']}"
    try:
        turns = list(_turns(plain))
    except (AttributeError, TypeError, KeyError) as error:
        raise DataError(f"{where}: its messages or answers are in no known form ({error}). {FIX}") from error
    if not turns:
        raise DataError(
            f"{where} holds no question: it has {', '.join(sorted(plain))}; needed are messages, conversations, question and "
            f"answer, or caption. {FIX}"
        )
    images = _images(plain, path.parent, where=where)
    for turn, (prompt, answer) in enumerate(turns):
        if not prompt.strip() or not answer.strip():
            raise DataError(f"{where}: question or answer {turn + 1} is empty. {FIX}")
        _require_boxes(answer.strip(), where=where)
        yield VisualSample(
            sample_id=f"{sample_id}/{turn}",
            group=_group(plain, images, sample_id),
            kind="" if plain.get("kind") is None else str(plain["kind"]),
            prompt=prompt.replace(IMAGE_PLACEHOLDER, "").strip(),
            answer=answer.strip(),
            images=images,
        )


def _require_boxes(answer: str, *, where: str) -> None:
    """Raise `DataError` for an answer with locations that is not a list of boxes."""
    if "<loc" in answer:
        try:
            read_boxes(answer)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _group(plain: Mapping[str, Any], images: Mapping[str, Path | bytes], sample_id: str) -> str:
    """Return what must not be split: the episode where it is named, else all questions about the same pictures."""
    if plain.get("episode") is not None:
        return str(plain["episode"])
    if not images:
        return sample_id
    return content_hash([hashlib.sha256(i).hexdigest() if isinstance(i, bytes) else str(i) for _, i in sorted(images.items())])


def _turns(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (question, answer) of a row in any of the formats."""
    said = [
        (message.get("role", message.get("from", "")), _text(message.get("content", message.get("value", ""))))
        for message in _first(plain, "messages", "conversations") or []
    ]
    for (asker, prompt), (speaker, answer) in itertools.pairwise(said):
        if asker in USER and speaker in ASSISTANT:
            yield prompt, answer
    if said:
        return
    answer, caption = _first(plain, "answer", "answers"), _first(plain, "caption", "text")
    if plain.get("question") and answer is not None:
        yield str(plain["question"]), _only(answer)
    elif caption is not None:
        yield CAPTION_PROMPT, _only(caption)


def _first(plain: Mapping[str, Any], *names: str) -> Any:
    """Return the first of some values that is there."""
    return next((plain[name] for name in names if plain.get(name) is not None), None)


def _only(answer: Any) -> str:
    """Return the first of several answers, each a text, a number or {"answer": …}."""
    if isinstance(answer, list):
        answer = answer[0]
    return str(answer["answer"] if isinstance(answer, Mapping) else answer)


def _text(content: Any) -> str:
    """Return the words of a message, whose content may be a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return " ".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return str(content)


def _images(plain: Mapping[str, Any], folder: Path, *, where: str) -> dict[str, Path | bytes]:
    stored = _first(plain, "image", "images")
    if stored is None:
        return {}
    if isinstance(stored, list):
        if len(stored) != 1:
            raise DataError(f"{where} has {len(stored)} images without a camera each; write them as {{camera: path}}. {FIX}")
        (stored,) = stored
    named = stored if isinstance(stored, Mapping) and not {"bytes", "path"} & set(stored) else {ANY_CAMERA: stored}
    return {camera: _image(image, folder, where=where) for camera, image in named.items()}


def _image(stored: Any, folder: Path, *, where: str) -> Path | bytes:
    """Return an image's content or its path, which lies within the folder of its file.

    The path as it is written is what counts: the hub's cache is made of links that lead out of its folders.
    """
    if isinstance(stored, Mapping) and stored.get("bytes") is not None:
        return bytes(stored["bytes"])
    name = stored.get("path") if isinstance(stored, Mapping) else stored
    if not isinstance(name, str) or not Path(os.path.abspath(folder / name)).is_relative_to(os.path.abspath(folder)):
        raise DataError(f"{where}: image {name!r} is no path within {folder}. {FIX}")
    if not (folder / name).is_file():
        raise DataError(f"{where}: there is no image {folder / name}. {FIX}")
    return folder / name
