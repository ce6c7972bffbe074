"""The policies that `eval` can play: training runs, and servers of openpi's protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.errors import ConfigError, DepthtokError, MissingPackage
from depthtok.sim.rollout import Player, Rollout

SERVER = ("ws://", "wss://")
API_KEY = "DEPTHTOK_API_KEY"  # environment variable, as of `depthtok serve`
PATIENCE_S = 600.0  # for an answer: the first one may compile


@dataclass(frozen=True)
class PolicySource:
    """Where a policy comes from. Travels to the worker processes, which open it."""

    where: str  # a run, a checkpoint, or ws://HOST:PORT
    dataset: str | None = None  # in whose units it acts
    device: str = "cpu"
    codebook: Path | None = None  # to compare its depth codes with those of the true depth

    @property
    def is_server(self) -> bool:
        return self.where.startswith(SERVER)

    @property
    def runs_on(self) -> dict[str, str]:
        """The device of a policy that is not behind a server."""
        return {} if self.is_server else {"device": self.device}

    def card(self) -> dict[str, Any]:
        """What identifies the policy. Raises `WeightsError`, `ConfigError`."""
        if self.is_server:
            if self.codebook is not None:
                raise ConfigError(
                    "a server does not tell its depth codes", remedy="leave --codebook out"
                )
            with closing(_Server(self.where)) as server:
                return {"policy": self.where, "says": plain(server.greeting)}
        from vla import checkpoint

        place = checkpoint.find(self.where)
        state, config = checkpoint.read_state(place), checkpoint.read_config(place)
        if self.codebook is not None and not config.model.depth.supervised:
            raise ConfigError(
                f"{self.where} was not trained to predict depth codes",
                remedy="leave --codebook out",
            )
        return {
            "policy": str(place), "step": state.step, "weights": checkpoint.weights_sha256(place),
            "dataset": self.dataset, "config": config.to_json(),
            "codebook": state.codebook, "judged_by": self._fingerprint(state.codebook),
        }  # fmt: skip

    def _fingerprint(self, trained: str) -> str:
        """Of the codebook that the depth codes are judged with: that of the training."""
        if self.codebook is None:
            return ""
        from depthtok.codebook import Codebook

        found = Codebook.load(self.codebook).fingerprint
        if found != trained:
            raise ConfigError(
                f"{self.codebook} is not the codebook that {self.where} was trained with",
                remedy="give that one with --codebook, or leave it out",
            )
        return found

    def open(self) -> Player:
        """The policy, ready to act."""
        if self.is_server:
            return _Server(self.where)
        from vla.policy import Policy

        policy = Policy.load(self.where, dataset=self.dataset, device=self.device)
        return policy if self.codebook is None else Seeing(policy, self.codebook, self.device)


def plain(value: Any) -> Any:
    """What a server says of itself as JSON values."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(value)


class _Server:
    """A policy behind a websocket. Its noise is its own: seeds do not reach it."""

    def __init__(self, where: str) -> None:
        try:
            from websockets.exceptions import WebSocketException
            from websockets.sync.client import connect
        except ImportError as error:
            raise MissingPackage(
                "asking a server needs the package `websockets`",
                remedy="pip install msgpack websockets",
            ) from error
        from vla.wire import unpack

        self._where = where
        try:
            key = os.environ.get(API_KEY)
            headers = {"Authorization": f"Api-Key {key}"} if key else None
            opening = connect(where, compression=None, max_size=None, additional_headers=headers)
            self._open = ExitStack()
            self._connection = self._open.enter_context(opening)
            self.greeting = unpack(self._connection.recv(timeout=PATIENCE_S))
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
        """Sends images, state and prompt; returns the chunk of actions."""
        from websockets.exceptions import WebSocketException

        from vla.wire import pack, unpack

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


class Seeing:
    """A policy whose depth codes are noted whenever it is asked, to be judged after the trial."""

    def __init__(self, policy, codebook: Path, device: str) -> None:
        from vqvae.codec import Codec

        self._policy = policy
        self._codec = Codec.load(codebook, device)
        self._seen: list[UInt8[np.ndarray, "h w"]] = []

    def reset(self, seed: int) -> None:
        self._policy.reset(seed)
        self._seen = []

    def act(self, observation: Mapping[str, Any]) -> Float32[np.ndarray, "C A"]:
        import torch

        grid = self._codec.codebook.grid
        with torch.inference_mode():
            logits = self._policy.model.predict_depth(self._policy.observe([observation]))
        codes = logits[0, 0].argmax(dim=-1).reshape(grid)
        self._seen.append(codes.cpu().numpy().astype(np.uint8))
        return self._policy.act(observation)

    def judge(self, rollout: Rollout) -> dict[str, float]:
        """Agreement of the predicted codes with those of the true depth, and the error in
        normalised disparity after decoding both; adds both as panels."""
        from depthtok.data import DepthKind
        from depthtok.report.colour import colourise

        true, seen = self._true_codes(rollout), np.stack(self._seen)
        pictures = [self._codec.decode(codes) for codes in (true, seen)]
        rollout.panels += [list(colourise(p, DepthKind.DISPARITY, 0.0, 1.0)) for p in pictures]
        return {
            "code_agreement": float((true == seen).mean()),
            "disparity_error": float(np.abs(pictures[0] - pictures[1]).mean()),
        }

    def _true_codes(self, rollout: Rollout) -> UInt8[np.ndarray, "T h w"]:
        """The true depth at every plan as codes, with the range of all of them."""
        from depthtok.data import QUANTILES, DepthClip, DepthKind, ImageTransform

        book = self._codec.codebook
        metres = np.stack(rollout.depth_m[:-1])  # of the end no codes were asked
        values = ImageTransform(size=book.size).depth(metres, DepthKind.METRES)
        clip = DepthClip.of(values, DepthKind.METRES).to_disparity()
        quantiles = tuple(np.quantile(clip.values[clip.valid], QUANTILES).tolist())
        return self._codec.encode(clip, book.normalisation.range_of(quantiles))


def judge(player: Player, rollout: Rollout) -> dict[str, float]:
    """What there is to say of a policy's depth codes; nothing where they are not known."""
    return player.judge(rollout) if isinstance(player, Seeing) else {}
