"""Makes a folder of visual questions: looks at episodes, one file each, then chooses and writes; resumable in between.

FOLDER/info.json, train.jsonl and validation.jsonl (a question a line), images/*.png; FOLDER/manifest.json seals them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from opentau.checkpoint import building, partial_path, write_json, write_text
from opentau.config import build
from opentau.data.png import encode_frames
from opentau.data.vlm.choosing import choose
from opentau.data.vlm.facts import SceneFrame
from opentau.data.vlm.plan import VqaPlan
from opentau.data.vlm.questions import KINDS, Question, questions_of
from opentau.data.vlm.scenes import Actors, sample_moments
from opentau.errors import DataError, OptionError
from opentau.protocols import GroundedEnv
from opentau.types import derive_seed

FORMAT, VERSION = "opentau-vqa", 1
TRAIN, VALIDATION = "train", "validation"
WORK_FOLDER, IMAGES_FOLDER = "work", "images"
KEY_FILE = "key.json"

OnEpisode = Callable[[int], None]
"""Told how many episodes have been looked at."""


def make_vqa(plan: VqaPlan, folder: Path, *, on_episode: OnEpisode) -> dict[str, Any]:
    """Make the folder, going on from what an interrupted attempt left, and return the content of its info.json.

    Raises `OptionError` where the folder exists, was begun with other options, or the environment tells no ground truth,
    and `DataError` where the episodes do not give enough questions.
    """
    require_new(plan, folder)
    manifest: dict[str, Any] = {}
    with building(folder, manifest, fresh=False) as partial:
        work = partial / WORK_FOLDER
        work.mkdir(exist_ok=True)
        write_json(work / KEY_FILE, plan.scenes_key)
        env_ids = _look_at_episodes(plan, work, on_episode)
        chosen = _choose(plan, _frames(plan, work))
        info = _write(plan, chosen, partial)
        manifest["content"] = {"scenes": plan.scenes_key, "env_ids": env_ids}
        shutil.rmtree(work)
    return info


def require_new(plan: VqaPlan, folder: Path) -> None:
    """Raise `OptionError` unless the folder can be made, or gone on with."""
    if folder.exists():
        raise OptionError(f"{folder} exists already; delete it or name another folder with --out")
    partial = partial_path(folder)
    key = partial / WORK_FOLDER / KEY_FILE
    if not partial.exists() or not any(partial.iterdir()):
        return
    if not key.is_file() or json.loads(key.read_text()) != json.loads(json.dumps(plan.scenes_key)):
        raise OptionError(
            f"{partial} was begun with another env, task_id or seed; give these again, delete it, "
            "or name another folder with --out"
        )


def num_done(plan: VqaPlan, folder: Path) -> int:
    """Return how many episodes an interrupted attempt has looked at."""
    work = partial_path(folder) / WORK_FOLDER
    return sum(_episode_file(work, episode).is_file() for episode in range(plan.num_episodes))


def _look_at_episodes(plan: VqaPlan, work: Path, on_episode: OnEpisode) -> list[str]:
    """Write frames and truths of the episodes that are missing, task after task; return the environments' ids."""
    done = [episode for episode in range(plan.num_episodes) if _episode_file(work, episode).is_file()]
    on_episode(len(done))
    for task in plan.task_ids:
        missing = [e for e in range(plan.num_episodes) if plan.task_of(e) == task and e not in done]
        if not missing:
            continue
        with _actors(plan, task) as actors:
            for episode in missing:
                _look_at(plan, actors, work, episode)
                done.append(episode)
                on_episode(len(done))
    records = [json.loads(_episode_file(work, episode).read_text()) for episode in sorted(done)]
    return sorted({record["env_id"] for record in records})


def _look_at(plan: VqaPlan, actors: Actors, work: Path, episode: int) -> None:
    moments = sample_moments(actors, episode=episode, seed=plan.seed_of(episode), is_played=plan.is_played(episode))
    for moment in moments:
        for camera, pixels in moment.images.items():
            (block,) = encode_frames(pixels[None])
            _picture(work, moment.frame, camera).write_bytes(block)
    frames = [dataclasses.asdict(moment.frame) for moment in moments]
    write_json(_episode_file(work, episode), {"env_id": actors.env.env_id, "frames": frames})


@contextlib.contextmanager
def _actors(plan: VqaPlan, task: int) -> Iterator[Actors]:
    try:
        env = build(plan.env, task_id=task)
    except (ValueError, RuntimeError) as error:
        raise OptionError(f"{plan.env['target']} cannot be opened: {error}") from error
    try:
        if not isinstance(env, GroundedEnv):
            raise OptionError(
                f"{plan.env['target']} does not tell what is true of its scenes; use env=tabletop or env=libero/object, "
                "or give it the method of opentau.protocols.GroundedEnv"
            )
        perturbation = build(plan.perturbation) if plan.perturbation else None
        yield Actors(env=env, expert=build(plan.expert, env), perturbation=perturbation)
    finally:
        env.close()


def _frames(plan: VqaPlan, work: Path) -> list[SceneFrame]:
    records = [json.loads(_episode_file(work, episode).read_text()) for episode in range(plan.num_episodes)]
    frames = [frame for record in records for frame in record["frames"]]
    return [SceneFrame(**{**frame, "cameras": tuple(frame["cameras"])}) for frame in frames]


def _choose(plan: VqaPlan, frames: list[SceneFrame]) -> dict[str, list[Question]]:
    """Return the questions of both splits, which share no episode."""
    validating = plan.validation_episodes()
    num_validation = round(plan.validation_share * plan.num_questions) if validating else 0
    counts = {TRAIN: plan.num_questions - num_validation, VALIDATION: num_validation}
    chosen = {}
    for split, count in counts.items():
        possible = [
            question
            for frame in frames
            if (frame.episode in validating) == (split == VALIDATION)
            for question in questions_of(frame, _rng(plan, "questions", frame.episode, frame.tick))
        ]
        chosen[split] = choose(possible, count, _rng(plan, "choice", split))
        if len(chosen[split]) < count:
            wanted = -(-plan.num_episodes * count // max(len(chosen[split]), 1))
            raise DataError(
                f"{plan.num_episodes} episodes give only {len(chosen[split])} of {count} {split} questions; ask for fewer "
                f"--questions, or for --episodes {wanted}: the same command goes on from the episodes there are"
            )
    return chosen


def _rng(plan: VqaPlan, *path: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(plan.seed, *path))


def _write(plan: VqaPlan, chosen: dict[str, list[Question]], partial: Path) -> dict[str, Any]:
    """Write questions, the pictures they are about and info.json; return the latter's content."""
    questions = [question for split in chosen.values() for question in split]
    moments = sorted({(question.episode, question.tick) for question in questions})
    numbers = {moment: number for number, moment in enumerate(moments)}
    images = partial / IMAGES_FOLDER
    if images.exists():
        shutil.rmtree(images)
    images.mkdir()
    for question in questions:
        for camera in question.cameras:
            source = _picture(partial / WORK_FOLDER, question, camera)
            shutil.copyfile(source, partial / _image_name(numbers[question.episode, question.tick], camera))
    for split, members in chosen.items():
        write_text(partial / f"{split}.jsonl", "".join(f"{_line(question, numbers)}\n" for question in members))
    counts = Counter(question.kind for question in questions)
    info = {
        "format": FORMAT,
        "version": VERSION,
        "env": plan.env_name,
        "task_ids": list(plan.task_ids),
        "seed": plan.seed,
        "num_questions": len(questions),
        "kinds": {kind: counts[kind] for kind in KINDS},
    }
    write_json(partial / "info.json", info)
    return info


def _line(question: Question, numbers: dict[tuple[int, int], int]) -> str:
    number = numbers[question.episode, question.tick]
    return json.dumps(
        {
            "id": f"{question.episode:06d}-{question.tick:04d}-{question.number:03d}",
            "image": {camera: _image_name(number, camera) for camera in question.cameras},
            "messages": [{"role": "user", "content": question.text}, {"role": "assistant", "content": question.answer}],
            "kind": question.kind,
            "episode": question.episode,
            "tick": question.tick,
        }
    )


def _image_name(number: int, camera: str) -> str:
    return f"{IMAGES_FOLDER}/{number:06d}-{camera}.png"


def _episode_file(work: Path, episode: int) -> Path:
    return work / f"{episode:06d}.json"


def _picture(work: Path, moment: SceneFrame | Question, camera: str) -> Path:
    return work / f"{moment.episode:06d}-{moment.tick:04d}-{camera}.png"
