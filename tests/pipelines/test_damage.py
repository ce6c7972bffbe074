"""Whatever happens to the files of a store: nobody reads wrong data, and it can be mended."""

import shutil

import numpy as np
import pytest

from depthtok.config import RunOptions
from depthtok.disk.temporaries import temporary_sibling
from depthtok.errors import DepthtokError, OutputError, StoreError
from depthtok.stores.depth import DepthStore
from depthtok.stores.lineage import open_store
from depthtok.stores.spec import ROOT, is_store, read_spec
from depthtok.stores.store import Store
from depthtok.stores.verify import repair, verify_store
from depthtok.testing import Damage, damages, tree_digest
from pipelines.convert.stage import ConvertStage
from pipelines.run import run

STAGES = ["convert", "annotate", "tokenize"]


def contents(path) -> list:
    """Everything that a reader can get out of a store, through its public doors."""
    store = open_store(path)
    values: list = [store.spec.attributes(), store.missing(), store.failures()]
    for part in store.parts():
        values += [part.episodes, part.meta]
        if isinstance(store, DepthStore):
            values += [clip.read().values.tobytes() for clip in store.clips_of(part, store.cameras)]
        names = {
            name.split("/zarr.json")[0] for name in part.manifest["files"] if "/c/" not in name
        }
        for name in sorted(names - {ROOT, "depth", "codes", "images.bin", "instructions.json"}):
            values.append(part.read(name).tobytes())
    if hasattr(store, "statistics"):
        values.append(store.statistics())
        for episode in store:
            values.append([episode.instruction(t) for t in range(len(episode))])
            values += [episode.frames(camera).read(0, 5).tobytes() for camera in store.cameras]
    return values


def mended(stage, findings) -> None:
    """What the remedies tell a person to do."""
    if findings is None:
        (stage.out / ROOT).unlink(missing_ok=True)
        run(stage, RunOptions())
        findings = list(verify_store(stage.out))
    repair(stage.out, findings)
    run(stage, RunOptions())


def read(path):
    """What a store holds, or why that is not told."""
    try:
        return contents(path), None
    except DepthtokError as error:
        return None, error


def survives(stage, whole, damage) -> None:
    """Applies one damage to a copy of a store, and checks that it is noticed and mended."""
    shutil.copytree(whole, stage.out)
    damage.apply(stage.out)
    content, error = read(stage.out)
    assert error is None or error.remedy
    assert error or content == contents(whole), f"{damage} was read as data"
    try:
        findings = list(verify_store(stage.out))
    except DepthtokError:
        findings = None
    assert findings != [], f"{damage} was not noticed"
    try:
        mended(stage, findings)
    except DepthtokError:  # the root was spoiled beside a part
        mended(stage, list(verify_store(stage.out)))
    assert tree_digest(stage.out) == tree_digest(whole), damage
    assert list(verify_store(stage.out)) == []
    shutil.rmtree(stage.out)


@pytest.mark.parametrize("name", STAGES)
def test_random_damage(whole, tmp_path, name):
    stage = whole.stage(name, tmp_path / "out")
    for damage in damages(whole.root / name, seed=STAGES.index(name), count=8):
        survives(stage, whole.root / name, damage)


@pytest.mark.parametrize("name", STAGES)
def test_damage_to_each_kind_of_file(whole, tmp_path, name):
    """One flip in each file of the first part, and of what lies beside the parts."""
    stage, root = whole.stage(name, tmp_path / "out"), whole.root / name
    first = Store(root).part_names[0]
    for number, file in enumerate(tree_digest(root)):
        twin = "wrist_image" in file or "proprio" in file
        if not file.startswith("parts/train") or (first in file and not twin):
            survives(stage, root, Damage("flip", file, position=number * 0.37 % 1))


def test_packed_images_are_guarded_too(whole, tmp_path):
    settings = {"copy_images": True}
    run(whole.stage("convert", tmp_path / "whole", **settings), RunOptions())
    stage = whole.stage("convert", tmp_path / "out", **settings)
    packed = [name for name in tree_digest(tmp_path / "whole") if name.endswith("images.bin")]
    for kind in ("flip", "cut", "delete", "swap"):
        survives(stage, tmp_path / "whole", Damage(kind, packed[0], packed[1], 0.5))


@pytest.mark.parametrize("name", STAGES)
def test_parts_that_are_swapped_renamed_lost_or_foreign(whole, tmp_path, name):
    stage, root = whole.stage(name, tmp_path / "out"), whole.root / name
    one, two, three = Store(root).part_names
    parts = tmp_path / "out" / "parts"
    shutil.copytree(root, tmp_path / "out")
    (parts / one).rename(parts / "x")
    (parts / two).rename(parts / one)
    shutil.rmtree(parts / three)
    problems = [finding.problem for finding in verify_store(tmp_path / "out")]
    assert any("holds part" in problem for problem in problems)
    assert any(f"lacks part {two.split('.')[0]}" in problem for problem in problems)
    assert any("x does not belong there" in problem for problem in problems)
    with pytest.raises(DepthtokError):
        contents(tmp_path / "out")
    repair(tmp_path / "out", list(verify_store(tmp_path / "out")))
    shutil.rmtree(parts / "x")
    run(stage, RunOptions())
    assert tree_digest(tmp_path / "out") == tree_digest(root)


def test_a_part_of_another_store_is_refused(whole, tmp_path):
    shutil.copytree(whole.root / "convert", tmp_path / "out")
    other = whole.stage("convert", tmp_path / "other", copy_images=True)
    run(other, RunOptions())
    name = Store(tmp_path / "out").part_names[0]
    shutil.rmtree(tmp_path / "out" / "parts" / name)
    shutil.copytree(tmp_path / "other" / "parts" / name, tmp_path / "out" / "parts" / name)
    with pytest.raises(DepthtokError, match="of another store"):
        contents(tmp_path / "out")
    findings = list(verify_store(tmp_path / "out"))
    assert [finding.part for finding in findings if "is of another store" in finding.problem] == [
        name
    ]


def test_counts_against_the_source(whole, tmp_path, over):
    """An episode that was lost without a word is named, though all digests are right."""
    from depthtok.stores.filling import write_part

    path = over(whole.rlds)
    path.run_all()
    store = Store(path.root / "tokenize")
    part = store.part(store.part_names[0])
    stage = path.stage("tokenize")
    work = stage.work()[0]

    def fill(writer):
        for name in ("codes/image", "codes/wrist_image"):
            writer.append(name, part.map(name)[:5])
        writer.end(int(part.indices[0]), 5, range=part.map("range")[0])

    write_part(
        store.path,
        stage.spec,
        work.name,
        work.shard,
        stage.arrays(),
        fill,
        upstream=work.upstream,
        replace=True,
    )
    problems = [finding.problem for finding in verify_store(store.path)]
    assert len(problems) == 1
    assert "are nowhere" in problems[0]


def test_a_data_set_that_is_another_now(whole, tmp_path):
    from depthtok.sources.rlds import RldsDirectory
    from depthtok.testing import make_rlds
    from pipelines.config import ConvertConfig

    rlds = make_rlds(tmp_path / "rlds")
    run(ConvertStage(RldsDirectory.open(rlds), tmp_path / "out", ConvertConfig()), RunOptions())
    shutil.rmtree(rlds)
    make_rlds(tmp_path / "rlds", shards=1)
    problems = [finding.problem for finding in verify_store(tmp_path / "out")]
    assert len(problems) == 1
    assert "is not the data set" in problems[0]


def test_depth_read_in_pieces_is_guarded(whole, tmp_path):
    """Reading a few frames checks the files that hold them."""
    shutil.copytree(whole.root / "annotate", tmp_path / "out")
    store = DepthStore(tmp_path / "out")
    clip = next(iter(store.clips("image")))
    good = clip.read(1, 2).values
    chunk = clip.part.path / "depth" / "image" / "c" / "0" / "0" / "0"
    other = clip.part.path / "depth" / "wrist_image" / "c" / "0" / "0" / "0"
    assert np.array_equal(good, clip.read(1, 2).values)
    chunk.write_bytes(other.read_bytes())
    with pytest.raises(DepthtokError):
        clip.read(1, 2)
    assert read_spec(tmp_path / "out").type == "depth"


def test_what_a_running_job_writes_is_not_taken_away(whole, tmp_path):
    shutil.copytree(whole.root / "convert", tmp_path / "out")
    temporary = temporary_sibling(tmp_path / "out" / "parts" / "x")
    temporary.mkdir()
    (finding,) = verify_store(tmp_path / "out")
    assert finding.note
    assert "is being written" in finding.problem
    with pytest.raises(StoreError, match="a job is writing"):
        repair(tmp_path / "out", [finding])
    assert temporary.exists()


def test_what_another_host_writes_is_not_said_to_be_dead(whole, tmp_path):
    shutil.copytree(whole.root / "convert", tmp_path / "out")
    (tmp_path / "out" / "parts" / ".tmp-x~other.4026531836.12345678~7~99~ab").mkdir()
    (finding,) = verify_store(tmp_path / "out")
    assert finding.problem.endswith("was left, or is being written, by another host")
    assert finding.can_be_dropped


def test_a_moved_source_is_noted_and_lost_statistics_are_not_repaired(whole, tmp_path):
    shutil.copytree(whole.root / "convert", tmp_path / "out")
    (tmp_path / "out" / "statistics.json").unlink()
    (finding,) = verify_store(tmp_path / "out")
    assert not finding.can_be_dropped
    assert "`depthtok convert` makes it anew" in finding.problem


def test_a_folder_of_another_s_parts_is_no_store(whole, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    (tmp_path / "out" / "parts" / "notes.txt").write_text("mine")
    assert not is_store(tmp_path / "out")
    with pytest.raises(OutputError, match="not a depthtok store"):
        run(whole.stage("convert", tmp_path / "out"), RunOptions())
    assert [path.name for path in (tmp_path / "out" / "parts").iterdir()] == ["notes.txt"]
