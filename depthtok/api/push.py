"""push: a codebook, a code store or a policy to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from depthtok.api.parameters import Flag, Positional
from depthtok.errors import ConfigError
from depthtok.log import warn
from depthtok.signals import stoppable

if TYPE_CHECKING:
    from depthtok.remote.repository import Repository
    from pipelines.push.publication import Publication
    from pipelines.push.sending import Pushed


@dataclass(frozen=True)
class PushPlan:
    """What would be sent: the files' names, and the card."""

    url: str
    what: str
    files: tuple[str, ...]
    card: str


def push(
    path: Annotated[Path, Positional("PATH", "a codebook, a CodeStore, a run or a checkpoint")],
    to: Annotated[str, Positional("OWNER/NAME", "repository on the Hub, made if it is not there")],
    revision: Annotated[str, "branch to push to, made if it is not there"] = "",
    private: Annotated[bool, "make the repository private"] = False,
    repo_type: Annotated[
        Literal["", "model", "dataset"],
        Flag("model or dataset; as it fits without it: codes are a dataset, others a model"),
    ] = "",
    licence: Annotated[str, "its licence, as the Hub names it (cc-by-4.0); else unknown"] = "",
    made_from: Annotated[
        list[Path] | None, "stores it was made from that lie elsewhere now; repeatable"
    ] = None,
    plan: Annotated[bool, "print the card and the files, and send nothing"] = False,
) -> Pushed | PushPlan:
    """Push a codebook, a code store or a policy to the Hugging Face Hub, with a card.

    It is verified first. The card says what is recorded and nothing else: data sets and licences,
    depth estimator, quality, seeds, settings. Given again, a push goes on. Log in by `hf auth
    login`, or set HF_TOKEN. The result is named hf://OWNER/NAME wherever a path is taken.

    Example: depthtok push runs/codebook me/my-codebook --private
    """
    from depthtok.remote.objects import require_package
    from depthtok.remote.repository import Repository

    require_package("huggingface_hub", "hf", "push")
    with stoppable():
        name = to.removeprefix("hf://")
        what = _what(path)
        kind = repo_type or ("dataset" if what == "codes" else "model")
        repository = Repository(name, kind, revision)
        publication = _publication(what, path, kind, licence, made_from or [])
        if plan:
            return _plan(publication, repository)
        for line in publication.warnings:
            warn(line)
        from pipelines.push.sending import send

        return send(publication, repository, private=private)


def _what(path: Path) -> str:
    """What lies at `path`: a codebook, codes or a policy. Raises `ConfigError` for other things."""
    from depthtok.remote.location import require_local
    from depthtok.stores.spec import read_spec
    from pipelines.inspect.kinds import kind_of, not_known

    require_local(path, "what is pushed")
    kind = "run" if (path / "state.json").is_file() else kind_of(path)
    if kind == "run":
        return "policy"
    if kind == "codebook":
        return kind
    if kind == "store" and read_spec(path).type == "codes":
        return "codes"
    if kind is None:
        raise not_known(path)
    named = f"a store of {read_spec(path).type}" if kind == "store" else f"of the kind {kind}"
    raise ConfigError(
        f"{path} is {named}: codebooks, code stores and policies are pushed",
        remedy="`depthtok copy STORE hf://datasets/OWNER/NAME/FOLDER` copies any store",
    )


def _publication(
    what: str, path: Path, kind: str, licence: str, made_from: list[Path]
) -> Publication:
    """The thing at `path` as a publication; each kind loads what it needs alone."""
    from importlib import import_module

    from pipelines.provenance import opened

    module = {"codebook": "codebooks", "codes": "code_stores", "policy": "policies"}[what]
    make = import_module(f"pipelines.push.{module}").publication
    publication: Publication = make(path, kind, licence, opened(made_from))
    return publication


def _plan(publication: Publication, repository: Repository) -> PushPlan:
    files = [*publication.parts, *publication.last]
    names = tuple(file.name for file in files)
    card = publication.card.text(repository.url)
    return PushPlan(repository.url, publication.what, names, card)
