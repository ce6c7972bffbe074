"""annotate on plain folders: images as they are, videos through PyAV."""

import errno
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from depthtok.cli.main import app
from depthtok.config import RunOptions
from depthtok.errors import MissingPackage, SourceError, SourceUnavailable, StaleStore
from depthtok.sources.videos import films, other_files
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.filling import create
from depthtok.stores.spec import without_dimensions
from depthtok.stores.verify import verify_store
from depthtok.testing import tree_digest
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig
from pipelines.run import run
from pipelines.videos import VideoStage


def picture(number, height=20, width=24, channels=3):
    ramp = np.mgrid[:height, :width].sum(0)[..., None] * [3, 2, 4, 1][:channels]
    return (ramp + 7 * number).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two good episodes, one of RGBA, one that is broken, one whose frames differ in size."""
    root = tmp_path / "Films of mine"
    for number in range(12):
        save(root / "a" / f"frame{number}.png", picture(number))
    save(root / "deep" / "b" / "0.jpg", picture(0))
    save(root / "c rgba" / "0.png", picture(0, channels=4))
    save(root / "d broken" / "0.png", picture(0))
    (root / "d broken" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    save(root / "e sizes" / "0.png", picture(0))
    save(root / "e sizes" / "1.png", picture(0, height=21))
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("no picture")
    return root


def test_folders_of_images_are_episodes_in_natural_order(folder):
    episodes = films(folder)
    assert [film.name for film in episodes] == ["a", "c rgba", "d broken", "deep/b", "e sizes"]
    assert [path.stem for path in episodes[0].images] == [f"frame{number}" for number in range(12)]


def test_frames_come_back_as_they_were(folder, tmp_path):
    assert run(VideoStage(folder, tmp_path / "ep"), RunOptions()).exit_code == 0
    store = EpisodeStore(tmp_path / "ep")
    assert list(verify_store(tmp_path / "ep")) == []
    episode = store.episode(0)
    assert episode.instruction() == "a"
    assert (episode.action.shape, episode.proprio.shape) == ((12, 0), (12, 0))
    for number in range(12):
        frame = episode.frames("image").read(number, number + 1)[0]
        np.testing.assert_array_equal(frame, picture(number))
    assert store.episode(1).frames("image").read(0, 1).shape == (1, 20, 24, 3)  # alpha is dropped


def test_annotate_takes_a_folder_and_records_what_is_broken(folder, tmp_path):
    arguments = [
        "annotate",
        folder,
        "--out",
        tmp_path / "depth",
        "--estimator",
        "tiny",
        "--input-size",
        "28",
        "--size",
        "16",
    ]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 1, result.output
    store = DepthStore(tmp_path / "depth")
    assert [len(clip) for clip in store.clips()] == [12, 1, 1]
    reasons = [failure.reason for failure in store.failures()]
    assert len(reasons) == 2
    assert "PNG" in reasons[0]
    assert "different sizes" in reasons[1] or "expected uint8" in reasons[1]
    assert all(np.isfinite(clip.read().values).all() for clip in store.clips())


def annotated(folder, out):
    """How long the films are that have depth, and the parts made: of episodes, and of depth."""
    episodes = run(VideoStage(folder, out / "ep"), RunOptions())
    config = AnnotateConfig(estimator="tiny", input_size=28, size=16)
    stage = AnnotateStage(EpisodeStore(out / "ep"), out / "depth", config, "cpu")
    depth = run(stage, RunOptions())
    lengths = [len(clip) for clip in DepthStore(out / "depth").clips()]
    return lengths, (episodes.made, depth.made)


def test_films_that_were_mended_are_made_again_and_no_others(folder, tmp_path):
    (folder / "c rgba" / "0.png").write_bytes(b"no picture")  # not even its size can be read
    assert annotated(folder, tmp_path) == ([12, 1], (5, 5))
    save(folder / "c rgba" / "0.png", picture(0))
    assert annotated(folder, tmp_path) == ([12, 1, 1], (1, 1))
    save(folder / "d broken" / "1.png", picture(1))
    assert annotated(folder, tmp_path) == ([12, 1, 2, 1], (1, 1))
    (folder / "a" / "frame11.png").unlink()
    assert annotated(folder, tmp_path) == ([11, 1, 2, 1], (1, 1))
    assert annotated(folder, tmp_path) == ([11, 1, 2, 1], (0, 0))
    assert list(verify_store(tmp_path / "ep")) == list(verify_store(tmp_path / "depth")) == []
    assert annotated(folder, tmp_path / "anew")[1] == (5, 5)
    for name in ("ep", "depth"):
        anew = tree_digest(tmp_path / "anew" / name / "parts")
        assert tree_digest(tmp_path / name / "parts") == anew


def test_what_is_neither_image_nor_video_is_said_to_be_left_out(folder, tmp_path):
    assert other_files(folder) == (1, "notes.txt")  # beside its films, and a hidden folder
    result = command("annotate", folder, "--out", tmp_path / "depth", *SMALL)
    assert "1 file is left out, being no images or videos (first: notes.txt)" in result.output
    command("annotate", folder, "--out", folder / "depth", *SMALL)
    assert other_files(folder) == (1, "notes.txt"), "stores are none of them"


def test_a_store_keeps_its_set_of_films(folder, tmp_path):
    run(VideoStage(folder, tmp_path / "ep"), RunOptions())
    save(folder / "f" / "0.png", picture(0))
    with pytest.raises(StaleStore, match=r"made from 5 videos .* has 6") as caught:
        run(VideoStage(folder, tmp_path / "ep"), RunOptions())
    assert "separate folder" in caught.value.remedy


def test_a_link_to_a_folder_above_adds_no_films(folder):
    before = films(folder)
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "b" / "here").symlink_to(".")
    assert films(folder) == before


def test_videos_are_decoded(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "films" / "one.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(picture(number, 48, 64), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    (path.parent / "two.mp4").write_bytes(b"no video")
    outcome = run(VideoStage(path.parent, tmp_path / "ep"), RunOptions())
    assert [failure.key.shard for failure in outcome.failures] == [1]
    assert "is not a video" in outcome.failures[0].reason
    store = EpisodeStore(tmp_path / "ep")
    frames = store.episode(0).frames("image").read(0, 5)
    assert frames.shape == (5, 48, 64, 3)
    assert np.abs(frames[2].astype(float) - picture(2, 48, 64)).mean() < 12
    run(VideoStage(path, tmp_path / "alone"), RunOptions())
    assert EpisodeStore(tmp_path / "alone").fps == 10


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="neither images"):
        films(tmp_path / "empty")
    (tmp_path / "one.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage) as caught:
        run(VideoStage(tmp_path, tmp_path / "ep"), RunOptions())
    assert "depthtok[video]" in caught.value.remedy


def write_film(path, frames=12, pix_fmt="yuv420p", codec="mpeg4", container=None):
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as video:
        stream = video.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for number in range(frames):
            if pix_fmt.startswith("gray"):
                depth = np.full((48, 64), 900 + number, np.uint16)
                frame = av.VideoFrame.from_ndarray(depth, format="gray16le")
            else:
                frame = av.VideoFrame.from_ndarray(picture(number, 48, 64), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return path


def command(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


SMALL = ("--estimator", "tiny", "--input-size", 28, "--size", 16, "--device", "cpu")


def test_images_stand_upright_by_their_exif(tmp_path):
    wide = picture(0, 20, 32)
    for number, way in enumerate((6, 6, 6)):
        exif = Image.Exif()
        exif[0x0112] = way
        path = tmp_path / "films" / "phone" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rot90(wide).copy()).save(path, exif=exif)
    run(VideoStage(tmp_path / "films", tmp_path / "ep"), RunOptions())
    store = EpisodeStore(tmp_path / "ep")
    frames = store.episode(0).frames("image").read(0, 3)
    np.testing.assert_array_equal(frames[1], wide)
    camera = store.cameras["image"]
    assert (camera.height, camera.width) == (20, 32)
    assert store.part(store.part_names[0]).meta["turned"] == {"6": 3}


def test_a_film_that_was_cut_fails_and_leaves_no_frame(tmp_path):
    complete = write_film(tmp_path / "films" / "a.mkv")
    cut = tmp_path / "films" / "b.mkv"
    cut.write_bytes(complete.read_bytes()[: complete.stat().st_size * 2 // 3])
    result = command("annotate", tmp_path / "films", "--out", tmp_path / "depth", *SMALL)
    assert result.exit_code == 1
    store = EpisodeStore(tmp_path / "depth.episodes")
    assert [len(episode) for episode in store] == [12]
    assert "b.mkv ends early" in store.failures()[0].reason
    assert (store.path / "parts" / store.part_names[1] / "images.bin").stat().st_size == 0
    assert list(verify_store(store.path)) == []
    said = command("verify", store.path).stdout
    assert "is sound\nnote: 1 failed episode is left out: 1 in annotate" in said
    cut.write_bytes(complete.read_bytes())
    assert (
        command("annotate", tmp_path / "films", "--out", tmp_path / "depth", *SMALL).exit_code == 0
    )
    assert len(list(DepthStore(tmp_path / "depth").clips())) == 2


def test_a_film_of_unstated_length_is_read_and_said(tmp_path):
    write_film(tmp_path / "films" / "live.mkv", container={"live": "1"})
    result = command("annotate", tmp_path / "films", "--out", tmp_path / "depth", *SMALL)
    assert result.exit_code == 0
    assert "1 videos do not state their length" in result.output


def test_a_plan_before_anything_is_made(folder, tmp_path):
    write_film(tmp_path / "films" / "a.mp4", frames=40)
    for source in (tmp_path / "films", folder):
        result = command("annotate", source, "--plan", "--out", tmp_path / "depth", *SMALL)
        assert result.exit_code == 0, result.output
        assert "to write" in result.output
        assert "stop it (Ctrl-C) when it goes on to the depth, and plan again" in result.output
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mp4").write_bytes(b"no video")
    result = command("annotate", tmp_path / "broken", "--plan", "--out", tmp_path / "depth", *SMALL)
    assert "unknown: none of the episodes tried can be read" in result.output
    assert not (tmp_path / "depth.episodes").exists()


def test_a_plan_extrapolates_to_whole_films(tmp_path):
    from pipelines.plan import plan

    for name in ("a.mp4", "b.mp4"):
        write_film(tmp_path / "films" / name, frames=80)
    planned = plan(VideoStage(tmp_path / "films", tmp_path / "ep"), RunOptions())
    outcome = run(VideoStage(tmp_path / "films", tmp_path / "ep"), RunOptions())
    assert planned.units == 2
    assert planned.bytes == pytest.approx(outcome.bytes, rel=0.2)


def test_one_video_by_its_name(tmp_path):
    path = write_film(tmp_path / "films" / "a.mp4")
    result = command("annotate", path, "--out", tmp_path / "depth", *SMALL)
    assert result.exit_code == 0, result.output
    assert [len(clip) for clip in DepthStore(tmp_path / "depth").clips()] == [12]


def lerobot(root, *, stated=True):
    """A LeRobot data set of one camera and one depth map, both with videos a picture decodes."""
    features = {
        "observation.images.top": {"dtype": "video", "info": {"is_depth_map": False}},
        "observation.depth.top": {"dtype": "video", "info": {"video.is_depth_map": True}},
    }
    (root / "meta").mkdir(parents=True)
    info = {"features": features if stated else {}}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    for name in features:
        grey = not stated and "depth" in name
        write_film(
            root / "videos" / name / "chunk-000" / "file-000.mkv",
            pix_fmt="gray16le" if grey else "yuv420p",
            codec="ffv1" if grey else "mpeg4",
        )
    return root


@pytest.mark.parametrize("stated", [True, False])
def test_depth_videos_of_a_lerobot_data_set_are_no_pictures(tmp_path, stated):
    root = lerobot(tmp_path / "set", stated=stated)
    result = command("annotate", root / "videos", "--out", tmp_path / "depth", *SMALL)
    assert result.exit_code == 0, result.output
    assert "1 depth video is left out" in result.output
    store = EpisodeStore(tmp_path / "depth.episodes")
    assert [e.instruction() for e in store] == ["observation.images.top/chunk-000/file-000.mkv"]
    only = root / "videos" / "observation.depth.top"
    with pytest.raises(SourceError, match="has depth videos only"):
        run(VideoStage(only, tmp_path / "alone"), RunOptions())
    below = command(
        "annotate", only / "chunk-000" / "file-000.mkv", "--out", tmp_path / "one", *SMALL
    )
    assert below.exit_code != 0
    assert not (tmp_path / "one").exists()


def test_a_store_of_the_former_version_keeps_its_parts(folder, tmp_path):
    stage = VideoStage(folder, tmp_path / "ep")
    before = without_dimensions(replace(stage.spec, stage_version=2))
    create(tmp_path / "ep", before)
    assert run(VideoStage(folder, tmp_path / "ep"), RunOptions()).made == 5
    assert EpisodeStore(tmp_path / "ep").fingerprint == before.fingerprint
    assert run(VideoStage(folder, tmp_path / "ep"), RunOptions()).made == 0


def test_what_is_no_rlds_is_named(tmp_path):
    root = lerobot(tmp_path / "set")
    result = command("convert", root, "--out", tmp_path / "ep")
    assert "is a LeRobot data set of version None" in str(result.exception)
    (tmp_path / "demo.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    result = command("convert", tmp_path / "demo.hdf5", "--out", tmp_path / "ep")
    assert "demo.hdf5 cannot be read" in str(result.exception)
    result = command("annotate", tmp_path / "demo.hdf5", "--out", tmp_path / "depth")
    assert "demo.hdf5 cannot be read" in str(result.exception)
    film = root / "videos/observation.images.top/chunk-000/file-000.mkv"
    result = command("convert", film, "--out", tmp_path / "ep")
    assert "depthtok annotate" in result.exception.remedy


def pack(folder, out):
    return run(VideoStage(folder, out), RunOptions())


def test_a_picture_of_equal_size_that_changed_is_packed_again(folder, tmp_path):
    first = pack(folder, tmp_path / "out")
    assert pack(folder, tmp_path / "out").made == 0
    changed = sorted((folder / "a").iterdir())[0]
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1
    changed.write_bytes(data)
    outcome = pack(folder, tmp_path / "out")
    assert (outcome.made, outcome.kept) == (1, first.made - 1)
    assert outcome.notes == ["changed since it was packed: a; its part is made anew"]
    os.utime(changed, ns=(5, 5))
    assert pack(folder, tmp_path / "out").made == 0
    assert pack(folder, tmp_path / "fresh").made == first.made
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "fresh")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_picture_that_cannot_be_read_now_has_not_failed(folder, tmp_path, monkeypatch, number):
    failures = {f.key.shard for f in pack(folder, tmp_path / "expected").failures}
    real = Path.read_bytes

    def failing(path):
        if path.name == "frame7.png":
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(SourceUnavailable, match=os.strerror(number)):
        pack(folder, tmp_path / "out")
    monkeypatch.undo()
    assert {f.key.shard for f in pack(folder, tmp_path / "out").failures} == failures
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "expected")
