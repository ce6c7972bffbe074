"""Cuts a small RLDS data set out of a larger one: some episodes, their first steps, smaller JPEGs.

    python -m tools.cut_rlds RLDS_DIR --out DIR --name NAME --episodes 0,3 --steps 70

The README of the sample shipped with depthtok says how it was made.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import simplejpeg

from depthtok.sources.episode import RawEpisode
from depthtok.sources.features import Feature
from depthtok.sources.rlds import RldsDirectory
from depthtok.sources.write import RldsWriter


def cut(raw: RawEpisode, steps: int, quality: int | None) -> dict[str, object]:
    """The first `steps` steps of an episode, ready to be written.

    Images keep their bytes; with `quality`, JPEGs are re-encoded from the accurate decoding. The
    last step kept is marked as the last of the episode.
    """
    count = min(steps, len(raw))
    values = {path: _values(raw, feature, count, quality) for path, feature in raw.features.items()}
    if "steps/is_last" in values:
        values["steps/is_last"] = np.arange(count) == count - 1
    return values


def _values(raw: RawEpisode, feature: Feature, count: int, quality: int | None) -> object:
    if feature.kind == "text":
        text = raw.text(feature.path)
        return text[:count] if feature.per_step else text
    if feature.kind == "image" and feature.per_step:
        return [_image(data, feature, quality) for data in _encoded(raw, feature, count)]
    values = raw.values(feature.path)
    return values[:count] if feature.per_step else values


def _encoded(raw: RawEpisode, feature: Feature, count: int) -> Iterator[bytes]:
    spans = raw.spans(feature.path)
    with raw.shard.open("rb") as shard:
        for offset, length in islice(zip(spans.offset, spans.length, strict=True), count):
            shard.seek(int(offset))
            yield shard.read(int(length))


def _image(data: bytes, feature: Feature, quality: int | None) -> bytes:
    if quality is None or feature.encoding != "jpeg":
        return data
    pixels = simplejpeg.decode_jpeg(data)
    return simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420")


def chosen(rlds: RldsDirectory, split: str, numbers: Sequence[int]) -> list[RawEpisode]:
    """Episodes of a split by number, counted over its shards, in the order of `numbers`."""
    episodes: dict[int, RawEpisode] = {}
    number = 0
    for shard in rlds.splits[split].shards:
        for raw in rlds.records(shard):
            if number in numbers:
                episodes[number] = raw
            number += 1
    return [episodes[number] for number in numbers]


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="cut a small RLDS data set out of a larger one")
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--split", default="train")
    parser.add_argument(
        "--episodes", required=True, help="episode numbers in the desired order, such as 0,3,1"
    )
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--quality", type=int, help="re-encode JPEGs; by default bytes are kept")
    parser.add_argument("--per-shard", type=int, default=2)
    args = parser.parse_args()
    rlds = RldsDirectory.open(args.source)
    numbers = [int(number) for number in args.episodes.split(",")]
    writer = RldsWriter(
        args.out,
        args.name,
        args.version,
        rlds.features,
        f"A cut of {rlds.name}: {rlds.description}",
    )
    episodes = (cut(raw, args.steps, args.quality) for raw in chosen(rlds, args.split, numbers))
    writer.write(args.split, episodes, args.per_shard)
    writer.finish()


if __name__ == "__main__":
    main()
