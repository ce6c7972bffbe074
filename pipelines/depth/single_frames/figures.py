"""What the alignment over time did to a store's depth, from the records of its parts."""

from __future__ import annotations

from depthtok.stores.depth import DepthStore


def steadied_in_words(store: DepthStore) -> dict[str, str]:
    """`{"flicker": ...}` before and after, weighted by pairs of frames; empty for a store whose
    frames were not aligned."""
    records = [part.meta["steadied"] for part in store.parts() if "steadied" in part.meta]
    pairs = sum(record["pairs"] for record in records)
    if not pairs:
        return {}
    before, after = (
        sum(record[name] * record["pairs"] for record in records) / pairs
        for name in ("flicker_before", "flicker_after")
    )
    return {
        "flicker": f"{before:.2%} of the range from frame to frame, {after:.2%} after the "
        f"alignment over time ({records[0]['mode']})"
    }
