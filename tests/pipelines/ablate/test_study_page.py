"""What the page of a study says of where its arms and seeds come from."""

from dataclasses import replace

from depthtok.pages.report import Report
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


def test_how_well_depth_is_predicted_in_the_trials_is_told():
    seeds = {
        seed: {"t-0": {"success": True, "code_agreement": share, "disparity_error": 0.125}}
        for seed, share in enumerate((0.25, 0.251))
    }
    results = [replace(result(seed, [1], [True]), trials=trials) for seed, trials in seeds.items()]
    text = " ".join(ClosedLoop({"true": results, "none": arms(none="a")["none"]}, []).told())
    assert "true, depth in its trials: 25.05 ± 0.64 % of the predicted codes are right" in text
    assert "off by 0.125 ± 0 of the range" in text
    assert "none, depth" not in text


def test_differences_by_seed_are_under_the_names_of_the_seeds():
    won = {"a": (True, False), "b": (False, False)}
    results = {
        arm: [
            replace(result(seed, [1], [one]), arm=arm) for seed, one in zip((7, 5), ws, strict=True)
        ]
        for arm, ws in won.items()
    }
    page = ClosedLoop(results, [("a", "b")]).report(Report("t")).to_json()
    (by_seed,) = (part for part in page["sections"] if part.get("title") == "a - b, seed by seed")
    assert [row[:2] for row in by_seed["rows"][:2]] == [["seed 5", 0.0], ["seed 7", 100.0]]
