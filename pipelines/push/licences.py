"""Licences as the Hub names them, and what those of the sources leave open."""

from __future__ import annotations

import re
from collections.abc import Sequence

from depthtok.errors import ConfigError
from depthtok.json_values import JsonObject
from depthtok.sources.schema import Schema

UNKNOWN = "unknown"
_KNOWN = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "openrail", "gpl-3.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    *("lgpl-3.0", "mpl-2.0", "cc-by-nd-4.0", "gemma", "odc-by", "odbl", UNKNOWN),
)
_NON_COMMERCIAL = re.compile(r"(?i)\bnc\b|non-?\s?commercial|research\s+(use\s+)?only")


def is_non_commercial(licence: str) -> bool:
    """Whether a licence says that it is not for commercial use."""
    return bool(_NON_COMMERCIAL.search(licence.replace("-", " ")))


def identifier(licence: str) -> str:
    """The Hub's name of a licence; "" for one that it does not name."""
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return name if name in _KNOWN else ""


def chosen(stated: str, sources: Sequence[str]) -> dict[str, str]:
    """The card's licence: as stated, but never freer than those of the sources; where nothing is
    stated it is unknown. Raises `ConfigError` for one that the sources do not allow."""
    bound = [licence for licence in sources if is_non_commercial(licence)]
    if bound and stated and not is_non_commercial(stated):
        raise ConfigError(
            f"--licence {stated}: it is made with what is licensed {bound[0]}, which is not for "
            "commercial use",
            remedy="state a licence that says so (cc-by-nc-4.0), or leave --licence out",
        )
    if bound and not stated:
        names = {identifier(licence) or licence for licence in bound}
        return _named(bound[0] if len(names) == 1 else "non-commercial")
    return _named(stated or UNKNOWN)


def _named(licence: str) -> dict[str, str]:
    name = identifier(licence)
    return {"license": name} if name else {"license": "other", "license_name": licence}


def of_data_set(name: str) -> str:
    """The licence of a data set as the shipped schema of it says; else that it is unknown."""
    schema = Schema.find(re.sub(r"-\d+$", "", name))
    if schema is None or not schema.licence:
        return UNKNOWN
    return f"{schema.licence} (says depthtok's schema {schema.name})"


def of_estimator(estimator: JsonObject | None) -> str:
    """The licence of an estimator's weights, as its store records it."""
    licence = (estimator or {}).get("licence")
    return licence if isinstance(licence, str) and licence else UNKNOWN
