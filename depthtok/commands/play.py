"""The policies that `eval` can play: training runs, and servers of openpi's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from depthtok.errors import ConfigError, MissingPackage
from depthtok.files import file_sha256
from depthtok.sim.rollout import Player, Rollout

SERVER = ("ws://", "wss://")
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

    def card(self) -> dict[str, Any]:
        """What identifies the policy. Raises `WeightsError`, `ConfigError`."""
        if self.is_server:
            if self.codebook is not None:
                raise ConfigError(
                    "a server does not tell its depth codes", remedy="leave --codebook out"
                )
            return {"policy": self.where, "says": plain(_Server(self.where).greeting)}
        from vla import checkpoint

        place = checkpoint.find(self.where)
        state = checkpoint.read_state(place)
        weights = {path.name: file_sha256(path) for path in sorted(place.glob("*.safetensors"))
                   if path.stem in ("model", "average")}  # fmt: skip
        return {
            "policy": str(place), "step": state.step, "weights": weights, "dataset": self.dataset,
            "config": checkpoint.read_config(place).to_json(),
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
            self._connection = connect(where, compression=None, max_size=None)
            self.greeting = unpack(self._connection.recv(timeout=PATIENCE_S))
        except (OSError, TimeoutError, WebSocketException) as error:
            raise ConfigError(
                f"no policy server answers at {where}: {error}",
                remedy="start one (depthtok serve RUN --port 8000), or give a run's directory",
            ) from error

    def reset(self, seed: int) -> None:
        """Nothing: the protocol has no word for it."""

    def act(self, observation: Mapping[str, Any]) -> Float32[np.ndarray, "C A"]:
        """Sends pictures, state and prompt; returns the chunk of actions."""
        from vla.wire import pack, unpack

        images = {f"observation/{name}": image for name, image in observation["images"].items()}
        state = {"observation/state": observation["proprio"], "prompt": observation["instruction"]}
        self._connection.send(pack({**images, **state}))
        answer = self._connection.recv(timeout=PATIENCE_S)
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
        """The true depth of the trial as codes, with the range of the whole trial."""
        from depthtok.data import QUANTILES, DepthClip, DepthKind, ImageTransform

        book = self._codec.codebook
        metres = np.stack(rollout.depth_m)
        values = ImageTransform(size=book.size).depth(metres, DepthKind.METRES)
        clip = DepthClip.of(values, DepthKind.METRES).to_disparity()
        quantiles = tuple(np.quantile(clip.values[clip.valid], QUANTILES).tolist())
        return self._codec.encode(clip, book.normalisation.range_of(quantiles))


def judge(player: Player, rollout: Rollout) -> dict[str, float]:
    """What there is to say of a policy's depth codes; nothing where they are not known."""
    return player.judge(rollout) if isinstance(player, Seeing) else {}
