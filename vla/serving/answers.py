"""The answers of a served policy: requests in the order of their arrival, pass by pass.

Requests that wait at the same moment share a pass, up to the policy's `batch`; nobody waits for
others to come. What is wrong with one request is told to its sender and touches no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from depthtok.errors import ConfigError
from vla.model.batch import Observation
from vla.serving.policy import Policy
from vla.serving.wire import pack, unpack

IMAGE_LIMIT = 4096  # px, longest side
PROMPT_LIMIT = 2000  # characters
HANDS = 4  # threads that read requests
STATE, PROMPT = "observation/state", "prompt"


@dataclass(frozen=True)
class Request:
    """A client's message, and the reply that it waits for."""

    client: Any
    message: bytes | str
    noise: torch.Generator
    reply: asyncio.Future


class Answers:
    """Answers the requests of all clients with one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._worker = ThreadPoolExecutor(1, "policy")
        self._hands = ThreadPoolExecutor(min(policy.running.batch, HANDS), "reader")
        self._asked: asyncio.Queue[Request] = asyncio.Queue()  # first come, first served

    def close(self) -> None:
        """Ends the threads; what still waits is not answered."""
        for threads in (self._worker, self._hands):
            threads.shutdown(cancel_futures=True)

    async def to(self, client: Any, message: bytes | str, noise: torch.Generator) -> bytes | None:
        """The reply to a request; None if nobody waits for it any more."""
        request = Request(client, message, noise, asyncio.get_running_loop().create_future())
        self._asked.put_nowait(request)
        return await request.reply

    async def work(self) -> None:
        """Answers what is asked, pass by pass."""
        while True:
            requests = [await self._asked.get()]
            while len(requests) < self._policy.running.batch and not self._asked.empty():
                requests.append(self._asked.get_nowait())
            loop = asyncio.get_running_loop()
            try:
                replies = await loop.run_in_executor(self._worker, self._answer, requests)
            except Exception as error:  # or nobody would be answered any more
                replies = [error] * len(requests)
            for request, reply in zip(requests, replies, strict=True):
                if request.reply.done():  # nobody waits for it any more
                    continue
                if isinstance(reply, BaseException):
                    request.reply.set_exception(reply)
                else:
                    request.reply.set_result(reply)

    def _answer(self, requests: Sequence[Request]) -> list[bytes | Exception | None]:
        """The replies to requests in one pass; None if nobody waits for it any more, or what is
        wrong with it."""
        start_s = time.perf_counter()
        results = list(
            map(self._read, requests)
            if len(requests) == 1
            else self._hands.map(self._read, requests)
        )
        sound = {n: result for n, result in enumerate(results) if isinstance(result, Observation)}
        replies: list[bytes | Exception | None] = [
            None if isinstance(result, Observation) else result for result in results
        ]
        if not sound:
            return replies
        try:
            chunks = self._policy.acts([*sound.values()], [requests[n].noise for n in sound])
        except Exception as error:  # each of them gets it, as if it had been alone
            for n in sound:
                replies[n] = error
            return replies
        milliseconds = 1000 * (time.perf_counter() - start_s)
        for n, actions in zip(sound, chunks, strict=True):
            replies[n] = _reply(actions, milliseconds)
        return replies

    def _read(self, request: Request) -> Observation | Exception | None:
        """What a request shows, ready for the model; None if nobody waits any more."""
        from vla.serving.clients import is_open

        if not is_open(request.client):
            return None
        try:
            return self._policy.observe([observation(request.message)])
        except Exception as error:
            return error


def _reply(actions: np.ndarray, milliseconds: float) -> bytes | ConfigError:
    if not np.isfinite(actions).all():
        return ConfigError(
            f"{STATE} leads to actions that are not finite",
            remedy="give values in the range and unit of the data set",
        )
    return pack({"actions": actions, "server_timing": {"infer_ms": milliseconds}})


def observation(message: bytes | str) -> dict[str, Any]:
    """A request as input of `Policy.act`. Raises a `ConfigError` that names the bad field."""
    if isinstance(message, str):
        raise ConfigError("a text message", remedy="send binary msgpack, as openpi-client does")
    fields = unpack(message)
    if not isinstance(fields, dict):
        raise ConfigError("the message is not a map", remedy="send a map of observation fields")
    images = {
        name.removeprefix("observation/"): value
        for name, value in fields.items()
        if isinstance(name, str) and name.startswith("observation/") and name != STATE
    }
    for name, image in images.items():
        if isinstance(image, np.ndarray) and max(image.shape, default=0) > IMAGE_LIMIT:
            raise ConfigError(
                f"observation/{name} is {image.shape}", remedy=f"send at most {IMAGE_LIMIT} px"
            )
    prompt = fields.get(PROMPT)
    if isinstance(prompt, str) and len(prompt) > PROMPT_LIMIT:
        raise ConfigError(
            f"{PROMPT} has {len(prompt)} characters", remedy=f"send at most {PROMPT_LIMIT}"
        )
    result: dict[str, Any] = {"images": images}
    for wire_name, field in ((STATE, "proprio"), (PROMPT, "instruction")):
        if wire_name in fields:
            result[field] = fields[wire_name]
    return result
