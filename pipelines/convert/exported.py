"""What a data set that is an export of depthtok's records of where it comes from: of which data set
it is, and what estimated the depth in it. Without that, estimates would come back as true depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from depthtok.sources.features import read_json
from depthtok.stores.lineage import ESTIMATED, EXPORT_OF
from pipelines.export.record import record_of


def of_export(root: Path) -> dict[str, str]:
    """For `place` of its episodes: EXPORT_OF, the name of the data set that was exported, and
    ESTIMATED, the estimator of its depth as JSON, where that is not the data set's own. {} for
    another data set. Raises `SourceError` for a record that is no JSON."""
    file = record_of(root)
    record: Mapping[str, object] = read_json(file) if file else {}
    depth = record.get("depth")
    estimator = depth.get("estimator") if isinstance(depth, Mapping) else None
    name = record.get(EXPORT_OF) or record.get("dataset")
    origin = {EXPORT_OF: name} if isinstance(name, str) else {}
    if isinstance(estimator, Mapping) and estimator.get("name") != "dataset":
        origin[ESTIMATED] = json.dumps(estimator, sort_keys=True)
    return origin
