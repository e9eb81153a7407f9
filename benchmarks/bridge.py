"""The bridge's link beside bare sockets and beside openpi's client: round trips of an observation and its chunk.

JPEG: three cameras of 224 pixels, coded beforehand, under CURVE; ours (typed headers, checks, stamps) against bare ROUTER and
DEALER sockets that carry the same bytes there and back. Raw: the same cameras uncoded and in clear, to the policy's request and
back from its chunk, against openpi-client's own client and a minimal websocket server with its packer, and beside bare sockets.
That needs openpi-client 0.1.2, whose numpy is older than ours: pip install --no-deps openpi-client==0.1.2 dm-tree, beside the
extra `gateway`.
Client and server are two processes, sides take turns round by round, and ratios are medians over rounds.
--soak plays at 30 Hz on the real clock instead, with 100 ms of inference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import zmq

from opentau.rollout.inference import InferenceServer
from opentau.types import ActionChunk, Interface, Observation, PolicyRequest
from robot_bridge.playing.executor import ChunkExecutor
from robot_bridge.wire.clocks import BOOT_ID
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.link import Plane, bind, dial, receive, receive_from, send, send_to, wait
from robot_bridge.wire.messages import Chunk, Obs, Payload, Stamp, decode, encode
from robot_bridge.wire.payloads import reply_from, request_arrays, request_from

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
SIZE, STATE_DIM, HORIZON, ACTION_DIM = 224, 8, 50, 7
PROMPT = "pick up the fork"
BARS = {"jpeg p50": 1.5, "jpeg p99": 2.0}
"""Most that ours may take, times bare sockets."""
RAW_BAR = 5.0
"""Least that ours must be faster than openpi's client."""
OURS_JPEG, BARE_JPEG = "ours, JPEG, CURVE", "bare sockets, JPEG, CURVE"
OURS_RAW, BARE_RAW, OPENPI_RAW = "ours, raw", "bare sockets, raw", "openpi-client, raw"
NUM_WARM_UP, TURN = 50, 20
"""Round trips before anything counts, and before it is the other side's turn."""
ANSWER_S = 10.0
CONTROL_HZ, INFERENCE_S = 30.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Round trips of one side, medians over rounds."""

    side: str
    p50_ms: float
    p99_ms: float
    request_bytes: int


def pictures() -> dict[str, np.ndarray]:
    """Return images that are neither flat nor noise: waves in all colours, and some grain."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    images = {}
    for number, camera in enumerate(CAMERAS):
        waves = [np.sin(6 * (rows * (channel + 1) + columns * (number + 1))) for channel in range(3)]
        image = 127 + 90 * np.stack(waves, -1) + rng.normal(0, 4, (SIZE, SIZE, 3))
        images[camera] = np.clip(image, 0, 255).astype(np.uint8)
    return images


def request() -> PolicyRequest:
    state = np.linspace(-1, 1, STATE_DIM, dtype=np.float32)
    seen = Observation(images=pictures(), state=state, prompt=PROMPT, time_s=1.0)
    return PolicyRequest(observation=seen, episode_seed=7, tick=20)


def obs(asked: PolicyRequest, *, seq: int) -> Obs:
    """Return what `StationLink.ask` sends."""
    now_ns = time.monotonic_ns()
    return Obs(
        session="benchmark",
        seq=seq,
        episode_id="collect-1/000017",
        policy_id="incumbent",
        episode_seed=asked.episode_seed,
        tick=asked.tick,
        time_s=asked.observation.time_s,
        prompt=asked.observation.prompt,
        wants_value=False,
        stamp=Stamp(t_obs_ns=now_ns, t_send_ns=now_ns, boot_id=BOOT_ID, policy_version="ab" * 32, schema_hash="cd" * 32),
    )


def chunk(asked: Obs) -> Chunk:
    assert asked.stamp is not None
    return Chunk(
        session="benchmark",
        seq=asked.seq,
        episode_id=asked.episode_id,
        policy_version="ab" * 32,
        value=None,
        infer_ms=0.0,
        queue_ms=0.1,
        t_obs_ns=asked.stamp.t_obs_ns,
        t_send_ns=asked.stamp.t_send_ns,
        boot_id=BOOT_ID,
    )


ACTIONS = np.linspace(-1, 1, HORIZON * ACTION_DIM, dtype=np.float32).reshape(HORIZON, ACTION_DIM)


# Servers: each runs in a process of its own, says where it listens, and answers until it is killed.


def serve_ours_jpeg(keys: Sequence[str]) -> None:
    socket = _router(keys)
    while True:
        if not wait(socket, timeout_s=1.0):
            continue
        identity, frames = receive_from(socket)
        message, _ = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)  # images stay coded
        assert isinstance(message, Obs)
        send_to(socket, identity, chunk(message), {"actions": ACTIONS})


def serve_bare(keys: Sequence[str]) -> None:
    socket = _router(keys)
    answer = [bytes(frame) for frame in encode(chunk(obs(request(), seq=1)), {"actions": ACTIONS})]
    while True:
        identity, *_ = socket.recv_multipart(copy=False)
        socket.send_multipart([identity, *answer], copy=False)


def serve_ours_raw(_: Sequence[str]) -> None:
    socket, endpoint = bind(zmq.Context(), Plane.INFERENCE, host="127.0.0.1")
    print(endpoint, flush=True)
    while True:
        if not wait(socket, timeout_s=1.0):
            continue
        identity, frames = receive_from(socket)
        message, arrays = decode(frames, max_bytes=Plane.INFERENCE.value.max_bytes)
        assert isinstance(message, Obs)
        request_from(message, arrays)
        send_to(socket, identity, chunk(message), {"actions": ACTIONS})


def serve_openpi(_: Sequence[str]) -> None:
    import websockets.asyncio.server  # extra: gateway
    from openpi_client import msgpack_numpy  # extra: openpi-client, for this comparison alone

    async def answer(connection: websockets.asyncio.server.ServerConnection) -> None:
        packer = msgpack_numpy.Packer()
        await connection.send(packer.pack({}))
        while True:
            msgpack_numpy.unpackb(await connection.recv())
            await connection.send(packer.pack({"actions": ACTIONS, "server_timing": {"infer_ms": 0.0}}))

    async def serve() -> None:
        async with websockets.asyncio.server.serve(answer, "127.0.0.1", 0, compression=None, max_size=None) as server:
            print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
            await asyncio.Future()

    asyncio.run(serve())


def serve_soak(_: Sequence[str]) -> None:
    """Answer by the real inference server; the policy takes its time."""

    class SlowPolicy:
        interface = Interface(
            cameras={},
            state_names=(),
            state_units=(),
            action_names=(),
            action_units=(),
            action_space="absolute_joint",
            control_hz=CONTROL_HZ,
        )
        action_horizon = HORIZON
        policy_version = "ab" * 32

        def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
            time.sleep(INFERENCE_S)
            return [ActionChunk(actions=ACTIONS, policy_version=self.policy_version) for _ in requests]

    socket, endpoint = bind(zmq.Context(), Plane.INFERENCE, host="127.0.0.1")
    server = InferenceServer(
        socket,
        session="benchmark",
        policies={"incumbent": SlowPolicy()},
        critic=None,
        batch_size=1,
        gather_s=0.0,
        num_playing=lambda: 1,
        on_error=lambda error: sys.exit(str(error)),
        on_refused=lambda text: sys.exit(text),
    )
    server.start()
    print(endpoint, flush=True)
    threading.Event().wait()


def _router(keys: Sequence[str]) -> zmq.Socket[bytes]:
    """Return a bound socket; with a public and a secret key under CURVE."""
    socket = zmq.Context().socket(zmq.ROUTER)
    if keys:
        public, secret = keys
        socket.curve_server, socket.curve_publickey, socket.curve_secretkey = True, public.encode(), secret.encode()
    socket.bind("tcp://127.0.0.1:*")
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    return socket


SERVERS: dict[str, Callable[[Sequence[str]], None]] = {
    OURS_JPEG: serve_ours_jpeg,
    BARE_JPEG: serve_bare,
    OURS_RAW: serve_ours_raw,
    BARE_RAW: serve_bare,
    OPENPI_RAW: serve_openpi,
    "soak": serve_soak,
}


# Clients: a call is one round trip.

RoundTrip = Callable[[int], None]


def ours(socket: zmq.Socket[bytes], asked: PolicyRequest, arrays: Callable[[], dict[str, Payload]]) -> RoundTrip:
    def trip(seq: int) -> None:
        send(socket, Plane.INFERENCE, obs(asked, seq=seq), arrays())
        if not wait(socket, timeout_s=ANSWER_S):
            raise SystemExit("no answer")
        message, answered = receive(socket, Plane.INFERENCE)
        assert isinstance(message, Chunk)
        assert reply_from(message, answered, now_ns=time.monotonic_ns()).seq == seq

    return trip


def bare(socket: zmq.Socket[bytes], frames: list[bytes]) -> RoundTrip:
    def trip(_: int) -> None:
        socket.send_multipart(frames, copy=False)
        if not socket.poll(int(1000 * ANSWER_S)):
            raise SystemExit("no answer")
        socket.recv_multipart(copy=False)

    return trip


def openpi(endpoint: str, asked: PolicyRequest) -> RoundTrip:
    from openpi_client.websocket_client_policy import WebsocketClientPolicy  # extra: openpi-client

    client = WebsocketClientPolicy(host=endpoint)
    seen = asked.observation
    observation = {"image": dict(seen.images), "state": seen.state, "prompt": seen.prompt}

    def trip(_: int) -> None:
        assert client.infer(observation)["actions"].shape == (HORIZON, ACTION_DIM)

    return trip


@contextmanager
def serving(side: str, keys: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """Run a side's server; yields its endpoint and its process id."""
    command = [sys.executable, "-P", __file__, "--serve", side, *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            if not endpoint:
                raise SystemExit(f"the server of {side} did not start")
            yield endpoint, process.pid
        finally:
            process.kill()


def curve_client(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, server_key: bytes) -> zmq.Socket[bytes]:
    public, secret = zmq.curve_keypair()
    socket = context.socket(zmq.DEALER)
    socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, server_key
    socket.connect(endpoint)
    return socket


def time_trips(trip: RoundTrip, num_trips: int) -> list[float]:
    """Return milliseconds of each."""
    taken = []
    for number in range(num_trips):
        started = time.perf_counter()
        trip(number)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def measure(sides: dict[str, RoundTrip], *, num_rounds: int, num_trips: int) -> dict[str, list[tuple[float, float]]]:
    """Return p50 and p99 of every round, by side.

    Within a round the sides take turns every few trips, so that both meet the same load of the machine; who begins changes.
    """
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for trip in sides.values():
        time_trips(trip, NUM_WARM_UP)
    for number in range(num_rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        taken: dict[str, list[float]] = {side: [] for side in sides}
        while len(taken[order[-1]]) < num_trips:
            for side in order:
                taken[side] += time_trips(sides[side], min(TURN, num_trips - len(taken[side])))
        for side in sides:
            found[side].append((float(np.percentile(taken[side], 50)), float(np.percentile(taken[side], 99))))
    return found


def compare_jpeg(*, num_rounds: int, num_trips: int) -> tuple[list[Speed], dict[str, float]]:
    asked, context = request(), zmq.Context()
    coded = request_arrays(asked, jpeg_quality=90)
    frames = [bytes(frame) for frame in encode(obs(asked, seq=1), coded)]
    public, secret = zmq.curve_keypair()
    keys = [public.decode(), secret.decode()]
    with serving(OURS_JPEG, keys) as (ours_at, _), serving(BARE_JPEG, keys) as (bare_at, _):
        sides = {
            OURS_JPEG: ours(curve_client(context, ours_at, public), asked, lambda: coded),
            BARE_JPEG: bare(curve_client(context, bare_at, public), frames),
        }
        found = measure(sides, num_rounds=num_rounds, num_trips=num_trips)
    context.destroy(linger=0)
    rounds = list(zip(found[OURS_JPEG], found[BARE_JPEG], strict=True))
    ratios = {
        "jpeg p50": median(own[0] / other[0] for own, other in rounds),
        "jpeg p99": median(own[1] / other[1] for own, other in rounds),
    }
    return _speeds(found, sum(map(len, frames))), ratios


def compare_raw(*, num_rounds: int, num_trips: int) -> tuple[list[Speed], dict[str, float]]:
    asked, context = request(), zmq.Context()
    frames = [bytes(frame) for frame in encode(obs(asked, seq=1), request_arrays(asked))]
    with serving(OURS_RAW) as (ours_at, _), serving(BARE_RAW) as (bare_at, _), serving(OPENPI_RAW) as (openpi_at, _):
        socket = dial(context, Plane.INFERENCE, endpoint=ours_at, identity="station")
        bare_socket = dial(context, Plane.INFERENCE, endpoint=bare_at, identity="station")
        sides = {
            OURS_RAW: ours(socket, asked, lambda: request_arrays(asked)),
            BARE_RAW: bare(bare_socket, frames),
            OPENPI_RAW: openpi(openpi_at, asked),
        }
        found = measure(sides, num_rounds=num_rounds, num_trips=num_trips)
    context.destroy(linger=0)
    rounds = list(zip(found[OURS_RAW], found[OPENPI_RAW], strict=True))
    return _speeds(found, sum(map(len, frames))), {"raw p50, openpi / ours": median(other[0] / own[0] for own, other in rounds)}


def _speeds(found: dict[str, list[tuple[float, float]]], num_bytes: int) -> list[Speed]:
    return [
        Speed(
            side=side,
            p50_ms=median(p50 for p50, _ in rounds),
            p99_ms=median(p99 for _, p99 in rounds),
            request_bytes=num_bytes,
        )
        for side, rounds in found.items()
    ]


def measure_coding(num_trips: int) -> dict[str, float]:
    """Return milliseconds for coding and decoding the three images of one observation."""
    images = list(pictures().values())
    coded = [CodedImage.of(image) for image in images]

    def took(do: Callable[[], object]) -> float:
        taken = []
        for _ in range(num_trips):
            started = time.perf_counter()
            do()
            taken.append(time.perf_counter() - started)
        return 1000 * median(taken)

    return {
        "encode_ms": took(lambda: [CodedImage.of(image) for image in images]),
        "decode_ms": took(lambda: [image.pixels() for image in coded]),
    }


def soak(seconds: float) -> dict[str, float]:
    """Play at 30 Hz on the real clock with 100 ms of inference; return underruns, jitter and growth.

    A tick is stalled that begins more than a period late: the machine did not run this process, and no link can help that.
    """
    import psutil  # extra: dev

    asked, context = request(), zmq.Context()
    with serving("soak") as (endpoint, pid):
        socket = dial(context, Plane.INFERENCE, endpoint=endpoint, identity="station")
        both = [psutil.Process(), psutil.Process(pid)]
        executor = ChunkExecutor(episode_id="collect-1/000017", execute_horizon=20, delay_ticks=6)
        num_underruns, seq, before = 0, 0, [0, 0]
        late_ms: list[float] = []
        answer_ms: list[float] = []
        begun = time.monotonic()
        num_ticks = int(seconds * CONTROL_HZ)
        for tick in range(num_ticks):
            time.sleep(max(0.0, begun + tick / CONTROL_HZ - time.monotonic()))
            late_ms.append(1000 * (time.monotonic() - begun - tick / CONTROL_HZ))
            if executor.needs_request(tick):
                seq += 1
                executor.request(tick, seq=seq)
                send(socket, Plane.INFERENCE, obs(asked, seq=seq), request_arrays(asked, jpeg_quality=90))
            while wait(socket, timeout_s=0.0):
                message, arrays = receive(socket, Plane.INFERENCE)
                assert isinstance(message, Chunk)
                reply = reply_from(message, arrays, now_ns=time.monotonic_ns())
                assert reply.timing is not None
                answer_ms.append(reply.timing.obs_age_ms)
                executor.accept(reply, tick=tick)
            if executor.action(tick) is None and tick > 30:  # the first chunk has to come first
                num_underruns += 1
            if tick == num_ticks // 10:
                before = [process.memory_info().rss for process in both]
        after = [process.memory_info().rss for process in both]
    context.destroy(linger=0)
    return {
        "seconds": seconds,
        "ticks": num_ticks,
        "chunks": seq,
        "underruns": num_underruns,
        "refused_chunks": executor.num_refused,
        "answer_p50_ms": float(np.percentile(answer_ms, 50)),
        "answer_p99_ms": float(np.percentile(answer_ms, 99)),
        "stalled_ticks": int(np.count_nonzero(np.array(late_ms) > 1000 / CONTROL_HZ)),
        "late_p50_ms": float(np.percentile(late_ms, 50)),
        "late_p99_ms": float(np.percentile(late_ms, 99)),
        "station_rss_growth_kb": (after[0] - before[0]) / 1024,
        "server_rss_growth_kb": (after[1] - before[1]) / 1024,
    }


def missed_bars(ratios: dict[str, float]) -> list[str]:
    missed = [f"{name} is {ratios[name]:.2f}, the bar {bar:g}" for name, bar in BARS.items() if ratios[name] > bar]
    name = "raw p50, openpi / ours"
    return missed + ([f"{name} is {ratios[name]:.2f}, the bar {RAW_BAR:g}"] if ratios[name] < RAW_BAR else [])


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 below a bar with --require."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default 5)")
    parser.add_argument("--trips", type=int, default=2_000, help="round trips a round and side; a fifth for raw (default 2000)")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="play at 30 Hz for so long instead")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--require", action="store_true", help="fail when a bar is missed")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        SERVERS[options.serve[0]](options.serve[1:])
        return 0
    if options.soak:
        found = soak(options.soak)
        print(json.dumps(found) if options.json else "\n".join(f"{name:24}{value:12.1f}" for name, value in found.items()))
        return 1 if options.require and found["underruns"] else 0
    jpeg, ratios = compare_jpeg(num_rounds=options.rounds, num_trips=options.trips)
    raw, raw_ratios = compare_raw(num_rounds=options.rounds, num_trips=max(1, options.trips // 5))
    ratios |= raw_ratios
    coding, missed = measure_coding(100), missed_bars(ratios)
    if options.json:
        sides = [asdict(speed) for speed in (*jpeg, *raw)]
        print(json.dumps({"sides": sides, "ratios": ratios, "coding": coding, "missed": missed}, indent=1))
    else:
        _print_table([*jpeg, *raw], ratios, coding, missed)
    return 1 if options.require and missed else 0


def _print_table(speeds: list[Speed], ratios: dict[str, float], coding: dict[str, float], missed: list[str]) -> None:
    print(f"{'round trip':28}{'p50 ms':>10}{'p99 ms':>10}{'bytes there':>14}")
    for speed in speeds:
        print(f"{speed.side:28}{speed.p50_ms:10.3f}{speed.p99_ms:10.3f}{speed.request_bytes:14}")
    print("  ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items()))
    print(f"apart: three images take {coding['encode_ms']:.2f} ms to code and {coding['decode_ms']:.2f} ms to decode")
    print("\n".join(f"missed: {line}" for line in missed) or "every bar is met")


if __name__ == "__main__":
    sys.exit(main())
