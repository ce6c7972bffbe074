"""TensorBoard as it really is: what was logged can be read back, also after a resume.

Here and not beside the other trackers, since it imports TensorFlow where that is installed, and
TensorFlow crashes in a process that has rendered.
"""

import pytest

from vla.training.trackers import open_tracker


@pytest.mark.filterwarnings("ignore")  # of packages that tensorboard reads its own files with
def test_tensorboard_shows_every_step_once(tmp_path):
    pytest.importorskip("tensorboard")
    first = open_tracker("tensorboard", tmp_path, 0, {})
    for step in (1, 2, 3):
        first({"step": step, "loss": 10.0 - step})
    resumed = open_tracker("tensorboard", tmp_path, 2, {})  # killed after 3, checkpoint of 2
    for step in (3, 4):
        resumed({"step": step, "loss": 5.0 - step, "mfu": 0.5})

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "mfu"}
    points = [(event.step, event.value) for event in events.Scalars("loss")]
    assert points == [(1, 9.0), (2, 8.0), (3, 2.0), (4, 1.0)]
