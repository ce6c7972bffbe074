"""What is pushed: a codebook, a code store or a policy, checked, as files and a card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.push.card import Card
from pipelines.push.outgoing import Outgoing

CODEBOOK, CODES, POLICY = "codebook", "codes", "policy"
ALWAYS = r"README\.md|\.gitattributes|LICEN[CS]E(\.\w+)?"
NAMES = {
    CODEBOOK: re.compile(r"codebook\.json|codebook\.safetensors|examples\.npz"),
    CODES: re.compile(r"store\.json|parts/[^/]+\.zip"),
    POLICY: re.compile(
        r"config\.json|metrics\.(jsonl|sums)|validation\.(jsonl|sums)|depth\.npz|"
        r"checkpoints/step-\d+/[^/]+"
    ),
}
"""The files of a repository by what it holds: what a push writes, and so what it may delete."""


@dataclass(frozen=True)
class Publication:
    """What is pushed. `parts` may go in any number of commits, `last` together in the last one:
    without that, nothing is there that could be taken for it."""

    what: str  # CODEBOOK, CODES or POLICY
    identity: str  # fingerprint or digest
    parts: Sequence[Outgoing]
    last: Sequence[Outgoing]
    card: Card
    warnings: Sequence[str] = ()
