"""Numbers for people: bytes, counts, durations."""

import math


def human_bytes(count: float) -> str:
    """`0 B`, `512 B`, `1.5 KB`, `94 GB`: powers of 1000, as disks are sold."""
    return _scaled(count, ("B", "KB", "MB", "GB", "TB", "PB"), " ")


def human_count(count: float) -> str:
    """`999`, `1.2k`, `250k`, `3.1M`."""
    return _scaled(count, ("", "k", "M", "G", "T"), "")


def human_duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `5 d 3 h`; `unknown` for what is not finite."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0:
        return "-" + human_duration(-seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def human_number(value: object) -> str:
    """A measured number to four digits; whole numbers with thousands; text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 1e4 <= abs(value) < 1e9:  # where four digits would be written as a power of ten
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _scaled(count: float, units: tuple[str, ...], space: str) -> str:
    if not math.isfinite(count):
        return "unknown"
    if count < 0:
        return "-" + _scaled(-count, units, space)
    step = 0
    while step < len(units) - 1 and count >= (1000 if step == 0 else 999.5):
        count, step = count / 1000, step + 1
    digits = f"{count:.1f}" if step and count < 9.95 else f"{count:.0f}"
    return f"{digits}{space}{units[step]}" if units[step] or space else digits
