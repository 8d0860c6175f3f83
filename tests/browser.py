"""A headless Chromium, driven over its DevTools protocol: just enough to look at our pages."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from waiting import until
from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-port=0"
)


class Page:
    """One tab; `errors` collects what its console complains about."""

    def __init__(self, socket: ClientConnection) -> None:
        self.errors: list[str] = []
        self._socket = socket
        self._ids = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Sort incoming messages into answers and complaints, until the browser goes."""
        async for data in self._socket:
            message = json.loads(data)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"]["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Run a DevTools command; its result."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await answer
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def click(self, selector: str) -> None:
        """Click as a person does, who may do more than a script."""
        click = f"document.querySelector({json.dumps(selector)}).click()"
        await self.call("Runtime.evaluate", expression=click, userGesture=True)

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        while not await self.value(expression):
            await asyncio.sleep(0.01)

    async def open(self, url: str, width: int = 1100, height: int = 720, dark: bool = False) -> None:
        """Show a URL in a window of this size."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.look(width, height, dark)
        await self.call("Page.navigate", url=url)
        await self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    async def look(self, width: int, height: int, dark: bool = False, touch: bool = False) -> None:
        """Change the window's size and colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if touch else 1, "mobile": touch}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        """Save what is to be seen as a PNG."""
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))


@asynccontextmanager
async def browser(*options: str) -> AsyncIterator[Page]:
    """A fresh browser with one tab, gone afterwards; `options` are further ones of its command line."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *OPTIONS.split(), *options, f"--user-data-dir={profile}", "about:blank"]
        quiet = asyncio.subprocess.DEVNULL
        surroundings = os.environ | {"TMPDIR": profile}  # or it litters the real one
        process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet, env=surroundings)
        try:
            port_file = Path(profile, "DevToolsActivePort")
            await until(lambda: port_file.exists() and port_file.read_text().count("\n"))
            port, path = port_file.read_text().split()
            async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as whole:
                await whole.send(json.dumps({"id": 0, "method": "Target.getTargets"}))
                targets = json.loads(await whole.recv())["result"]["targetInfos"]
            tab = next(target["targetId"] for target in targets if target["type"] == "page")
            url = f"ws://127.0.0.1:{port}/devtools/page/{tab}"
            async with connect(url, proxy=None, max_size=None) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                try:
                    yield page
                finally:
                    listening.cancel()
        finally:
            process.terminate()
            await process.wait()
