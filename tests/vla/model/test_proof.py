"""The mask, measured on the running model."""

from dataclasses import replace

import pytest

from vla.model.masks import SEES
from vla.model.proof import prove


@pytest.mark.parametrize("sees_depth", [True, False])
@pytest.mark.parametrize("mask", list(SEES))
def test_gradients_flow_where_the_table_says_and_nowhere_else(micro, mask, sees_depth):
    proof = prove(micro(model__mask=mask, model__action_sees_depth=sees_depth))
    assert proof.violations() == []
    for query, row in proof.attention.items():
        assert sum(row.values()) == pytest.approx(1)
        assert all((share > 0) == proof.table.sees(query, key) for key, share in row.items())


def test_a_wrong_table_is_caught(micro):
    proof = prove(micro())
    wrong = replace(proof, table=proof.table.hiding("action", "depth"))
    assert [line.split(" (")[0] for line in wrong.violations()] == ["depth reaches action"]


def test_models_without_depth_or_proprio(micro):
    proof = prove(micro(model__depth__expert=False, model__proprio_dim=0))
    assert list(proof.gradient) == ["image", "text", "action"]
    assert proof.violations() == []
