"""The masks, cell by cell, against matrices written out by hand."""

import numpy as np
import pytest
import torch

from depthtok.errors import ConfigError
from vla.model.masks import BLOCKS, SEES, Layout, SeesTable, visible

LAYOUT = Layout((("image", 2), ("text", 2), ("depth", 2), ("proprio", 1), ("action", 2)))

EXPECTED = {
    "qdepth": """
        110000000
        110000000
        001100000
        001100000
        111111000
        111111000
        111100100
        111111111
        111111111
    """,
    "prefix": """
        111100000
        111100000
        111100000
        111100000
        111111000
        111111000
        111100100
        111111111
        111111111
    """,
    "text-sees-image": """
        110000000
        110000000
        111100000
        111100000
        111111000
        111111000
        111100100
        111111111
        111111111
    """,
    "image-sees-text": """
        111100000
        111100000
        001100000
        001100000
        111111000
        111111000
        111100100
        111111111
        111111111
    """,
    "causal": """
        100000000
        110000000
        111000000
        111100000
        111110000
        111111000
        111111100
        111111110
        111111111
    """,
}


def matrix(picture: str) -> np.ndarray:
    return np.array([[mark == "1" for mark in line] for line in picture.split()])


def full(table: SeesTable, layout: Layout = LAYOUT) -> np.ndarray:
    return visible(table, layout, layout, torch.device("cpu")).numpy()


@pytest.mark.parametrize("name", list(SEES))
def test_every_cell(name):
    assert (full(SeesTable.named(name))[0, 0] == matrix(EXPECTED[name])).all()


@pytest.mark.parametrize("name", list(SEES))
def test_action_blind_to_depth(name):
    expected = matrix(EXPECTED[name])
    expected[-3:, 4:6] = False
    table = SeesTable.named(name, action_sees_depth=False)
    assert (full(table)[0, 0] == expected).all()
    assert not table.reaches("action", "depth")


@pytest.mark.parametrize("name", list(SEES))
def test_nothing_arrives_on_detours(name):
    """What a block does not see does not reach it through others either."""
    for sees_depth in (True, False):
        table = SeesTable.named(name, sees_depth)
        for query in BLOCKS:
            for key in BLOCKS:
                assert table.reaches(query, key) == table.sees(query, key)


def test_detours_are_found():
    table = SeesTable.named("qdepth").hiding("action", "depth")
    cells = {**table.cells, "proprio": {**table.cells["proprio"], "depth": "x"}}
    assert SeesTable(cells).reaches("action", "depth")


def test_padding_is_never_seen():
    valid = torch.ones(2, len(LAYOUT), dtype=torch.bool)
    valid[1, 3] = False
    mask = full(SeesTable.named("prefix"), Layout(LAYOUT.blocks, valid))
    assert mask.shape == (2, 1, 9, 9)
    assert (mask[0, 0] == matrix(EXPECTED["prefix"])).all()
    assert not mask[1, 0, :, 3].any()


def test_layouts_join_with_partial_padding():
    text = Layout((("text", 2),), torch.tensor([[True, False]]))
    both = Layout((("image", 3),)) + text
    assert both.valid_BT.tolist() == [[True, True, True, True, False]]
    assert both.span("text") == slice(3, 5)


def test_no_mask_where_everything_is_seen():
    image = Layout((("image", 4),))
    assert visible(SeesTable.named("qdepth"), image, image, torch.device("cpu")) is None


@pytest.mark.parametrize("name", list(SEES))
def test_a_drawn_table_reads_back(name):
    table = SeesTable.named(name)
    assert SeesTable.parse(table.draw()) == table


def test_bad_tables_are_refused():
    with pytest.raises(ConfigError, match="no mask"):
        SeesTable.named("qdept")
    with pytest.raises(ConfigError, match="must see itself"):
        SeesTable.parse(SEES["qdepth"].replace("image     x", "image     ."))
    with pytest.raises(ConfigError, match="rows and columns"):
        SeesTable.parse("image\nimage x")
    assert len(BLOCKS) == 5
