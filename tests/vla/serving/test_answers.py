"""Requests of several clients in one pass: who is answered when, and with whom."""

import asyncio

import numpy as np
import pytest
import torch

from tests.vla.model.test_model import observation
from vla.serving.answers import Answers
from vla.serving.policy import Policy
from vla.serving.running import Running
from vla.serving.wire import pack, unpack

pytest.importorskip("websockets")
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State


class FakeConnection(ServerConnection):
    """One of which only the state is known."""

    def __init__(self, state):
        self._state = state

    @property
    def state(self):
        return self._state


def test_first_come_first_served_and_as_many_as_fit(micro):
    """Seven wait, one of them has left: passes of up to three, in the order of arrival."""
    passes = []

    class Recording(Policy):
        def __init__(self):
            self.running = Running(batch=3)

        def acts(self, seen, generators):
            passes.append([generator.initial_seed() for generator in generators])
            assert len(seen) == len(generators)
            return [
                np.full((4, 7), generator.initial_seed(), np.float32) for generator in generators
            ]

        def observe(self, observations):
            return observation(micro().model, 1)

    clients = [FakeConnection(State.CLOSED if n == 1 else State.OPEN) for n in range(7)]

    async def ask():
        answers = Answers(Recording())
        dice = [torch.Generator().manual_seed(n) for n in range(7)]
        message = pack({"prompt": "go"})
        asked = [
            asyncio.create_task(answers.to(client, message, own))
            for client, own in zip(clients, dice, strict=True)
        ]
        await asyncio.sleep(0)  # all of them have asked
        work = asyncio.create_task(answers.work())
        replies = await asyncio.wait_for(asyncio.gather(*asked), 30)
        work.cancel()
        answers.close()
        return replies

    replies = asyncio.run(ask())
    assert passes == [[0, 2], [3, 4, 5], [6]]
    assert replies.pop(1) is None
    assert [unpack(reply)["actions"][0, 0] for reply in replies] == [0, 2, 3, 4, 5, 6]


def test_a_policy_that_answers_too_few_ends_no_server(micro):
    """Who asks next would wait for ever."""

    class Silent(Policy):
        def __init__(self):
            self.running = Running()

        def acts(self, seen, generators):
            return []

        def observe(self, observations):
            return observation(micro().model, 1)

    async def ask(answers):
        client, message = FakeConnection(State.OPEN), pack({"prompt": "go"})
        return await asyncio.wait_for(answers.to(client, message, torch.Generator()), 30)

    async def ask_twice():
        answers = Answers(Silent())
        work = asyncio.create_task(answers.work())
        for _ in range(2):
            with pytest.raises(ValueError, match="shorter"):
                await ask(answers)
        work.cancel()
        answers.close()

    asyncio.run(ask_twice())
