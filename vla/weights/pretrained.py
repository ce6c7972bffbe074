"""Pretrained weights that training may start from, and the tokenizer that belongs to them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from depthtok.disk.regular import require_no_special
from depthtok.errors import ConfigError, StaleStore, WeightsError
from depthtok.meaning import Meaning
from depthtok.remote.snapshots import here
from vla.config import Config, ModelConfig
from vla.data.tokenizer import AUTO, BYTES, FILE, ByteTokenizer, Tokenizer, load, same, unknown
from vla.serving.policy import load_model
from vla.training import checkpoint
from vla.weights import hub
from vla.weights.openpizero import load_open_pi_zero
from vla.weights.paligemma import load_paligemma, with_rows

PATTERNS = ("*.safetensors", "*.json")


def pretrained(name: str, config: ModelConfig, tokens: int | None = None) -> dict[str, Tensor]:
    """The weights to start from: a run or checkpoint of ours (its average if it has one, adapters
    merged), also on the Hub (hf://OWNER/NAME), a checkpoint file of open-pi-zero, a folder with
    PaliGemma, or its name on the Hub (google/paligemma-3b-pt-224), downloaded or from its cache.

    The embedding may have other rows than the model's vocabulary where both have all `tokens` that
    a prompt can have: the rest is padding. Raises `WeightsError` if `name` is none of these, and
    `MissingPackage`.
    """
    path = here(name)
    require_no_special(path)
    if _is_run(path):
        tensors = load_model(checkpoint.find(path)).state_dict()
        return {
            **tensors,
            "embed.weight": with_rows(tensors["embed.weight"], config.vocabulary, tokens),
        }
    if path.is_dir():
        return load_paligemma(path, config, tokens)
    if path.is_file():
        return load_open_pi_zero(path, config, tokens)
    return load_paligemma(hub.snapshot(_hub_name(name), PATTERNS), config, tokens)


def tokenizer_of(name: str) -> Tokenizer | None:
    """The tokenizer of weights, named as for `pretrained`; None where they bring none."""
    path = here(name)
    require_no_special(path)
    if _is_run(path):
        return checkpoint.read_tokenizer(checkpoint.find(path))
    if path.is_dir():
        return load(name) if (path / FILE).is_file() else None
    if path.is_file():
        return None
    folder = hub.snapshot(_hub_name(name), [FILE])
    if not (folder / FILE).is_file():
        return None
    tokenizer = load(str(folder))
    tokenizer.name = name  # means the same on every machine
    return tokenizer


def meanings_of(name: str) -> dict[str, Meaning]:
    """What the numbers of the data sets meant that a run of ours was trained on; {} where that is
    not known, and of other weights."""
    path = here(name)
    return dict(checkpoint.read_state(checkpoint.find(path)).meanings) if _is_run(path) else {}


def _is_run(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "checkpoints").is_dir()


def _hub_name(name: str) -> str:
    if not hub.is_name(name):
        raise WeightsError(
            f"there are no weights at {name}",
            remedy="name a run, a PaliGemma folder, a checkpoint of open-pi-zero, or "
            "google/paligemma-3b-pt-224",
        )
    return name


def resolved(config: Config, weights: str | None, run: Path | None = None) -> Config:
    """The settings with a tokenizer of name: that of the weights, or bytes where there are none
    and the vocabulary is that of bytes; for a `run` that goes on, the one it was begun with.

    Raises `ConfigError` for another tokenizer than that of the weights, or where none is known.
    """
    named, vocabulary = config.data.tokenizer, config.model.vocabulary
    if run is not None and (checkpoints := checkpoint.steps(run)):
        name = checkpoint.read_config(checkpoints[-1]).data.tokenizer
        return config.updated({"data.tokenizer": name}) if named == AUTO else config
    tokenizer = tokenizer_of(weights) if weights else None
    if tokenizer is None:
        foreign = weights and named == BYTES and vocabulary != ByteTokenizer.size
        if foreign or (named == AUTO and vocabulary != ByteTokenizer.size):
            raise unknown(vocabulary, weights)
        return config.updated({"data.tokenizer": BYTES}) if named == AUTO else config
    if named != AUTO and not same(tokenizer, load(named)):
        raise ConfigError(
            f"{weights} was trained with the tokenizer {tokenizer.name}, data.tokenizer is "
            f"{named!r}",
            remedy="leave data.tokenizer out: it comes from the weights",
        )
    return config.updated({"data.tokenizer": tokenizer.name}) if named == AUTO else config


def reader(config: Config, run: Path | None = None) -> Tokenizer:
    """The tokenizer of a training; for a `run` that goes on, the one in its newest checkpoint.

    Raises `StaleStore` where the settings' file has become another one since the run was begun.
    """
    name, checkpoints = config.data.tokenizer, checkpoint.steps(run) if run is not None else []
    if not checkpoints:
        return load(name, config.model.vocabulary)
    stored = checkpoint.read_tokenizer(checkpoints[-1])
    if name != BYTES and Path(name).exists() and not same(stored, load(name)):
        raise StaleStore(
            f"{name} is not the tokenizer that {run} was begun with",
            remedy="put the old one back (a checkpoint has a copy), or choose another --out",
        )
    return stored
