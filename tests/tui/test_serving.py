"""`opentau tui --serve` shows the screens to a browser of this machine, and to no page that it did not serve itself."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentau.cli.main import main
from opentau.cli.tui import arguments_without
from tests.tui.screen_driver import record
from tests.tui.states import RUN_ID, told_events

pytestmark = pytest.mark.tui

DEADLINE_S = 60.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address at which a finished run is served."""
    record(tmp_path / RUN_ID, told_events())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "tui", RUN_ID, "--serve", str(port), "--screen", "success"]
    environment = {**os.environ, "OPENTAU_RUNS": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, "it does not listen"  # noqa: PT018
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_a_page_shows_the_screens_and_another_page_is_refused(served: str) -> None:
    import aiohttp  # what the extra `serve` brings along

    async def look() -> None:
        async with aiohttp.ClientSession() as browser:
            async with browser.get(served) as page:
                assert page.status == 200
                assert "OpenTau" in await page.text()
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await browser.ws_connect(f"{served}/ws", headers={"Origin": "http://elsewhere.example"})
            async with browser.ws_connect(f"{served}/ws?width=100&height=30", headers={"Origin": served}) as link:
                await link.send_json(["resize", {"width": 100, "height": 30}])
                await sees(link, b"official states", b"14 won")
                await link.send_json(["stdin", "1"])
                await sees(link, b"Stages")

    async def sees(link: aiohttp.ClientWebSocketResponse, *texts: bytes) -> None:
        deadline, seen = time.monotonic() + DEADLINE_S, b""
        while not all(text in seen for text in texts):
            assert time.monotonic() < deadline, seen[-2000:]
            message = await link.receive(timeout=DEADLINE_S)
            seen += message.data if isinstance(message.data, bytes) else b""

    asyncio.run(look())


def test_a_run_that_is_not_there_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    assert main(["tui", "nowhere", "--serve", "8000"]) == 2


def test_the_option_is_not_passed_on() -> None:
    assert arguments_without(["r", "--serve", "8000", "--ascii"], "--serve") == ["r", "--ascii"]
    assert arguments_without(["--serve=8000", "r"], "--serve") == ["r"]
