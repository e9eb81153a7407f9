"""Questions are read from every common format, split by episode, and damage is named by file and row."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from opentau.data.fitting import PolicySizes
from opentau.data.vlm.reading import read_questions
from opentau.data.vlm.samples import ANY_CAMERA, QuestionSource
from opentau.errors import DataError

SIZES = PolicySizes(cameras=("agentview", "wrist"), image_size=8, state_dim=3, action_dim=2, action_horizon=4)


def png(colour: tuple[int, int, int], size: tuple[int, int] = (16, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / f"images/{name}.png").write_bytes(png(colour))
    return tmp_path


def write(folder: Path, rows: list[object], name: str = "train.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


ASKED = {
    "messages": {
        "image": "images/red.png",
        "messages": [{"role": "user", "content": "which colour?"}, {"role": "assistant", "content": "red"}],
    },
    "messages in parts": {
        "image": {"agentview": "images/red.png"},
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "which colour?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        ],
    },
    "conversations": {
        "image": "images/red.png",
        "conversations": [{"from": "human", "value": "<image>\nwhich colour?"}, {"from": "gpt", "value": "red"}],
    },
    "question and answer": {"images": ["images/red.png"], "question": "which colour?", "answers": ["red", "crimson"]},
}


@pytest.mark.parametrize("form", ASKED)
def test_every_form_of_a_question_reads_alike(form, folder):
    (sample,) = read_questions(write(folder, [ASKED[form]]), validation_share=0.0).train
    assert (sample.prompt, sample.answer) == ("which colour?", "red")
    batch = QuestionSource([sample], sizes=SIZES).draw(2, rng=np.random.default_rng(0), num_before=0)
    assert batch.images["agentview"][0, 4, 4].tolist() == [255, 0, 0]
    # A picture twice as wide as high keeps its shape, with black above and below.
    assert not batch.images["agentview"][0, 0].any()
    assert batch.has_camera["agentview"].all()
    assert not batch.has_camera["wrist"].any()
    assert batch.is_question.all()
    assert batch.action_is_pad.all()


def test_a_caption_answers_a_request_to_describe(folder):
    (sample,) = read_questions(
        write(folder, [{"image": "images/blue.png", "caption": "a blue wall"}]), validation_share=0
    ).train
    assert (sample.prompt, sample.answer) == ("describe the image", "a blue wall")


def test_every_turn_of_a_conversation_is_a_sample(folder):
    said = [("user", "a?"), ("assistant", "b"), ("user", "c?"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": text} for role, text in said]}
    samples = read_questions(write(folder, [row]), validation_share=0).train
    assert [(sample.prompt, sample.answer) for sample in samples] == [("a?", "b"), ("c?", "d")]


def test_parquet_with_stored_images_reads_as_hugging_face_writes_it(tmp_path):
    rows = [{"image": {"bytes": png((255, 0, 0)), "path": None}, "question": "which colour?", "answer": "red"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-00000-of-00001.parquet")
    (sample,) = read_questions(tmp_path, validation_share=0).train
    batch = QuestionSource([sample], sizes=SIZES).draw(1, rng=np.random.default_rng(0), num_before=0)
    assert batch.images["agentview"][0, 4, 4].tolist() == [255, 0, 0]


def test_arrow_files_read_as_hugging_face_saves_them_to_disk(tmp_path):
    rows = [{"image": {"bytes": png((0, 0, 255)), "path": None}, "question": "which colour?", "answer": "blue"}]
    table = pa.Table.from_pylist(rows)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        with (
            pa.OSFile(str(tmp_path / split / "data-00000-of-00001.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table)
        (tmp_path / split / "state.json").write_text("{}")
    made = read_questions(tmp_path)
    assert (len(made.train), len(made.validation)) == (1, 1)
    assert made.train[0].answer == "blue"
    broken = tmp_path / "train/data-00000-of-00001.arrow"
    broken.write_bytes(broken.read_bytes()[:-80])
    with pytest.raises(DataError, match=r"train/data-00000-of-00001\.arrow: "):
        read_questions(tmp_path)


def test_questions_of_one_episode_are_on_one_side_of_the_split(folder):
    rows = [{"question": f"{number}?", "answer": "x", "episode": number // 10} for number in range(400)]
    made = read_questions(write(folder, rows), validation_share=0.25)
    sides = [{sample.group for sample in side} for side in (made.train, made.validation)]
    assert not sides[0] & sides[1]
    assert 4 <= len(sides[1]) <= 18


def test_questions_about_one_picture_are_on_one_side_of_the_split(folder):
    names = [f"images/{number}.png" for number in range(20)]
    for name in names:
        (folder / name).write_bytes(png((0, 0, 0)))
    rows = [{"image": names[number % 20], "question": f"{number}?", "answer": "x"} for number in range(200)]
    made = read_questions(write(folder, rows), validation_share=0.3)
    sides = [{sample.images[ANY_CAMERA] for sample in side} for side in (made.train, made.validation)]
    assert all(sides)
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "q?", "answers": [{"answer": "yes", "answer_id": 1}]}, "yes"),
        ({"question": "how many?", "answer": 0}, "0"),
        ({"question": "q?", "answer": "red", "image": None, "images": ["images/red.png"], "kind": None}, "red"),
    ],
)
def test_answers_are_what_they_are(row, answer, folder):
    (sample,) = read_questions(write(folder, [row]), validation_share=0).train
    assert (sample.answer, sample.kind) == (answer, "")
    assert len(sample.images) == ("images" in row)


def test_images_of_the_hubs_cache_are_links_that_lead_out_of_the_folder(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/0"
    blobs.mkdir()
    (snapshot / "images").mkdir(parents=True)
    (blobs / "abc").write_bytes(png((255, 0, 0)))
    (snapshot / "images/1.png").symlink_to("../../../blobs/abc")
    write(snapshot, [{"image": "images/1.png", "question": "q?", "answer": "red"}])
    (sample,) = read_questions(snapshot, validation_share=0).train
    assert QuestionSource([sample], sizes=SIZES).batch_of(np.zeros(1, int), np.random.default_rng(0)).images["agentview"].any()


def test_files_that_say_they_validate_are_held_out(folder):
    write(folder, [ASKED["messages"]])
    write(folder, [ASKED["conversations"]] * 3, name="validation.jsonl")
    made = read_questions(folder)
    assert (len(made.train), len(made.validation)) == (1, 3)


def test_kinds_are_drawn_alike_unless_told_otherwise(folder):
    rows = [{"question": "q?", "answer": "x", "kind": "rare" if number == 0 else "common"} for number in range(20)]
    samples = read_questions(write(folder, rows), validation_share=0).train
    rng = np.random.default_rng(0)
    shares = [
        (QuestionSource(samples, sizes=SIZES, is_balanced=is_balanced).draw(1000, rng=rng, num_before=0).frame == 0).mean()
        for is_balanced in (True, False)
    ]
    assert shares == pytest.approx([0.5, 0.05], abs=0.05)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "images/red.png"}, r"train\.jsonl, row 2 holds no question: it has image; needed are messages"),
        ({"question": "q?", "answer": "a", "image": "images/green.png"}, r"row 2: there is no image .*green\.png"),
        ({"question": "q?", "answer": "a", "image": "../secret.png"}, r"row 2: image '\.\./secret\.png' is no path within"),
        ({"question": "q?", "answer": " "}, r"row 2: question or answer 1 is empty"),
        ({"question": "q?", "answer": "a", "images": ["images/red.png"] * 2}, r"row 2 has 2 images without a camera each"),
        (["no object"], r"row 2 is no object"),
        ({"messages": ["hi", "there"]}, r"row 2: its messages or answers are in no known form"),
        ({"question": "q?", "answer": "it is at <loc0001><loc0002>"}, r"row 2: .* is no box; write four tokens"),
    ],
)
def test_a_row_that_is_no_question_is_named(row, message, folder):
    with pytest.raises(DataError, match=message):
        read_questions(write(folder, [ASKED["messages"], row]))


def test_a_damaged_line_or_picture_is_named(folder):
    write(folder, [ASKED["messages"]])
    (folder / "images/red.png").write_bytes(png((255, 0, 0))[:50])
    sample = read_questions(folder, validation_share=0).train[0]
    with pytest.raises(DataError, match=r"train\.jsonl:1/0: its image cannot be read"):
        QuestionSource([sample], sizes=SIZES).draw(1, rng=np.random.default_rng(0), num_before=0)
    (folder / "train.jsonl").write_text('{"question": "q?"\n')
    with pytest.raises(DataError, match=r"train\.jsonl, row 1: "):
        read_questions(folder)


def test_an_empty_split_and_an_empty_folder_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match="have nothing to train on"):
        read_questions(write(folder, []))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"holds no questions; it needs files of the kinds \.jsonl, \.json, \.parquet, \.arrow"):
        read_questions(tmp_path / "nothing")
    with pytest.raises(DataError, match="there are no questions at"):
        read_questions(tmp_path / "nowhere")
