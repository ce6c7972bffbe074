"""Small LeRobot data sets for tests: v2.1 and v3.0, videos or pictures in the parquet."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

RATE, SIZE = 10, (48, 64)
SCHEMA = """
datasets = ["set"]
status = "verified"
fps = 10.0
instruction = "task"
gripper = "none"

[[camera]]
name = "top"
key = "observation.images.top"
orientation = "identity"

[[action]]
from = "action"
dims = ["joint_0", "joint_1"]

[[proprio]]
from = "observation.state"
dims = ["joint_0", "joint_1"]
"""


def picture(episode: int, step: int) -> np.ndarray:
    frame = np.full((*SIZE, 3), 30 + 20 * episode, np.uint8)
    frame[8:24, 2 * step : 2 * step + 10] = (230, 60 + 10 * step, 40)
    return frame


def write_video(path: Path, frames: list[np.ndarray], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"g": "5", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        out.mux(stream.encode())


def png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "png")
    return buffer.getvalue()


def columns(episode: int, steps: int, first: int) -> dict[str, list]:
    rows = np.arange(steps)
    motion = np.stack([rows * 0.1 + episode, rows * 0.2], axis=1).astype(np.float32)
    return {
        "action": motion.tolist(),
        "observation.state": (motion - 1).tolist(),
        "timestamp": (rows / RATE).astype(np.float32).tolist(),
        "frame_index": rows.tolist(),
        "episode_index": [episode] * steps,
        "index": (first + rows).tolist(),
        "task_index": [episode % 2] * steps,
    }


TYPES = {
    "action": pa.list_(pa.float32(), 2),
    "observation.state": pa.list_(pa.float32(), 2),
    "timestamp": pa.float32(),
    "observation.images.top": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
}


def write_table(path: Path, table: dict[str, list], row_group: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: pa.array(v, TYPES.get(name)) for name, v in table.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=row_group)


def info(version: str, kind: str, episodes: int, **more: object) -> dict:
    vector = {"dtype": "float32", "shape": [2], "names": ["shoulder", "elbow"]}
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    features: dict = {
        "action": vector,
        "observation.state": vector,
        "observation.images.top": {
            "dtype": kind,
            "shape": [*SIZE, 3],
            "names": ["height", "width", "channels"],
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    features |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar)
    v3 = version == "v3.0"
    return {
        "codebase_version": version,
        "fps": RATE,
        "features": features,
        "total_episodes": episodes,
        "chunks_size": 1000,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if v3
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if v3
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        **more,
    }


def write_v2(root: Path, lengths: list[int]) -> Path:
    """LeRobot v2.1 with videos: a file each for every episode."""
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v2.1", "video", len(lengths))))
    tasks = [{"task_index": k, "task": f"do {k}"} for k in (0, 1)]
    (root / "meta/tasks.jsonl").write_text("".join(json.dumps(t) + "\n" for t in tasks))
    rows = [{"episode_index": k, "tasks": [], "length": n} for k, n in enumerate(lengths)]
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for k, steps in enumerate(lengths):
        write_table(root / f"data/chunk-000/episode_{k:06d}.parquet", columns(k, steps, 0))
        frames = [picture(k, step) for step in range(steps)]
        write_video(root / f"videos/chunk-000/observation.images.top/episode_{k:06d}.mp4", frames)
    return root


def write_v3(root: Path, lengths: list[int], kind: str = "video", a_file: int = 2) -> Path:
    """LeRobot v3.0: `a_file` episodes a data file; all frames of videos in one file."""
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info("v3.0", kind, len(lengths))))
    tasks = {"task_index": [0, 1], "task": ["do 0", "do 1"]}
    write_table(root / "meta/tasks.parquet", tasks)
    listing: dict[str, list] = {}
    tables: dict[int, dict[str, list]] = {}
    frames: list[np.ndarray] = []
    for k, steps in enumerate(lengths):
        of_episode = [picture(k, step) for step in range(steps)]
        table = columns(k, steps, len(frames))
        row = {"episode_index": k, "length": steps, "tasks": [f"do {k % 2}"]}
        row |= {"data/chunk_index": 0, "data/file_index": k // a_file}
        if kind == "image":
            table["observation.images.top"] = [{"bytes": png(f), "path": None} for f in of_episode]
        else:
            key = "videos/observation.images.top"
            row |= {f"{key}/chunk_index": 0, f"{key}/file_index": 0}
            row[f"{key}/from_timestamp"] = len(frames) / RATE
        frames += of_episode
        for name, value in row.items():
            listing.setdefault(name, []).append(value)
        for name, values in table.items():
            tables.setdefault(k // a_file, {}).setdefault(name, []).extend(values)
    write_table(root / "meta/episodes/chunk-000/file-000.parquet", listing)
    for number, table in tables.items():
        write_table(root / f"data/chunk-000/file-{number:03d}.parquet", table, row_group=7)
    if kind == "video":
        write_video(root / "videos/observation.images.top/chunk-000/file-000.mp4", frames)
    return root
