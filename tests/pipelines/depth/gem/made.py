"""Networks of the tests of this folder."""

from dataclasses import replace

from pipelines.depth.gem.config import GEM_CONFIGS, GemConfig
from pipelines.depth.gem.network import GemDepth
from pipelines.depth.gem.tensors import used
from pipelines.depth.vida.config import CONFIGS
from tests.pipelines.depth.vida import recipe


def config_of(vida, *, pose=True):
    """GemDepth around an encoder and a head of Video-Depth-Anything."""
    return GemConfig(**vars(CONFIGS[vida]) | {"name": f"gem-{vida}", "pose": pose})


def loaded(config, weights):
    """The network with what it uses of a checkpoint, strictly."""
    network = GemDepth(config).eval()
    network.load_state_dict({key: weights[key] for key in used(weights, config)}, strict=True)
    return network


def tiny_network(*, pose=True, **changes):
    """A network of few weights at which every part matters."""
    sizes = {"dim": 64, "depth": 4, "heads": 2, "taps": (0, 1, 2, 3), "channels": (8, 16, 32, 32)}
    config = replace(GEM_CONFIGS["gemdepth-tiny"], pose=pose, **(sizes | changes))
    network = GemDepth(config).eval()
    schema = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(recipe.state_dict(schema, seed=4))
    return network
