"""The Hugging Face Hub's client (extra `hf`), and its errors in words.

The token is the client's own business: HF_TOKEN, or what `hf auth login` keeps. Nothing here reads,
stores or prints it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import disable_progress_bars

from depthtok.disk.regular import of_the_system
from depthtok.remote.errors import AGAIN, Missing, Refused, Trouble, without_secrets

_OF_THE_WIRE: tuple[type[Exception], ...] = (
    OSError,
    *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)),
)
"""What every error of the connection is: of httpx, or of requests in older clients."""
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # where the cache lies
MAY_PASS = (408, 425, 429)


def endpoint() -> str | None:
    """The server of HF_ENDPOINT; None for the Hub itself."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def client() -> huggingface_hub.HfApi:
    """The Hub's client, for the server of HF_ENDPOINT. It draws bars on terminals only."""
    if not sys.stderr.isatty():
        disable_progress_bars()
    return huggingface_hub.HfApi(endpoint=endpoint(), library_name="depthtok")


def missing(where: object) -> Missing:
    """The error for what is not there, or hidden from us: the Hub says the same of both."""
    return Missing(
        f"{where} is not there, or not for whom this machine is logged in as",
        remedy="correct the name or the revision; if it is private, `hf auth login` with a token "
        "that may read it (or set HF_TOKEN)",
    )


def refused(where: object, status: int) -> Refused:
    """The error for what the Hub does not allow."""
    return Refused(
        f"the Hub does not let us at {where} (status {status})",
        remedy="`hf auth login` with a token that may (to push it has to be one that writes), or "
        f"set HF_TOKEN; a gated repository asks for its terms to be accepted on its page; {AGAIN}",
    )


def _by_status(where: object, error: HfHubHTTPError) -> Exception:
    status = getattr(error.response, "status_code", 0)
    if status == 404:
        return missing(where)
    if status in (409, 412):
        return Refused(
            f"{where} was changed by somebody else meanwhile",
            remedy="run the same command again",
        )
    if 400 <= status < 500 and status not in MAY_PASS:
        return refused(where, status)
    return Trouble(f"status {status}")


@contextmanager
def in_words(where: object) -> Iterator[None]:
    """Turns the errors of the Hub's client into ours: raises `Missing`, `Refused` and `Trouble`,
    and `OutputError` where the disk of its cache is full."""
    try:
        yield
    except HfHubHTTPError as error:
        raise _by_status(where, error) from error
    except LocalEntryNotFoundError as error:  # it did not get to know whether it is there
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise _by_status(where, cause) from error
        raise _trouble(cause or error) from error
    except FileNotFoundError as error:
        raise missing(where) from error
    except _OF_THE_WIRE as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise of_the_system(error) or error from error
        raise _trouble(error) from error
    except RuntimeError as error:  # what the client raises where a file could not be sent
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _by_status(where, error.__cause__) from error
        raise _trouble(error.__cause__ or error) from error


def _trouble(error: BaseException) -> Trouble:
    return Trouble(without_secrets(f"{type(error).__name__}: {error}"))
