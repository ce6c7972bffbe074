"""The LeRobot data set of the tests in a bucket, and what is compared of the stores made of it."""

import json
from pathlib import Path

import numpy as np

import depthtok
from depthtok.remote.location import located
from depthtok.stores.episodes import EpisodeStore
from tests.depthtok.remote.faulty_proxy import Proxy

REAL = Path(__file__).parents[2] / "data/lerobot_v3"
SCHEMA = REAL / "schema.toml"
RGB = "videos/observation.images.image/chunk-000/file-000.mp4"
DEPTH = "videos/observation.depth.image/chunk-000/file-000.mp4"
DATA = "data/chunk-000/file-000.parquet"
BLOCK = int(0.03 * 2**20)  # bytes of a request of the stream, in these tests


def upload(folder: Path, url: str) -> str:
    for path in folder.rglob("*"):
        if path.is_file():
            located(f"{url}/{path.relative_to(folder).as_posix()}").put(path.read_bytes())
    return url


def converted(source: object, out: Path, **settings: object) -> EpisodeStore:
    depthtok.convert(source, out=out, schema=str(SCHEMA), **settings)
    return EpisodeStore(out)


def pictures(store: EpisodeStore) -> list[np.ndarray]:
    clips = [episode.frames("image") for episode in store]
    views = [[c.read(0, len(c)), c.true_depth(0, len(c))] for c in clips]
    return [frames for of_clip in views for frames in of_clip]


def without_etags(store: EpisodeStore) -> list[dict]:
    """The manifests, without what only objects have."""
    manifests = [json.loads(json.dumps(part.manifest)) for part in store.parts()]
    for manifest in manifests:
        del manifest["sha256"]
        for name in ("etags", "sha256"):
            manifest["meta"]["made_from"].pop(name, None)
    return manifests


def require_equal(there: EpisodeStore, here: EpisodeStore) -> None:
    assert without_etags(there) == without_etags(here)
    for one, other in zip(pictures(there), pictures(here), strict=True):
        assert np.array_equal(one, other)


def downloads(proxy: Proxy, name: str) -> int:
    return sum(line.startswith("GET") and name in line for line in proxy.requests)
