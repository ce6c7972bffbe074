"""Whether a training may go on: with the settings and the data that it was begun with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from depthtok.config import flat
from depthtok.errors import StaleStore
from depthtok.log import warn
from vla.config import Config
from vla.data.member import Member
from vla.training import checkpoint
from vla.training.checkpoint import TrainingState

SET_LATER = (  # by presets, which runs had begun with before
    "model.depth.target_odds",
    "data.action_norm",
    "data.proprio_norm",
    "data.empty_instructions",
)


def identity(member: Member, size: int, cameras: Sequence[str]) -> list:
    """What a run was started with, of one data set: name, store, weight, samples, and the digests
    of the parts; and its names of the model's `cameras`, where they are others."""
    content: dict[str, object] = {"episodes": member.episodes.content}
    if member.codes is not None:
        content["codes"] = member.codes.content
    if member.cameras != tuple(cameras):
        content["cameras"] = list(member.cameras)
    return [member.name, member.episodes.fingerprint, member.weight, size, content]


def identities(sources: Iterable[tuple[Member, int]], cameras: Sequence[str]) -> list[list]:
    """The same of every data set, each given with how many samples it has."""
    return [identity(member, size, cameras) for member, size in sources]


def as_begun(run: Path, config: Config) -> Config:
    """The settings with which a run goes on: where it was begun before a preset came to state one
    (or since then with what that meant before), it keeps that, and says so. Raises `CorruptPart`
    for damaged settings."""
    if not checkpoint.steps(run):
        return config
    recorded = checkpoint.read_config(checkpoint.find(run))
    then, now, before = (flat(c.to_json()) for c in (recorded, config, Config()))
    for name in SET_LATER:
        if then[name] == before[name] != now[name]:
            warn(f"{run} was begun with {name} = {then[name]}: it goes on so, not with {now[name]}")
            config = config.updated({name: then[name]})
    return config


def require_same_settings(run: Path, begun: Config, now: Config) -> None:
    """Raises `StaleStore`, naming the settings that are others."""
    old, new = (flat(config.to_json()) for config in (begun, now))
    differ = sorted(name for name in old | new if old.get(name) != new.get(name))
    if not differ:
        return
    raise StaleStore(
        f"{run} was started with other settings: {', '.join(differ)}",
        remedy=f"give the same settings ({', '.join(f'{n} = {old.get(n)!r}' for n in differ)}), "
        "or choose another --out",
    )


def tell_of_bits(run: Path, config: Config, device: torch.device) -> None:
    """Says what going on cannot promise on this device."""
    if device.type == "cpu" or (device.type == "cuda" and config.train.deterministic):
        return
    warn(
        f"{run} goes on with the same samples in the same order; on {device.type} the last bits "
        "may differ from those of a run without a stop (train.deterministic at its beginning would "
        "have made them equal)"
    )


def require_same_data(run: Path, begun: TrainingState, now: TrainingState) -> None:
    """Raises `StaleStore` unless a run was started with these very data and this codebook."""
    before = list(begun.data or ())
    current, stored = (
        (state.codebook, [row[:4] for row in state.data or ()]) for state in (now, begun)
    )
    if current != stored:
        raise StaleStore(
            f"{run} was started with other data or another codebook",
            remedy="give the same data, or choose another --out",
        )
    for old, new in zip(before, now.data, strict=True):
        if len(old) == 4:
            parts = f"the parts of {new[0]} were made anew since is not known"
            warn(f"{run} was started by an earlier depthtok: whether {parts}")
        elif old[4].get("cameras") != new[4].get("cameras"):
            raise StaleStore(
                f"{run} was started with other cameras of {new[0]}",
                remedy="give the same mixture, or choose another --out",
            )
        elif old[4] != new[4]:
            which = " and ".join(name for name in new[4] if old[4].get(name) != new[4][name])
            raise StaleStore(
                f"{run} was started with other data: the {which} of {new[0]} were "
                "made anew since, in part or as a whole",
                remedy="choose another --out, or start over with --no-resume",
            )
