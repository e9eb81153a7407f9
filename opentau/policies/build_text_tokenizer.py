"""Makes text_tokenizer.json of text_words.json and LIBERO's task names: ``python -m opentau.policies.build_text_tokenizer``."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from opentau.policies.text_tokenizer import SHIPPED, SPECIAL_TOKENS

VOCAB_SIZE = 1024
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
WORDS = "text_words.json"
LIBERO_REPEATS = 4
LABEL_REPEATS = 50


def libero_sentences() -> list[str]:
    """Return the instructions of LIBERO's 130 tasks, read off the file names of the installed package."""
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("LIBERO is not installed; install the extra `sim` to build the tokenizer")
    folder = Path(next(iter(spec.submodule_search_locations))) / "libero" / "bddl_files"
    names = [path.stem for suite in SUITES for path in sorted((folder / suite).glob("*.bddl"))]
    return [re.sub(r"^[A-Z0-9_]*SCENE\d+_", "", name).replace("_", " ") for name in names]


def corpus() -> list[str]:
    """Return the training sentences: LIBERO's, made-up ones of the same kind, labels and numbers."""
    words = json.loads(Path(__file__).with_name(WORDS).read_text(encoding="utf-8"))
    colors, objects, places = words["colors"], words["objects"], words["places"]
    made_up = [
        f"{verb} the {_at(colors, index)} {thing} {_at(places, index)} the {_at(objects, 7 * index + 3)}"
        for index, (verb, thing) in enumerate(itertools.product(words["verbs"], objects))
    ]
    numbers = [str(number) for number in range(256)]
    return libero_sentences() * LIBERO_REPEATS + made_up + words["labels"] * LABEL_REPEATS + numbers


def build() -> tokenizers.Tokenizer:
    """Return the tokenizer, a function of the corpus alone."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace("_", " "),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def main() -> None:
    """Write the tokenizer beside this file."""
    Path(__file__).with_name(SHIPPED).write_text(build().to_str(pretty=True), encoding="utf-8")


def _at(items: list[str], index: int) -> str:
    return items[index % len(items)]


if __name__ == "__main__":
    main()
