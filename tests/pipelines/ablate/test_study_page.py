"""What the page of a study says of where its arms and seeds come from."""

from dataclasses import replace

from pipelines.ablate.study_page import ClosedLoop
from tests.pipelines.ablate.test_foretelling import result


def arms(**stores):
    """One seed for each digest of what was learnt from, by arm."""
    return {
        arm: [replace(result(seed, [1], [True]), arm=arm, data=data) for seed, data in enumerate(d)]
        for arm, d in stores.items()
    }


def said(**stores):
    return " ".join(ClosedLoop(arms(**stores), []).told())


def test_arms_of_other_stores_are_told_apart_from_seeds_of_other_stores():
    assert "same stores" not in said(true="aa", shuffled="aa")
    none = said(true="aa", shuffled="aa", none="bb")
    assert "These arms did not learn from the same stores: true, shuffled; none." in none
    mixed = said(true="aa", shuffled="ab")
    assert "The seeds of shuffled did not all learn from the same stores" in mixed
    assert "These arms" not in mixed
