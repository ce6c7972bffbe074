"""Requests of several clients in one pass: who is answered when, and with whom."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.vla.test_model import observation
from vla.serving.answers import Answers
from vla.serving.running import Running
from vla.serving.wire import pack, unpack

pytest.importorskip("websockets")
from websockets.protocol import State


def test_first_come_first_served_and_as_many_as_fit(micro):
    """Seven wait, one of them has left: passes of up to three, in the order of arrival."""
    passes = []

    def acts(seen, dice):
        passes.append([each.initial_seed() for each in dice])
        assert len(seen) == len(dice)
        return [np.full((4, 7), each.initial_seed(), np.float32) for each in dice]

    policy = SimpleNamespace(
        running=Running(batch=3), acts=acts, observe=lambda _: observation(micro().model, 1)
    )
    clients = [SimpleNamespace(state=State.CLOSED if n == 1 else State.OPEN) for n in range(7)]

    async def ask():
        answers = Answers(policy)
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
    assert [unpack(each)["actions"][0, 0] for each in replies] == [0, 2, 3, 4, 5, 6]
