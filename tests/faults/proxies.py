"""What lies between a station and a server in these tests: bad weather for messages, and a wire that can be cut."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType

import zmq

_POLL_MS = 20
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What befalls messages, each by chance."""

    delay_s: float = 0.0
    """Largest mean delay: a message's mean is drawn from 0 to this, and its delay within half of that mean."""
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """How many messages are held back until later ones have passed."""
    keeps_order: bool = False
    """Whether delayed messages arrive as they were sent, as those of one connection do."""


class MessageProxy(threading.Thread):
    """Dial `target` for everyone who dials this, under the same name, and pass messages on as the weather has it."""

    def __init__(self, target: str, weather: Weather, *, seed: int) -> None:
        super().__init__(name="proxy", daemon=True)
        self._target, self._weather, self._rng = target, weather, random.Random(seed)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.linger = 0
        self._front.setsockopt(zmq.ROUTER_HANDOVER, 1)
        port = self._front.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._back: dict[bytes, zmq.Socket[bytes]] = {}
        self._waiting: list[tuple[float, int, bytes, bool, list[bytes]]] = []
        self._number = itertools.count()
        self._last_due = {True: 0.0, False: 0.0}
        self._is_stopping = threading.Event()
        self.num_passed = self.num_lost = self.num_doubled = self.num_overtaken = 0
        self._newest = {True: -1, False: -1}

    def __enter__(self) -> MessageProxy:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_stopping.set()
        self.join(5.0)
        assert not self.is_alive()
        self._context.destroy(linger=0)

    def run(self) -> None:
        while not self._is_stopping.is_set():
            self._take_in()
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                self._pass_on(*heapq.heappop(self._waiting)[1:])

    def _take_in(self) -> None:
        """Read everything that is there, after a short while."""
        wait_ms = _POLL_MS
        if self._waiting:
            wait_ms = min(wait_ms, max(0, int(1000 * (self._waiting[0][0] - time.monotonic()))))
        poller = zmq.Poller()
        for each in (self._front, *self._back.values()):
            poller.register(each, zmq.POLLIN)
        ready = dict(poller.poll(wait_ms))
        if self._front in ready:
            name, *frames = self._front.recv_multipart()
            self._schedule(name, True, frames)
        for name, back in list(self._back.items()):
            if back in ready:
                self._schedule(name, False, back.recv_multipart())

    def _schedule(self, name: bytes, is_to_server: bool, frames: list[bytes]) -> None:
        weather, rng = self._weather, self._rng
        if rng.random() < weather.loss:
            self.num_lost += 1
            return
        copies = 2 if rng.random() < weather.duplication else 1
        self.num_doubled += copies - 1
        for _ in range(copies):
            delay = rng.uniform(0.0, weather.delay_s) * rng.uniform(0.5, 1.5)
            if rng.random() < weather.reordering:
                delay += 0.2
            due = time.monotonic() + delay
            if weather.keeps_order:
                due = self._last_due[is_to_server] = max(due, self._last_due[is_to_server])
            heapq.heappush(self._waiting, (due, next(self._number), name, is_to_server, frames))

    def _pass_on(self, number: int, name: bytes, is_to_server: bool, frames: list[bytes]) -> None:
        self.num_passed += 1
        self.num_overtaken += number < self._newest[is_to_server]
        self._newest[is_to_server] = max(number, self._newest[is_to_server])
        if is_to_server and name not in self._back:
            back = self._context.socket(zmq.DEALER)
            back.linger = 0
            back.setsockopt(zmq.IDENTITY, name)
            back.connect(self._target)
            self._back[name] = back
        with contextlib.suppress(zmq.Again):
            if is_to_server:
                self._back[name].send_multipart(frames, zmq.DONTWAIT)
            else:
                self._front.send_multipart([name, *frames], zmq.DONTWAIT)


class Wire:
    """A TCP connection's way to `port` that can stand still, or be cut; it does not read what it carries."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self._flows = threading.Event()
        self._flows.set()
        self._is_stopping = self._is_cut = False
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.num_bytes = 0

    def __enter__(self) -> Wire:
        self._begin(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_stopping = True
        self._flows.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._reset()
        for thread in self._threads:
            thread.join(5.0)
            assert not thread.is_alive()

    def stand_still(self) -> None:
        """Carry nothing until `flow`; nothing is lost."""
        self._flows.clear()

    def cut(self) -> None:
        """End every connection and let none come about until `flow`; what was on its way is lost."""
        self._is_cut = True
        self._reset()

    def flow(self) -> None:
        self._is_cut = False
        self._flows.set()

    def _accept(self) -> None:
        while not self._is_stopping:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionError
                far = socket.create_connection(("127.0.0.1", self._port), timeout=5.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends += [near, far]
            self._begin(self._carry, near, far)
            self._begin(self._carry, far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                self._flows.wait()
                sink.sendall(block)
                self.num_bytes += len(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _begin(self, target, *args) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
