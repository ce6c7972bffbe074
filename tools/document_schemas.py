"""The generated parts of docs/schemas.md: `python -m tools.document_schemas docs/schemas.md`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from depthtok.sources.operations import OPERATIONS
from depthtok.sources.schema import Schema


def updated(text: str) -> str:
    """The page with its two tables regenerated."""
    for name, table in [("operations", _operations()), ("schemas", _schemas())]:
        block = f"<!-- {name} -->\n{table}<!-- end -->"
        literal = block.replace("\\", r"\\")  # no backslash of it is an escape
        text = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", literal, text, flags=re.S)
    return text


def _operations() -> str:
    rows = ["| operation | what it does | columns |", "|---|---|---|"]
    for operation in OPERATIONS.values():
        usage = " ".join([operation.name, *operation.arguments])
        columns = f"{operation.takes} to {operation.gives}" if operation.takes else "any"
        rows.append(f"| `{usage}` | {operation.doc} | {columns} |")
    return "\n".join(rows) + "\n"


def _schemas() -> str:
    rows = [
        "| schema | data sets | status | Hz | cameras | depth | action | state | gripper |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in Schema.names():
        schema = Schema.load(name)
        units = {camera.depth_unit for camera in schema.cameras if camera.depth_key}
        cells = [
            f"`{name}`",
            "the same" if schema.datasets == (name,) else ", ".join(schema.datasets),
            schema.status,
            "?" if schema.fps is None else f"{schema.fps:g}",
            ", ".join(camera.name for camera in schema.cameras),
            ", ".join(sorted("?" if unit == "unknown" else str(unit) for unit in units)),
            str(len(schema.action_dims)),
            str(len(schema.proprio_dims)),
            schema.gripper,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(updated(page.read_text("utf-8")), "utf-8")
