"""The tower against EfficientNet-Lite0 written out as its table says, with its batch norms and TensorFlow's padding."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from opentau.errors import CheckpointError, OptionError
from opentau.models.config import EfficientNetLiteConfig
from opentau.models.efficientnet import EfficientNetLiteTower, same_padding
from opentau.models.initialisation import initialise
from opentau.models.vision import scaled_pixels, vision_tower
from opentau.policies.parts.efficientnet import vision_weights

# Kernel, stride, expansion and channels of every block down to a sixteenth, in the published order.
TABLE = [
    (3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40), (3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80),
    (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112),
]  # fmt: skip


def published_state(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random weights by their published names, with statistics that are not those of a fresh norm."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, *shape: int) -> None:
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        for what, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.2, 2),
        ):
            state[f"{norm}.{what}"] = torch.empty(shape[0]).uniform_(low, high, generator=generator)

    convolution("_conv_stem", "_bn0", 32, 3, 3, 3)
    before = 32
    for block, (kernel, _, expansion, after) in enumerate(TABLE):
        prefix, wide = f"_blocks.{block}.", before * expansion
        if expansion > 1:
            convolution(prefix + "_expand_conv", prefix + "_bn0", wide, before, 1, 1)
        convolution(prefix + "_depthwise_conv", prefix + "_bn1", wide, 1, kernel, kernel)
        convolution(prefix + "_project_conv", prefix + "_bn2", after, wide, 1, 1)
        before = after
    return state


def as_published(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return the map of 112 channels, from uint8 [M, Y, X, 3]."""

    def step(x: torch.Tensor, name: str, norm: str, *, stride: int = 1, groups: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        total = [max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0) for size in x.shape[:1:-1]]
        x = F.pad(x, [side for each in total for side in (each // 2, each - each // 2)])
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        statistics = [state[f"{norm}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *statistics, training=False, eps=1e-3)

    x = (images.permute(0, 3, 1, 2).float() - 127) / 128
    x = step(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    for block, (_, stride, expansion, after) in enumerate(TABLE):
        prefix, before = f"_blocks.{block}.", x
        if expansion > 1:
            x = step(x, prefix + "_expand_conv", prefix + "_bn0").clamp(0, 6)
        x = step(x, prefix + "_depthwise_conv", prefix + "_bn1", stride=stride, groups=x.shape[1]).clamp(0, 6)
        x = step(x, prefix + "_project_conv", prefix + "_bn2")
        x = x + before if stride == 1 and before.shape[1] == after else x
    return x


def images(size: int, *, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def tower(state: dict[str, torch.Tensor], size: int) -> EfficientNetLiteTower:
    made = EfficientNetLiteTower(EfficientNetLiteConfig(image_size=size), width=24)
    left = made.load_state_dict(
        {name.removeprefix("vision."): weight for name, weight in vision_weights(state).items()}, strict=False
    )
    assert not left.unexpected_keys
    assert {name.split(".")[0] for name in left.missing_keys} == {"norm", "projection", "position_embedding"}
    return made.eval()


@pytest.mark.parametrize("size", [64, 112])
def test_the_tower_sees_what_the_published_network_sees(size):
    state = published_state()
    with torch.no_grad():
        ours, theirs = tower(state, size).seen(scaled_pixels(images(size))), as_published(state, images(size))
    assert ours.shape == (2, 112, size // 16, size // 16)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def test_tokens_are_rows_of_the_map_with_the_backbones_width():
    config = EfficientNetLiteConfig(image_size=48)
    made = vision_tower(config, width=24)
    initialise(made, seed=0)
    tokens = made(scaled_pixels(images(48)))
    assert tokens.shape == (2, config.num_tokens, 24) == (2, 9, 24)
    tokens.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())


def test_random_weights_keep_the_size_of_what_is_seen():
    made = EfficientNetLiteTower(EfficientNetLiteConfig(image_size=64), width=24)
    initialise(made, seed=0)
    with torch.no_grad():
        assert 0.03 < made.seen(scaled_pixels(images(64))).std() < 3


@pytest.mark.parametrize(("length", "kernel", "stride", "zeros"), [(8, 3, 2, 1), (7, 3, 2, 2), (8, 5, 2, 3), (8, 3, 1, 2)])
def test_padding_is_tensorflows(length, kernel, stride, zeros):
    assert same_padding(length, kernel_size=kernel, stride=stride) == zeros


def test_a_missing_weight_is_named():
    state = published_state()
    del state["_blocks.3._bn1.running_var"]
    with pytest.raises(CheckpointError, match=r"lack _blocks\.3\._bn1\.running_var"):
        vision_weights(state)


def test_images_that_are_no_multiple_of_16_are_refused():
    with pytest.raises(OptionError, match="image_size is 100"):
        dataclasses.replace(EfficientNetLiteConfig(image_size=64), image_size=100)
