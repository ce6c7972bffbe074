"""What the drivers of actors make of answers that are there, that are not yet, and that are errors:
by a stand-in for Ray."""

from collections import deque
from types import ModuleType, SimpleNamespace

import pytest

from depthtok.config import RunOptions
from depthtok.errors import WorkerDied
from depthtok.stores.parts import PartName, ShardKey
from pipelines.ray.health import Health, Room
from pipelines.ray.pool import _Pool
from pipelines.ray.ranks import _Ranks
from pipelines.stage import Stage, Tally, WorkPart


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`."""


class Answer:
    """What an actor was asked for: there once it has room."""

    def __init__(self, actor, value):
        self.actor, self.value = actor, value


class Asked:
    """A method of an actor."""

    def __init__(self, actor, value_of):
        self.actor, self.value_of = actor, value_of

    def remote(self, *arguments):
        return Answer(self.actor, self.value_of(*arguments))


class Worker:
    """Makes a part as soon as it has room."""

    def __init__(self):
        self.units = 0
        self.make, self.advanced = Asked(self, self._make), Asked(self, self._advanced)

    def __getattr__(self, name):  # as Ray's handles have one
        raise AttributeError(name)

    def _make(self, work):
        self.units += work.frames
        return 1.0

    def _advanced(self):
        return self.units, {"busy": 0.5}


class Cluster(ModuleType):
    """As the module `ray`, with room for so many actors: the others wait until one of these ends.
    What is not there cannot be got."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    cloudpickle = SimpleNamespace(dumps=lambda stage: b"")

    def __init__(self, room):
        super().__init__("ray")
        self.room, self.actors, self.pauses = room, [], 0

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, *_):
        self.actors.append(Worker())
        return self.actors[-1]

    def _is_there(self, answer):
        return answer.actor in self.actors[: self.room]

    def wait(self, answers, num_returns=1, timeout=None):
        assert 0 < num_returns <= len(answers)
        self.pauses += timeout != 0
        there = [answer for answer in answers if self._is_there(answer)][:num_returns]
        return there, [answer for answer in answers if answer not in there]

    def get(self, answer, timeout=None):
        assert self._is_there(answer), "an actor without room is waited for"
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def kill(self, actor):
        self.actors.remove(actor)

    def cluster_resources(self):
        return {"CPU": 8}

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 8}}]


class Shown:
    """A `Bar` that notes what it is told."""

    def __init__(self):
        self.units = []

    def advance(self, n=1, **extra):
        self.units.append(n)

    reach = advance


def pool_of(ray, out, todo=()):
    """A pool over a stage of which only the place of its store matters."""
    stage = SimpleNamespace(**{name: None for name in dir(Stage) if name[0] != "_"} | {"out": out})
    return _Pool(ray, stage, RunOptions(), Shown(), Tally(), deque(todo), Health({}, 0))


def test_workers_without_room_hold_nobody_up(tmp_path):
    """All parts that are finished are taken at once, and all progress is shown."""
    ray = Cluster(room=8)
    shard = ShardKey("set", "1", "train", 0, 1)
    todo = [WorkPart(PartName("train-00000-of-00001", n, 64), shard, 1, 5) for n in range(64)]
    for work in todo:
        (tmp_path / "parts" / str(work.name)).mkdir(parents=True)
    pool = pool_of(ray, tmp_path, todo)
    pool.run(64)
    assert (pool.tally.made, ray.pauses, ray.actors) == (64, 64 // 8, [])
    assert sum(pool.bar.units) == 64 * 5
    assert min(pool.bar.units) >= 0


def test_an_earlier_answer_that_comes_late_takes_nothing_back(tmp_path):
    pool = pool_of(Cluster(1), tmp_path)
    actor = pool.ray._start()
    pool.shown[actor] = 0
    for units in (3, 7, 5):
        pool._show_one(actor, Answer(actor, (units, {})))
    pool._dismiss(actor)
    pool.ray.actors.append(actor)
    pool._show_one(actor, Answer(actor, (9, {})))
    assert pool.bar.units == [3, 4]


@pytest.mark.parametrize(
    ("failed_at_start", "said", "remedy"),
    [
        (True, r"^rank 1 could not start: No module named 'depthtok'", "the same depthtok and Py"),
        (False, r"^rank 1 died: The actor died", "the same command again"),
    ],
)
def test_a_rank_that_cannot_start_is_explained(failed_at_start, said, remedy):
    error = RayError("The actor died.\nNo module named 'depthtok'")
    error.actor_init_failed = failed_at_start
    ray = Cluster(room=2)
    for value in (("127.0.0.1", "process 1", 1), error):
        actor = ray._start()
        actor.location = Asked(actor, lambda value=value: value)
    ranks = _Ranks(ray, print, print, lambda: False, Health({}, 0), actors=[*ray.actors])
    with pytest.raises(WorkerDied, match=said) as caught:
        ranks.begin(Room(lambda: True, "2 ranks"))
    assert remedy in caught.value.remedy
