from __future__ import annotations

import pytest

from depthtok.errors import ConfigError
from vqvae.config import NetworkConfig, QuantizerConfig, TokeniserConfig, TrainingConfig, presets


def test_every_preset_loads_and_returns_from_json():
    assert {"default", "paper", "demo"} <= set(presets())
    for name in presets():
        config = TokeniserConfig.preset(name)
        assert TokeniserConfig.from_json(config.to_json()) == config


def test_the_default_preset_is_the_defaults():
    assert TokeniserConfig.preset("default") == TokeniserConfig()


def test_the_paper_preset_has_the_papers_numbers():
    config = TokeniserConfig.preset("paper")
    assert (config.network.dim, config.quantizer.codes, config.network.grid) == (160, 256, 16)
    assert (config.quantizer.kind, config.quantizer.beta) == ("gradient", 0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetworkConfig(size=250),
        lambda: NetworkConfig(size=96, grid=16),
        lambda: NetworkConfig(stem=3),
        lambda: NetworkConfig(size=64, grid=16, stem=8),
        lambda: QuantizerConfig(codes=512),
        lambda: QuantizerConfig(kind="emma"),
        lambda: QuantizerConfig(estimator="gumbel"),
        lambda: TrainingConfig(held_out=1.0),
        lambda: TokeniserConfig(training=TrainingConfig(crop=100)),
        lambda: TokeniserConfig(training=TrainingConfig(steps=80)),
        lambda: TokeniserConfig.preset("defualt"),
        lambda: TokeniserConfig.preset("nowhere.toml"),
        lambda: TokeniserConfig.from_json({"network": {"dims": 3}}),
        lambda: TokeniserConfig.from_json({"net": {}}),
    ],
)
def test_nonsense_is_refused_with_a_remedy(make):
    with pytest.raises(ConfigError) as error:
        make()
    assert error.value.remedy


def test_a_toml_file_is_a_preset(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('normalisation = "metric"\nmetric_range = [0.2, 4.0]\n[training]\nlr = 1e-4\n')
    config = TokeniserConfig.preset(str(file))
    assert config.training.lr == 1e-4
    assert config.metric_range == (0.2, 4.0)
