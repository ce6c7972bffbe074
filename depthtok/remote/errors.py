"""What a server says when it does not give what it was asked for, in words and without secrets."""

from __future__ import annotations

import os
import re

from depthtok.errors import SourceUnavailable

AGAIN = "then run the same command again: what is done is kept"
_SECRETS = ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY", "CREDENTIAL")
_LEAST = 6  # letters of a secret: shorter values would blot out words
_LONGEST = 160


class Refused(SourceUnavailable):
    """The server answered, and does not give it: another attempt would be answered alike."""


class Missing(Refused):
    """There is no such object."""


class Changed(SourceUnavailable):
    """An object became another one while it was read."""


class Trouble(Exception):
    """An attempt failed in a way that may pass: `args[0]` is the reason."""


def without_secrets(text: str) -> str:
    """`text` without queries and user names of URLs, and without the values of this process's
    variables that are called secrets; cut to a line."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST and any(word in name.upper() for word in _SECRETS):
            text = text.replace(value, "***")
    text = re.sub(r"://[^/\s@]*@", "://", text)
    text = re.sub(r"\?[^\s)\"']*", "", text)
    text = re.sub(r"(?i)(authorization|signature|credential|token)[=:]\s*\S+", r"\1=***", text)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def missing(where: object) -> Missing:
    """The error for an object that is not there."""
    return Missing(f"{where} is not there", remedy=f"correct the URL, or upload it, {AGAIN}")


def refused(where: object, reason: str) -> Refused:
    """The error for an object that may not be read, or written, with the credentials at hand."""
    return Refused(
        f"{where} is not given to us ({without_secrets(reason)})",
        remedy="give credentials that may read it by the environment (AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true for a public bucket; "
        f"GOOGLE_APPLICATION_CREDENTIALS; HF_TOKEN), {AGAIN}",
    )


def changed(where: object) -> Changed:
    """The error for an object with another etag than it had when reading began."""
    return Changed(
        f"{where} was replaced while it was read (its etag is another one)",
        remedy=f"let whatever writes it finish, {AGAIN}",
    )


def gave_up(where: object, reason: str, attempts: int) -> SourceUnavailable:
    """The error after the last attempt."""
    return SourceUnavailable(
        f"{where} cannot be read now ({without_secrets(reason)}; {attempts} attempts)",
        remedy="see that the server and the network are in order (DEPTHTOK_REMOTE_ATTEMPTS gives "
        f"more patience), {AGAIN}",
    )
