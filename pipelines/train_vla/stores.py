"""The stores that a training is given, opened and paired up; not a command itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from depthtok.errors import ConfigError
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from pipelines.train_vla.inputs import Stores
from vla.config import Config
from vla.data.crops import DepthCrops
from vla.data.pixels import PixelGrids
from vla.mixtures import Mixture

Targets = CodeStore | PixelGrids | DepthCrops


@dataclass(frozen=True)
class OpenStores:
    """The stores of a training, opened: data sets in order, each with its depth targets."""

    episodes: Sequence[EpisodeStore]
    targets: Sequence[Targets]  # as many, or none
    book: Codebook | None
    mixture: Mixture | None = None

    def weights(self, stated: Sequence[float]) -> list[float]:
        """How often each data set is drawn from: as stated, as the mixture says, or evenly. Raises
        `ConfigError` where both say it, or not one number a data set is stated."""
        if stated and self.mixture:
            raise ConfigError(
                "sampling_weight and mixture both say how often each data set is drawn from",
                remedy="leave one out",
            )
        if self.mixture:
            return [self.mixture.share(store.dataset).weight for store in self.episodes]
        if stated and len(stated) != len(self.episodes):
            raise ConfigError(
                f"{len(stated)} weights for {len(self.episodes)} data sets",
                remedy="give one each: --set sampling_weight=[1, 2]",
            )
        return list(stated) or [1.0] * len(self.episodes)

    def cameras_of(self, store: EpisodeStore, cameras: Sequence[str]) -> tuple[str, ...]:
        """What a data set calls the model's cameras."""
        return self.mixture.cameras_of(store.dataset, cameras) if self.mixture else tuple(cameras)

    @classmethod
    def of(cls, config: Config, stores: Stores, device: str = "cpu") -> OpenStores:
        """The stores of a training; see `open`."""
        paths = stores.episodes, stores.codes, stores.depth
        opened = cls.open(config, *paths, stores.codebook, stores.source_root, device)
        return replace(opened, mixture=Mixture.load(stores.mixture)) if stores.mixture else opened

    @classmethod
    def open(
        cls,
        config: Config,
        episodes: Sequence[Path],
        codes: Sequence[Path],
        depth: Sequence[Path],
        codebook: Path | None,
        source_root: Path | None = None,
        device: str = "cpu",
    ) -> OpenStores:
        """Opens what the settings ask for; depth of crops will be encoded on `device`. Raises
        `ConfigError` for stores that do not pair up."""
        for name, paths in (("codes", codes), ("depth", depth)):
            if paths and len(paths) != len(episodes):
                raise ConfigError(
                    f"{len(paths)} --{name} for {len(episodes)} --episodes",
                    remedy="give one each, or none",
                )
        stores = [EpisodeStore(path, source_root=source_root) for path in episodes]
        if config.model.depth.expert and config.model.depth.target == "pixels":
            return cls(stores, *_pixels(depth, codebook))
        if config.model.depth.uses_depth and config.data.crop < 1:
            return cls(stores, *_crops(depth, codebook, device))
        return cls(stores, *_codes(codes, codebook))


def member_names(stores: Sequence[EpisodeStore]) -> list[str]:
    """Names of a mixture's members: the data sets', numbered where two stores are of one data set.

    Norms and cached frames are kept by these names, so no two may be the same.
    """
    names = [store.dataset for store in stores]
    return [
        name if names.count(name) == 1 else f"{name}-{names[:index].count(name) + 1}"
        for index, name in enumerate(names)
    ]


def _codes(paths: Sequence[Path], codebook: Path | None) -> tuple[list[CodeStore], Codebook | None]:
    stores = [CodeStore(path) for path in paths]
    if not stores:
        return [], None
    book = stores[0].open_codebook(codebook)
    for store in stores[1:]:
        store.require_codebook(book.fingerprint)
    return stores, book


def _pixels(paths: Sequence[Path], codebook: Path | None) -> tuple[list[PixelGrids], Codebook]:
    """Depth itself, cut into a codebook's cells and normalised as it does."""
    from depthtok.stores.depth import DepthStore

    if not paths or codebook is None:
        raise ConfigError(
            "the depth expert is to regress pixels",
            remedy="give --depth DEPTH, and --set codebook=DIR for its grid and normalisation",
        )
    book = Codebook.load(codebook)
    grids = [
        PixelGrids(DepthStore(path), book.fingerprint, book.normalisation, book.grid)
        for path in paths
    ]
    return grids, book


def _crops(
    paths: Sequence[Path], codebook: Path | None, device: str
) -> tuple[list[DepthCrops], Codebook]:
    """Depth to cut crops from, and what encodes them."""
    from depthtok.stores.depth import DepthStore
    from vqvae.codec import Codec

    if not paths or codebook is None:
        raise ConfigError(
            "stored codes describe whole images, and data.crop asks for crops",
            remedy="give --depth DEPTH and --set codebook=DIR, so that they are re-encoded",
        )
    codec = Codec.load(codebook, device)
    crops = [DepthCrops(DepthStore(path), codec.codebook, codec) for path in paths]
    return crops, codec.codebook
