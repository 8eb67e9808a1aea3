"""Start a sandbox as a process of its own, and steer it: for the demo and for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestration.sandbox.calls import CONTROL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from orchestration.sandbox.config import Json

_ANSWER_S = 60.0
_STOP_S = 10.0


class SandboxControl:
    """A sandbox that runs anywhere, steered over HTTP."""

    def __init__(self, url: str) -> None:
        """Nothing is sent yet."""
        self.url = url  #: http://HOST:PORT

    def get(self, name: str) -> Json:
        """Return what `GET /_sandbox/<name>` answers."""
        return self._control("GET", name, None)

    def post(self, name: str, body: object = None) -> Json:
        """Return what `POST /_sandbox/<name>` answers to a JSON body; see `servers.control`."""
        return self._control("POST", name, body)

    def _control(self, method: str, name: str, body: object) -> Json:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=_ANSWER_S)
        try:
            connection.request(method, CONTROL_PREFIX + name, json.dumps(body))
            answer = connection.getresponse()
            result = json.loads(answer.read())
        finally:
            connection.close()
        if "error" in result:
            raise ValueError(result["error"])
        return result


class SandboxProcess(SandboxControl):
    """A running sandbox, which a `with` stops; it never outlives this process.

    Example:
        >>> with SandboxProcess({"auth": False}) as sandbox:
        ...     sandbox.get("report")["requests"]
        0
    """

    def __init__(
        self,
        config: Mapping[str, object] | None = None,
        *,
        journal: Path | None = None,
        port: int = 0,
    ) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it ended at once; its reason is on stderr.
        """
        command = [sys.executable, "-m", "orchestration.sandbox", f"--port={port}"]
        command.append(f"--parent={os.getpid()}")
        if journal is not None:
            command.append(f"--journal={journal}")
        # The configuration holds secrets, and every user can read the arguments of a process.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
            json.dump(config or {}, file)
            file.flush()
            command.append(f"--config={file.name}")
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- the command is our own module
            ready = self._process.stdout.readline() if self._process.stdout else ""
        self.pid = self._process.pid
        if "http://" not in ready:
            self.stop()
            raise RuntimeError("the sandbox did not start; its reason is on stderr")
        super().__init__(ready.split()[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        finally:
            self._process.kill()
            if self._process.stdout:
                self._process.stdout.close()
