"""A small data set, a codebook that is not trained, and the three stages over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from depthtok.config import RunOptions
from depthtok.normalisation import Normalisation
from depthtok.sources.rlds import RldsDirectory
from depthtok.stores import codebook
from depthtok.stores.codebook import Codebook
from depthtok.stores.depth import DepthStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.testing import make_rlds
from pipelines.annotate.stage import AnnotateStage
from pipelines.config import AnnotateConfig, ConvertConfig, TokenizeConfig
from pipelines.convert.stage import ConvertStage
from pipelines.run import run
from pipelines.stage import Outcome, Stage
from pipelines.tokenize import TokenizeStage
from vqvae.config import NetworkConfig, QuantizerConfig, TokeniserConfig, TrainingConfig
from vqvae.model.model import Tokeniser
from vqvae.training.export import description, weights_of

SIZE = 32  # px


@dataclass(frozen=True)
class Path3:
    """The three stages in one directory, each from the store before."""

    rlds: Path
    book: Path
    root: Path

    def stage(self, name: str, out: Path | None = None, **settings) -> Stage:
        """One stage, into `out` or into the directory of its name."""
        out = out or self.root / name
        if name == "convert":
            return ConvertStage(RldsDirectory.open(self.rlds), out, ConvertConfig(**settings))
        if name == "annotate":
            config = AnnotateConfig(**{"estimator": "dataset", "size": SIZE, **settings})
            return AnnotateStage(EpisodeStore(self.root / "convert"), out, config, "cpu")
        config, depth = TokenizeConfig(**settings), DepthStore(self.root / "annotate")
        return TokenizeStage(depth, Codebook.load(self.book), out, config, "cpu", {"failures": []})

    def run(self, name: str, **options) -> Outcome:
        """Runs one stage in this process."""
        return run(self.stage(name), RunOptions(**options))

    def run_all(self, **options) -> list[Outcome]:
        """Runs the three stages."""
        return [self.run(name, **options) for name in ("convert", "annotate", "tokenize")]


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """A codebook of 16 codes for 32 px, its vectors placed by k-means on noise."""
    torch.set_num_threads(1)
    config = TokeniserConfig(
        network=NetworkConfig(size=SIZE, grid=4, dim=8, width=8, stem=4, decoder_width=8),
        quantizer=QuantizerConfig(codes=16),
        training=TrainingConfig(crop=SIZE),
    )
    model = Tokeniser(config.network, config.quantizer, seed=0)
    with torch.no_grad():
        noise = torch.rand(64, 4, 4, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        model.quantizer.initialise(noise.reshape(-1, 8), seed=0)
    meta = {**description(config, Normalisation(), demo=True), "codes": 16}
    return codebook.write(tmp_path_factory.mktemp("book") / "book", weights_of(model), meta)


@pytest.fixture(scope="session")
def rlds(tmp_path_factory) -> Path:
    """Six episodes of five steps in three shards."""
    return make_rlds(tmp_path_factory.mktemp("rlds") / "1.0.0")


@pytest.fixture(scope="session")
def whole(rlds, book, tmp_path_factory) -> Path3:
    """The three stores, made in this process without a break; only to be read."""
    path = Path3(rlds, book, tmp_path_factory.mktemp("whole"))
    assert [outcome.exit_code for outcome in path.run_all()] == [0, 0, 0]
    return path


@pytest.fixture
def over(book, tmp_path):
    """A function from an RLDS directory to its `Path3` in a fresh directory."""
    return lambda rlds, root=tmp_path / "stores": Path3(rlds, book, root)
