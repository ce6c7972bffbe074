"""A policy behind a websocket, which speaks openpi's protocol, as a player."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from weakref import finalize

import numpy as np
from jaxtyping import Float32

from depthtok.errors import ConfigError, DepthtokError, MissingPackage
from depthtok.meaning import Meaning
from depthtok.orientation import Orientation

API_KEY = "DEPTHTOK_API_KEY"  # environment variable, as of `depthtok serve`
PATIENCE_S = 600.0  # for an answer: the first one may compile


def plain(value: Any) -> Any:
    """What a server says of itself as JSON values."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(value)


class Server:
    """A policy behind a websocket. Its noise is its own: seeds do not reach it. Raises
    `ConfigError` where no server answers, `MissingPackage` without `websockets`."""

    def __init__(self, where: str) -> None:
        try:
            from websockets.exceptions import WebSocketException
            from websockets.sync.client import connect
        except ImportError as error:
            raise MissingPackage(
                "asking a server needs the package `websockets`",
                remedy="pip install msgpack websockets",
            ) from error
        from vla.serving.wire import unpack

        self._where = where
        try:
            key = os.environ.get(API_KEY)
            headers = {"Authorization": f"Api-Key {key}"} if key else None
            opening = connect(where, compression=None, max_size=None, additional_headers=headers)
            self._open = ExitStack()
            self._connection = self._open.enter_context(opening)
            greeting = self._connection.recv(timeout=PATIENCE_S)
            self.greeting = unpack(greeting.encode() if isinstance(greeting, str) else greeting)
            self.meaning, self.cameras = _told(self.greeting), _looks(self.greeting)
            self.orientations = _learnt_from(self.greeting)
            finalize(self, self._open.close)  # the server is told that nobody asks any more
        except (OSError, TimeoutError, WebSocketException) as error:
            raise ConfigError(
                f"no policy server answers at {where}: {error}",
                remedy="start one (depthtok serve RUN --port 8000), or give a run's directory; the "
                f"key of a server that refuses with 401 goes into {API_KEY}",
            ) from error

    def close(self) -> None:
        self._open.close()

    def reset(self, seed: int) -> None:
        """Nothing: the protocol has no word for it."""

    def act(self, observation: Mapping[str, Any]) -> Float32[np.ndarray, "C A"]:
        """Sends images, state and prompt; returns the chunk of actions. Raises `ConfigError` where
        the server refuses them, `DepthtokError` where it went away."""
        from websockets.exceptions import WebSocketException

        from vla.serving.wire import pack, unpack

        images = {f"observation/{name}": image for name, image in observation["images"].items()}
        state = {"observation/state": observation["proprio"], "prompt": observation["instruction"]}
        try:
            self._connection.send(pack({**images, **state}))
            answer = self._connection.recv(timeout=PATIENCE_S)
        except (OSError, TimeoutError, WebSocketException) as error:
            raise DepthtokError(
                f"the policy server at {self._where} went away: {error}",
                remedy="start it again and run the same command: finished trials are kept",
            ) from error
        if isinstance(answer, str):
            raise ConfigError(f"{self._where} refuses: {answer}", remedy="see the server's log")
        return np.asarray(unpack(answer)["actions"], np.float32)


def _told(greeting: object) -> Meaning | None:
    """What a server says that its numbers mean; None where it does not, as other servers."""
    said = greeting.get("meaning") if isinstance(greeting, Mapping) else None
    try:
        return Meaning.from_json(said) if said else None
    except (KeyError, TypeError, ValueError):
        return None


def _looks(greeting: object) -> tuple[str, ...] | None:
    """The cameras that a server says it looks at; None where it does not."""
    said = greeting.get("cameras") if isinstance(greeting, Mapping) else None
    return tuple(map(str, said)) if isinstance(said, list | tuple) else None


def _learnt_from(greeting: object) -> dict[str, Orientation]:
    """How the pictures were published that a server's policy learnt from, by camera, as far as it
    says so."""
    said = greeting.get("orientations") if isinstance(greeting, Mapping) else None
    ways = said.items() if isinstance(said, Mapping) else ()
    return {str(camera): Orientation(way) for camera, way in ways if way in [*Orientation]}
