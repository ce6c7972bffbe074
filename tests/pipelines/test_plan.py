"""--plan: whatever the run handles can be planned, and the figures are of the job."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from depthtok.config import RunOptions
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.frame_files import PACKED
from depthtok.testing import make_rlds
from pipelines import probe as probing
from pipelines.annotate import stage as annotate
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, TokenizeConfig
from pipelines.decode import DecodeStage
from pipelines.plan import Plan, plan
from pipelines.rates import RATES, rate_of
from pipelines.run import run
from pipelines.stage import Probe
from pipelines.videos import VideoStage

NAMES = ["convert", "annotate", "tokenize"]
ONE_PART = "  one part: one job makes all of it; more would find nothing to do"


def spoiled(rlds, shard: int, *, records: int = 1):
    """Breaks the last byte of the payloads of a shard's first records."""
    path = next(rlds.glob(f"*.tfrecord-{shard:05d}-*"))
    data, offset = bytearray(path.read_bytes()), 0
    for _ in range(records):
        end = offset + 12 + int.from_bytes(data[offset : offset + 8], "little")
        data[end - 1] ^= 1
        offset = end + 4
    path.write_bytes(data)
    return rlds


def test_parts_without_episodes_are_passed_over(tmp_path, over):
    path = over(spoiled(make_rlds(tmp_path / "rlds"), 0, records=2))
    for name in NAMES:
        planned = plan(path.stage(name), RunOptions())
        path.run(name)
        assert planned.parts == 3
        assert planned.units == (6 if name == "convert" else 4 * 5 * 2)
        assert planned.seconds > 0
        assert planned.bytes > 0


def test_parts_whose_files_are_not_there_are_neither_done_nor_to_make(tmp_path, over):
    path = over(make_rlds(tmp_path / "rlds"))
    shard = next(path.rlds.glob("*.tfrecord-00001-*"))
    away = shard.rename(tmp_path / "away")
    words = f"  1 part cannot be made now (first: {shard} is not there)"
    planned = plan(path.stage("convert"), RunOptions())
    assert (planned.parts, planned.parts_there, planned.units) == (2, 0, 4)
    assert words in planned.lines()
    share = plan(path.stage("convert"), RunOptions(shard="2/3"))
    assert (share.parts, share.parts_absent, words in share.lines()) == (0, 1, True)
    assert not any("none is left for this one" in line for line in share.lines())
    path.run("convert")
    planned = plan(path.stage("convert"), RunOptions())
    assert (planned.parts, planned.parts_there, words in planned.lines()) == (0, 2, True)
    away.rename(shard)
    planned = plan(path.stage("convert"), RunOptions())
    assert (planned.parts, planned.parts_there, planned.notes) == (1, 2, ())


def test_bad_records_are_passed_over(tmp_path, over):
    path = over(spoiled(make_rlds(tmp_path / "rlds", shards=1), 0))
    planned = plan(path.stage("convert"), RunOptions())
    assert (planned.episodes, planned.seconds > 0) == (6, True)


def test_episodes_that_fail_are_passed_over(tmp_path, over):
    def edit(number, values):
        depth = values["steps/observation/depth"]
        if number == 0:  # not to be decoded
            values["steps/observation/depth"] = [b"no picture"] * len(depth)
        if number == 1:  # nothing to tokenize
            values["steps/observation/depth"] = np.zeros_like(depth)

    path = over(make_rlds(tmp_path / "rlds", shards=1, edit=edit))
    for name in NAMES:
        assert plan(path.stage(name), RunOptions()).seconds > 0
        path.run(name)


def test_where_nothing_can_be_read_no_figures_are_told(tmp_path, over):
    def edit(number, values):
        broken = [b"no picture"] * len(values["steps/observation/depth"])
        values["steps/observation/depth"] = broken

    path = over(make_rlds(tmp_path / "rlds", edit=edit))
    path.run("convert")
    stage = path.stage("annotate")
    planned = plan(stage, RunOptions())
    assert (planned.episodes, planned.seconds, planned.bytes) == (6, None, None)
    assert "unknown" in planned.lines()[-1]
    run(stage, RunOptions())
    planned = plan(path.stage("tokenize"), RunOptions())  # no part has an episode
    assert (planned.units, planned.seconds, planned.bytes) == (0, 0.0, 0.0)


def test_what_is_loaded_once_is_not_scaled_up(whole, tmp_path, monkeypatch):
    clock, loaded = [0.0], set()

    def slow_at_first(values):
        clock[0] += 0.001 if loaded else 5.0
        loaded.add(True)
        return 100

    monkeypatch.setattr(annotate, "packed_bytes", slow_at_first)
    monkeypatch.setattr(probing.time, "monotonic", lambda: clock[0])
    stage = whole.stage("annotate", tmp_path / "out")
    assert isinstance(stage, AnnotateStage)
    assert plan(stage, RunOptions()).seconds == pytest.approx(60 / 5 * 0.001)


def test_decoding_is_planned_too(whole, book, tmp_path):
    stage = DecodeStage(CodeStore(whole.root / "tokenize"), Codebook.load(book), tmp_path, "cpu")
    planned = plan(stage, RunOptions())
    assert (planned.stage, planned.units, planned.parts) == ("decode", 60, 3)
    assert planned.seconds > 0
    run(stage, RunOptions())
    bytes_written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert bytes_written / 2 < planned.bytes < bytes_written * 2


def test_decoding_is_planned_where_the_first_episode_lacks_a_camera(tmp_path, over):
    def edit(number, values):
        if number == 0:
            dark = values["steps/observation/image"]
            values["steps/observation/image"] = np.zeros_like(dark)

    path = over(make_rlds(tmp_path / "rlds", shards=1, episodes=2, edit=edit))
    path.run_all()
    codes = CodeStore(path.root / "tokenize")
    assert codes.absent_counts() == {codes.cameras[0]: 1}
    planned = plan(
        DecodeStage(codes, Codebook.load(path.book), tmp_path / "d", "cpu"), RunOptions()
    )
    assert (planned.units, planned.seconds > 0) == (2 * 5 * 2, True)


def test_packing_pictures_is_planned_too(tmp_path):
    for name, count in (("a", 3), ("b", 3)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(count):
            picture = Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8))
            picture.save(tmp_path / "in" / name / f"{number}.png")
    (tmp_path / "in" / "a" / "0.png").write_bytes(b"")  # is packed as it is
    planned = plan(VideoStage(tmp_path / "in", tmp_path / "out"), RunOptions())
    size = sum(path.stat().st_size for path in (tmp_path / "in" / "a").iterdir())
    assert (planned.unit, planned.units, planned.parts) == ("episodes", 2, 2)
    assert planned.bytes == 2 * size
    assert not (tmp_path / "out").exists()


def test_a_long_video_is_planned_from_its_first_frames(tmp_path):
    av = pytest.importorskip("av")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.mp4").write_bytes(b"no video")
    with av.open(str(tmp_path / "in" / "1.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(128):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")
            video.mux(stream.encode(picture))
        video.mux(stream.encode())
    stage = VideoStage(tmp_path / "in", tmp_path / "out")
    planned = plan(stage, RunOptions())
    run(stage, RunOptions())
    bytes_written = sum(path.stat().st_size for path in (tmp_path / "out").rglob(PACKED))
    assert planned.bytes == pytest.approx(2 * bytes_written, rel=0.1)  # one of two is broken


@pytest.mark.parametrize(
    ("workers", "wall"), [(0, None), (1, None), (2, "15 s on 2"), (64, "10 s on 3")]
)
def test_no_more_workers_than_parts_share_the_time(workers, wall):
    planned = Plan("annotate", "out", 3, 0, 9, "frames", 90, "cpu", workers, 30.0, 1.0, 10)
    (line,) = (line for line in planned.lines() if "worker" in line)
    assert line == "  about 30 s on one cpu worker" + (f", {wall}" if wall else "")


def test_a_plan_says_how_many_jobs_have_something_to_do():
    planned = Plan("annotate", "out", 3, 1, 9, "frames", 90, "cpu", 0, 30.0, 1.0, 10)
    said = "  shared by 4 jobs at most (--shard 1/4): a part is one job's"
    assert said in planned.lines()
    alone = replace(planned, parts=1, parts_there=0, episodes=1)
    assert alone.lines()[:2] == [
        "annotate -> out: 1 part to make, 0 done",
        "  1 episode, 90 frames",
    ]
    assert alone.lines()[2] == ONE_PART
    assert "jobs" not in "".join(alone.lines() + replace(planned, sharded=True).lines())
    assert ONE_PART not in replace(alone, parts=0, parts_there=1).lines()


@pytest.mark.parametrize(
    ("shards", "job", "parts", "said"),
    [
        (1, "1/3", 1, ONE_PART),
        (1, "2/3", 0, ONE_PART),
        (3, "2/3", 1, None),
        (3, "4/4", 0, "  3 parts, shared by 3 jobs at most: none is left for this one"),
    ],
)
def test_a_job_without_a_part_is_told_why(tmp_path, over, shards, job, parts, said):
    path = over(make_rlds(tmp_path / "rlds", shards=shards, episodes=3))
    planned = plan(path.stage("convert"), RunOptions(shard=job))
    assert planned.parts == parts
    assert [line for line in planned.lines() if "jobs" in line or "one job" in line] == (
        [said] if said else []
    )


def test_episodes_are_counted_once():
    planned = Plan("convert", "out", 3, 0, 9, "episodes", 9, "cpu", 0, 30.0, 1.0, 10)
    assert planned.lines()[1] == "  9 episodes"


def test_a_plan_without_a_gpu_says_what_one_would_take(whole, tmp_path):
    planned = plan(whole.stage("tokenize", tmp_path / "out"), RunOptions())
    assert planned.units == 60
    assert (planned.gpu_rate.card, planned.gpu_rate.figure) == ("NVIDIA H200", 1_900)
    big = replace(planned, units=70_000_000)
    (line,) = (line for line in big.lines() if "H200" in line)
    assert line == (
        "  about 10 h 14 min on one NVIDIA H200: 1,900 frames/s "
        "(measured at commit f9ab42b, python benchmarks/vq_rate.py)"
    )
    assert "  of another GPU divide by its own rate: make bench-gpu" in big.lines()
    assert not any("H200" in line for line in replace(big, gpu_rate=None).lines())


@pytest.mark.unchecked  # what it gives stands for a stage
@pytest.mark.parametrize(
    ("settings", "figure", "origin"),
    [
        ({"estimator": "vits"}, 578, "measured at commit f9ab42b"),
        ({"estimator": "vitl", "input_size": 518}, 158, "measured at commit c517193"),
        ({"estimator": "vitb"}, 320, "predicted"),
        ({"estimator": "vits", "input_size": 280}, None, None),
        ({"estimator": "vits", "precision": "float16"}, 578, "measured at commit f9ab42b"),
        ({"estimator": "vits", "precision": "float32"}, None, None),
        ({"estimator": "tiny"}, None, None),
        ({"estimator": "dataset"}, None, None),
    ],
)
def test_a_rate_is_of_the_same_network_at_the_same_size(settings, figure, origin):
    config = AnnotateConfig(**settings)
    stage = SimpleNamespace(spec=SimpleNamespace(stage="annotate", what={}), config=config)
    fused = SimpleNamespace(spec=stage.spec, config=TokenizeConfig(), annotate=stage)
    for rate in (rate_of(stage), rate_of(fused)):
        assert (rate and rate.figure, rate and rate.origin) == (figure, origin)


def test_a_plan_for_a_gpu_measures_it(whole, tmp_path, monkeypatch):
    stage = replace(whole.stage("tokenize", tmp_path / "out"), device="cuda")
    monkeypatch.setattr(type(stage), "probe", lambda self, parts: Probe(1, 0.5, 2.0))
    assert plan(stage, RunOptions()).gpu_rate is None


def test_every_rate_names_a_script_that_is_there():
    for rate in RATES:
        assert (Path(__file__).parents[2] / rate.command.split()[1]).is_file()
