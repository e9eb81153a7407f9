"""`opentau tui --serve PORT`: the screens in a browser on this machine, by textual-serve (extra `serve`)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from aiohttp import web
from textual_serve.server import Server

from opentau.errors import OptionError

HOST = "127.0.0.1"


class LocalServer(Server):
    """Answers pages that it served itself: who steers a run is whoever may log in here, and no other page of a browser."""

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        own = (self.public_url, self.public_url.replace(HOST, "localhost"))
        if request.headers.get("Origin") not in own:
            raise web.HTTPForbidden(text=f"this is answered to pages of {self.public_url} only")
        return await super().handle_websocket(request)


def serve(words: Sequence[str], *, port: int) -> None:
    """Serve `opentau tui` with these arguments until it is interrupted; every page is a screen of its own.

    It listens on this machine only: nothing in it asks who somebody is. Raises `OptionError` for a port that there is not.
    """
    if not 1 <= port <= 65535:
        raise OptionError(f"--serve is {port}; a port is a number from 1 to 65535, for example 8000")
    command = shlex.join([sys.executable, "-P", "-m", "opentau.cli.main", "tui", *words])
    LocalServer(command, host=HOST, port=port, title="OpenTau", public_url=f"http://{HOST}:{port}").serve()
