"""The picture of the README and of docs/index.md, drawn from a finished demo: DEMO OUT.png"""

import sys
from itertools import islice
from pathlib import Path

from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from depthtok.stores.codes import CodeStore
from pipelines.inspect.frame_views import frame_rows
from pipelines.inspect.trail import Trail

SIDE, GAP, HEAD = 220, 8, 26  # px
LABELS = ("camera image", "ground-truth depth", "16x16 codes", "depth decoded from codes")


def draw(demo: Path) -> Image.Image:
    """One frame of each camera: what the pages show of it, in their colours."""
    rows = list(islice(frame_rows(Trail.of(CodeStore(demo / "sample" / "codes"))), 2))
    step = SIDE + GAP
    sheet = Image.new("RGB", (4 * step - GAP, HEAD + len(rows) * step - GAP), "white")
    font, pen = ImageFont.truetype(findfont("DejaVu Sans"), 14), ImageDraw.Draw(sheet)
    for column, label in enumerate(LABELS):
        pen.text((column * step + 2, 5), label, fill="black", font=font)
        for row, frame in enumerate(rows):
            picture = frame.pictures[column]
            way = Image.Resampling.NEAREST if picture.exact else Image.Resampling.LANCZOS
            image = Image.fromarray(picture.pixels).resize((SIDE, SIDE), way)
            sheet.paste(image, (column * step, HEAD + row * step))
    return sheet


if __name__ == "__main__":
    draw(Path(sys.argv[1])).quantize(256, dither=Image.Dither.NONE).save(sys.argv[2], optimize=True)
