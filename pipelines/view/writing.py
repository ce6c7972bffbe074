"""Writes the recordings of some episodes into one file, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from depthtok.disk.files import commit_file, output_errors
from depthtok.disk.temporaries import sweep, temporary_sibling
from depthtok.errors import SourceError
from depthtok.log import warn
from depthtok.progress import progress
from pipelines.device import one_thread
from pipelines.view import recording
from pipelines.view.episode import ShownEpisode, chosen
from pipelines.view.gather import Shown
from vqvae.codec import Codec


@dataclass(frozen=True)
class Written:
    """Episodes and frames that were written; what is missing of them, and how many failed."""

    episodes: int
    frames: int
    missing: tuple[str, ...]
    failed: int


def write(shown: Shown, numbers: list[int], out: Path, device: str) -> Written:
    """The file `out`, of these episodes. An episode that cannot be read is left out, and said.

    Raises `OutputError`, and `SourceError` where no episode can be read.
    """
    with commit_file(out) as temporary, _folder_beside(out) as folder:
        paths, written = _record(shown, numbers, folder, device)
        recording.merge(paths, shown, temporary)
    return written


def show(shown: Shown, numbers: list[int], device: str) -> Written:
    """Opens the viewer on a file in the system's folder for temporary ones, until it is closed."""
    with TemporaryDirectory(prefix="depthtok-view-") as folder:
        path = Path(folder) / "episodes.rrd"
        written = write(shown, numbers, path, device)
        recording.open_viewer(path)
    return written


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder for parts of a file, which goes away when the block ends, or the next time."""
    with output_errors(out):
        sweep(out.absolute().parent)
        folder = temporary_sibling(out)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _record(
    shown: Shown, numbers: list[int], folder: Path, device: str
) -> tuple[list[Path], Written]:
    """A recording of each episode that can be read."""
    one_thread()
    codecs = {name: Codec.load(book.path, device) for name, book in shown.decoding.items()}
    paths: list[Path] = []
    missing: list[str] = []
    frames = failed = 0
    with progress(total=len(numbers), unit="episodes", label="view") as bar:
        for episode in chosen(shown, numbers, codecs):
            path = folder / f"{len(paths):06d}.rrd"
            if _recorded(episode, path):
                paths.append(path)
                missing += episode.missing()
                frames += episode.frames
            else:
                failed += 1
            bar.advance()
    if not paths:
        raise SourceError("no episode can be shown", remedy="see the warnings above")
    return paths, Written(len(paths), frames, tuple(missing), failed)


def _recorded(episode: ShownEpisode, path: Path) -> bool:
    """Whether an episode could be read; its recording is at `path` then."""
    try:
        recording.Recorder(episode, path).write()
    except SourceError as error:
        warn(f"{episode.key} is left out: {error.problem}")
        path.unlink(missing_ok=True)
        return False
    return True
