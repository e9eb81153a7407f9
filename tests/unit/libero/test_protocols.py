"""Other projects' conventions: names, sizes, mirrors, limits; and identities that older results keep."""

from __future__ import annotations

import hashlib
import json

import mujoco
import numpy as np
import pytest

from envs.libero.environment import LiberoEnv
from envs.libero.protocols import PROTOCOLS, require_protocol, shown
from envs.libero.suites import SUITES
from envs.rendering import describe_backend
from opentau.cli.compose import compose_config
from opentau.data.lerobot.layout import build_features
from opentau.loop.options import LoopOptions
from opentau.types import Interface

NAMES = {"openpi": ["image", "wrist_image"], "lerobot": ["image", "image2"], "tensorauto": ["camera0", "camera1"]}


def test_an_image_is_mirrored_and_resampled():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 200
    assert shown(image, size=8, is_mirrored=False).tolist() == image.tolist()
    mirrored = shown(image, size=4, is_mirrored=True)
    assert mirrored.shape == (4, 4, 3)
    assert (mirrored[:, 0].max(), mirrored[:, 3].min()) == (0, 200)
    assert not np.shares_memory(shown(image, size=8, is_mirrored=True), image)


def test_an_unknown_protocol_is_answered_with_those_that_exist():
    with pytest.raises(ValueError, match="openpi, lerobot, tensorauto or null, not 'lerobo'; did you mean lerobot"):
        require_protocol("lerobo")


def test_every_protocol_limits_every_suite_and_openpi_is_stricter_on_one():
    assert all(set(protocol.max_steps) == set(SUITES) for protocol in PROTOCOLS.values())
    assert {name: protocol.max_steps["libero_spatial"] for name, protocol in PROTOCOLS.items()} == {
        "openpi": 220,
        "lerobot": 280,
        "tensorauto": 280,
    }
    assert dict(PROTOCOLS["openpi"].max_steps) == {suite: known.max_steps for suite, known in SUITES.items()}


@pytest.mark.parametrize(("name", "image_size", "horizon"), [("openpi", 224, 5), ("lerobot", 256, 10), ("tensorauto", 256, 10)])
def test_a_protocol_is_one_option_of_every_command(name: str, image_size: int, horizon: int):
    options = LoopOptions.from_config(compose_config("loop", [f"protocol={name}", "env=libero/spatial"]))
    assert options.env.args == {"suite": "libero_spatial", "stepping": "fast", "image_size": image_size, "protocol": name}
    assert options.rollout.execute_horizon == horizon


@pytest.mark.libero
def test_what_older_results_are_keyed_by_stays(env: LiberoEnv):
    facts = {
        "task": "libero_object/0",
        "stepping": "fast",
        "image_size": 32,
        "cameras": ["agentview", "wrist"],
        "timestep_ms": 2,
        "mujoco": mujoco.__version__,
        "opengl": describe_backend().id,
        "scene": env.physics.scene.content_hash,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    assert env.env_id == f"libero_object/0-fast-{digest[:16]}"


@pytest.mark.libero
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_shows_what_its_project_shows(env: LiberoEnv, name: str):
    other = LiberoEnv(protocol=name)
    plain = LiberoEnv(image_size=PROTOCOLS[name].render_size, meshes="original")
    seen, upright = (each.reset(options={"initial_state": 0})[0] for each in (other, plain))
    size = PROTOCOLS[name].image_size
    assert list(seen["images"]) == NAMES[name]
    assert {image.shape for image in seen["images"].values()} == {(size, size, 3)}
    for image, expected in zip(seen["images"].values(), upright["images"].values(), strict=True):
        mirrored = expected[:, ::-1]
        if size == PROTOCOLS[name].render_size:
            assert np.array_equal(image, mirrored)
        else:
            assert np.abs(image[::8, ::8].astype(int) - mirrored[4::9, 4::9][: size // 8, : size // 8]).mean() < 40
            assert np.abs(image.mean(axis=(0, 1)) - mirrored.mean(axis=(0, 1))).max() < 1
    assert np.array_equal(seen["state"], upright["state"])
    assert other.max_steps == 280
    assert other.env_id not in (env.env_id, plain.env_id)
    features = build_features(Interface.from_dict(other.metadata["interface"]), sim_state_dim=0)
    for camera in NAMES[name]:
        assert features[f"observation.images.{camera}"]["shape"] == [size, size, 3]
    assert (features["observation.state"]["shape"], features["action"]["shape"]) == ([8], [7])
    for each in (other, plain):
        each.close()


@pytest.mark.libero
def test_boxes_follow_mirrored_images():
    mirrored, plain = (LiberoEnv(image_size=64, meshes="decimated", protocol=name) for name in ("lerobot", None))
    boxes = []
    for each, camera in ((mirrored, "image"), (plain, "agentview")):
        each.reset(options={"initial_state": 0})
        boxes.append(each.ground_truth()["cameras"][camera]["basket_1"]["box"])
        each.close()
    (top, left, bottom, right), (plain_top, plain_left, plain_bottom, plain_right) = boxes
    assert (top, bottom) == (plain_top, plain_bottom)
    assert (left, right) == pytest.approx((1 - plain_right, 1 - plain_left))
    assert left != pytest.approx(plain_left, abs=0.02)


@pytest.mark.libero
def test_cameras_have_the_names_of_the_protocol_only():
    with pytest.raises(ValueError, match="cameras are some of image, image2, front, side, bird, not 'agentview'"):
        LiberoEnv(protocol="lerobot", cameras=["agentview"])
