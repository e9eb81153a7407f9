"""openpi's robots at our policies and our stations at openpi's servers, with openpi-client itself on the other side."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.sync.server import serve

from opentau.errors import LinkError, PolicyError
from opentau.types import Observation, PolicyRequest, derive_seed
from robot_bridge.gateways.openpi_client import OpenPiPolicy
from robot_bridge.gateways.openpi_server import OpenPiServer
from robot_bridge.gateways.openpi_wire import OpenPiNames, pack, unpack
from tests.fakes import CountingEnv, ScriptedPolicy, counting_interface

NAMES = OpenPiNames(cameras={"agentview": "observation/image", "wrist": "observation/wrist_image"})
HORIZON = 12


def observation(seed: int = 0) -> Observation:
    env = CountingEnv()
    seen, _ = env.reset(seed=seed)
    return Observation(images=seen["images"], state=seen["state"], prompt=env.prompt, time_s=0.0)


def openpi_map(seen: Observation) -> dict:
    images = {NAMES.cameras[camera]: pixels for camera, pixels in seen.images.items()}
    return {**images, "observation/state": seen.state, "prompt": seen.prompt}


@pytest.fixture
def server() -> Iterator[OpenPiServer]:
    with OpenPiServer(ScriptedPolicy(), names=NAMES, seed=7) as server:
        yield server


def ask_openpi(server: OpenPiServer, plain: dict) -> dict:
    client = WebsocketClientPolicy(server.url)
    try:
        return client.infer(plain)
    finally:
        client._ws.close()


def test_openpis_client_gets_the_policys_own_chunks(server: OpenPiServer) -> None:
    client, seen = WebsocketClientPolicy(server.url), observation()
    assert client.get_server_metadata()["action_horizon"] == HORIZON
    for tick in range(3):
        request = PolicyRequest(observation=seen, episode_seed=derive_seed(7, "openpi", 1), tick=tick)
        answer = client.infer(openpi_map(seen))
        np.testing.assert_array_equal(answer["actions"], ScriptedPolicy().infer([request])[0].actions)
        assert answer["server_timing"]["infer_ms"] >= 0.0
    client._ws.close()


def test_openpis_question_for_health_is_answered(server: OpenPiServer) -> None:
    with urllib.request.urlopen(server.url.replace("ws", "http", 1) + "/healthz", timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": None}, "without the text 'prompt'"),
        ({"observation/state": np.zeros(3, np.float32)}, r"observation/state: \(4,\) is expected, \(3,\) was sent"),
        ({"observation/image": np.zeros((9, 8, 3), np.uint8)}, r"observation/image: \(8, 8, 3\) is expected"),
        ({"observation/image": np.zeros((8, 8, 3))}, "must be uint8 with 3 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_others_are_served(server: OpenPiServer, change: dict, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        ask_openpi(server, openpi_map(observation()) | change)
    assert ask_openpi(server, openpi_map(observation()))["actions"].shape == (HORIZON, 2)


def test_the_gateway_listens_on_loopback_only() -> None:
    with pytest.raises(LinkError, match="without keys"):
        OpenPiServer(ScriptedPolicy(), names=NAMES, host="0.0.0.0")
    with pytest.raises(LinkError, match="name openpi's key of each"):
        OpenPiServer(ScriptedPolicy(), names=OpenPiNames(cameras={"agentview": "image"}))


def openpi_server(answer: object) -> object:
    """A server that packs as openpi's does and gives one answer to everything."""

    def handle(connection: object) -> None:
        connection.send(msgpack_numpy.packb({"about": "test"}))
        for message in connection:
            seen.append(msgpack_numpy.unpackb(message))
            connection.send(answer if isinstance(answer, str) else msgpack_numpy.packb(answer))

    seen: list[dict] = []
    server = serve(handle, "127.0.0.1", 0, compression=None, max_size=None)
    server.seen = seen
    return server


def ask_ours(answer: object, **options: object) -> tuple[list[dict], object, dict]:
    import threading

    server = openpi_server(answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host, port = server.socket.getsockname()
    names = OpenPiNames(cameras=NAMES.cameras, is_mirrored=bool(options.pop("is_mirrored", False)))
    try:
        policy = OpenPiPolicy(
            f"ws://{host}:{port}", interface=counting_interface(), names=names,
            action_horizon=5, policy_version="theirs", timeout_s=20.0, **options,
        )  # fmt: skip
        with policy:
            chunks = policy.infer([PolicyRequest(observation=observation(), episode_seed=1, tick=0)])
            return server.seen, chunks[0], policy.metadata
    finally:
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_openpi_server_is_a_policy_like_any_other(dtype: type) -> None:
    actions = np.arange(10, dtype=dtype).reshape(5, 2)
    seen, chunk, metadata = ask_ours({"actions": actions, "server_timing": {"infer_ms": 1.5}})
    np.testing.assert_array_equal(chunk.actions, actions)
    assert (chunk.actions.dtype, chunk.policy_version, metadata) == (np.float32, "theirs", {"about": "test"})
    for key, value in openpi_map(observation()).items():
        np.testing.assert_array_equal(seen[0][key], value)


def test_images_are_mirrored_where_openpis_policy_saw_them_so() -> None:
    seen, _, _ = ask_ours({"actions": np.zeros((5, 2))}, is_mirrored=True)
    np.testing.assert_array_equal(seen[0]["observation/image"], observation().images["agentview"][:, ::-1])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Traceback: out of memory", "refuses: Traceback: out of memory"),
        ({"actions": np.zeros((4, 2))}, r"shape \(4, 2\); expected are \(5, 2\)"),
        ({"actions": np.full((5, 2), np.nan)}, "not finite"),
        ({"no_actions": 1}, "without the array 'actions'"),
    ],
)
def test_a_bad_answer_of_an_openpi_server_is_an_error_in_words(answer: object, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        ask_ours(answer)


def test_a_server_that_is_not_there_is_named() -> None:
    policy = OpenPiPolicy(
        "ws://127.0.0.1:9", interface=counting_interface(), names=NAMES, action_horizon=5, policy_version="x", timeout_s=2.0
    )
    with pytest.raises(LinkError, match=r"no openpi server answers at ws://127\.0\.0\.1:9"), policy:
        pass


def test_our_packing_is_openpis() -> None:
    plain = {"actions": np.arange(6, dtype=np.float32).reshape(2, 3), "n": 3, "inner": {"infer_ms": 1.5}, "text": "é"}
    theirs = msgpack_numpy.unpackb(pack(plain))
    np.testing.assert_array_equal(theirs.pop("actions"), plain["actions"])
    assert theirs == {key: value for key, value in plain.items() if key != "actions"}
    ours = unpack(msgpack_numpy.packb({**plain, "scalar": np.float32(2.5)}))
    np.testing.assert_array_equal(ours.pop("actions"), plain["actions"])
    assert ours == {**theirs, "scalar": 2.5}


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_openpi_messages_are_link_errors_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(pack(openpi_map(observation())))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except LinkError:
        return


@pytest.mark.parametrize(
    "field",
    [
        {b"dtype": "|O"},
        {b"dtype": "<c8"},
        {b"shape": [1 << 40, 1 << 40]},
        {b"shape": [-1]},
        {b"shape": [0, 1 << 62, 1 << 62]},
        {b"shape": "8"},
        {b"data": "text"},
    ],
)
def test_arrays_that_lie_are_refused_before_anything_is_made(field: dict) -> None:
    array = {b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [0], **field}
    with pytest.raises(LinkError):
        unpack(msgspec.msgpack.encode({"actions": array}))
