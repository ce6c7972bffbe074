"""What `train-vla` says of its data before it trains, and keeps in the run; no command itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from depthtok.errors import ConfigError, StaleStore
from depthtok.log import warn
from depthtok.stores.codebook import Codebook
from depthtok.stores.codes import CodeStore
from depthtok.stores.episodes import EpisodeStore
from depthtok.stores.failures import in_words, left_out
from depthtok.stores.store import Store
from pipelines.train_vla.stores import OpenStores, Targets, member_names
from vla.config import Config
from vla.data.controls import records
from vla.data.dataset import Dataset
from vla.data.member import Member
from vla.training.checkpoint import TrainingState

NORMS = {"action": "data.action_norm", "proprio": "data.proprio_norm"}


def require_actions(episodes: Sequence[EpisodeStore]) -> None:
    """Raises `ConfigError` for episodes without actions, which no policy can learn from."""
    for store in episodes:
        if not store.action_dim:
            films = store.spec.what.get("source") == "videos"
            of = "made of videos or pictures" if films else "of a data set without any"
            raise ConfigError(
                f"the episodes in {store.path} have no actions: they are {of}",
                remedy="they can be annotated and tokenised, no more; a policy needs the episodes "
                "of a data set with actions (RLDS, LeRobot, HDF5), which `depthtok convert` makes",
            )


def rule_of(begun: TrainingState | None) -> str:
    """How episodes are held out: a run that goes on keeps its rule."""
    from depthtok.held_out import BEFORE, KEYED

    return KEYED if begun is None else (begun.notes or {}).get("held_out", {}).get("rule", BEFORE)


def drawn_by(begun: TrainingState | None) -> str:
    """How a part of a data set is drawn: a run that goes on keeps its rule."""
    from vla.data.dataset import BEFORE, SCATTERED

    return SCATTERED if begun is None else (begun.notes or {}).get("drawn", BEFORE)


def check_meaning(members: Sequence[Member], config: Config, begun: TrainingState | None) -> None:
    """Refuses data sets that do not mean the same, and says what cannot be checked. A run that was
    begun before this was checked goes on, with a warning. Raises `ConfigError`."""
    from vla.data import meanings

    by_name = {member.name: member.meaning for member in members}
    try:
        meanings.require_same(by_name, config)
    except ConfigError as error:
        if begun is None:
            raise
        warn(f"{error.problem}; this run was begun before that was checked, and goes on")
    orientations = {member.name: member.orientations(config.data.cameras) for member in members}
    for text in meanings.warnings(by_name, orientations, config):
        warn(text)


def begun_from(
    weights: str | None, learn: Dataset, begun: TrainingState | None
) -> dict[str, str | None]:
    """The weights that a training was started with, as it records them. Says where a run that goes
    on does not use those given, and where weights of ours have learnt another meaning."""
    from vla.weights.pretrained import meanings_of

    if begun is not None:
        first = (begun.notes or {}).get("weights")
        if weights not in (None, first):
            warn(f"--weights {weights} is not used: the run goes on from its own checkpoint")
        return {"weights": first}
    learnt = meanings_of(weights) if weights else {}
    for name, meaning in learn.meanings().items():
        differ = [meaning.differences(other) for other in learnt.values()]
        if differ and all(differ):
            listed = "; ".join(f"{aspect}: {words}" for aspect, words in differ[0].items())
            warn(f"{name} does not mean what {weights} has learnt (data, weights): {listed}")
    return {"weights": weights}


def check_spread(member: Member, config: Config) -> None:
    """Says which columns are constant, and which the normalisation serves badly."""
    from depthtok.stores.extremes import find

    for side, setting in NORMS.items():
        mode = config.data.action_norm if side == "action" else config.data.proprio_norm
        spreads = dict(_spreads(member, side))
        constant = [name for name, spread in spreads.items() if spread.constant]
        if constant:
            warn(f"{member.name}: constant {side} columns, seen as 0: {', '.join(constant)}")
        clipped = [f"{n} (its range is {s.factor:.0f} x)" for n, s in spreads.items() if s.spike]
        if clipped and mode == "q99":
            warn(
                f"{member.name}: {setting} = 'q99' cuts {side} columns off at their quantiles at "
                f"1 % and 99 %: {', '.join(clipped)}; 'bounds' keeps what lies beyond"
            )
        for column, (name, spread) in enumerate(spreads.items() if mode == "bounds" else ()):
            if spread.spike:
                assert isinstance(member.episodes, EpisodeStore)  # as `stores` opened it
                spike = find(member.episodes, side, column, spread.spike)
                warn(
                    f"{member.name}: {side} column {name!r} has {spike}, far beyond the rest (q01 "
                    f"{spread.q01:g}, q99 {spread.q99:g}): by 'bounds', 98 % of the steps share "
                    f"{100 / spread.factor:.2g} % of its range; --set {setting}=q99 cuts it off"
                )


def _spreads(member: Member, side: str) -> Iterator[tuple[str, Any]]:
    """The normalised columns of a data set's actions or states, by name. In place of the others,
    which are not normalised, stands a column that is not unusual."""
    from depthtok.stores.spread import Spread

    columns = getattr(member.statistics, side)
    for index, column in enumerate(getattr(member.meaning, side)):
        plain = side == "action" and index in member.norms.action.keep
        yield column.name, Spread(-1, 1, -1, 1) if plain else Spread.of(columns, index)


def notes(
    learn: Dataset, validation: Dataset | None, book: Codebook | None, begun: TrainingState | None
) -> dict[str, Any]:
    """What a run records of its data: what is unusual in its columns, by which rules samples are
    drawn and episodes held out, and how many of these the codebook learnt from (None: not
    known)."""
    spread: dict[str, Any] = {}
    for member in learn.members:
        for side in NORMS:
            for name, column in _spreads(member, side):
                if column.note:
                    spread.setdefault(member.name, {}).setdefault(side, {})[name] = column.note
    held = {"rule": rule_of(begun), **held_out(learn, validation, book)}
    codes = records(learn.members)
    return {
        "held_out": held,
        "drawn": drawn_by(begun),
        **({"spread": spread} if spread else {}),
        **({"depth_codes": codes} if codes else {}),
    }


def require_same_codes(begun: TrainingState | None, notes: Mapping[str, object]) -> None:
    """Raises `StaleStore` where a run that goes on would be taught other codes than before."""
    before = {} if begun is None else (begun.notes or {}).get("depth_codes", {})
    if begun is not None and before != notes.get("depth_codes", {}):
        raise StaleStore(
            "the codes that stand in for the true ones (data.depth_codes) are drawn otherwise than "
            "when this run was begun",
            remedy="go on with the depthtok and numpy that began it, or choose another --out",
        )


def held_out(learn: Dataset, validation: Dataset | None, book: Codebook | None) -> dict[str, Any]:
    """How many episodes are learnt from and held out; of the latter, in the codebook's training."""
    from vqvae.data.sides import learnt_from

    members = validation.members if validation else ()
    counts: dict[str, Any] = {
        "episodes": sum(len(member.episodes_used) for member in members),
        "learnt_from": sum(len(member.episodes_used) for member in learn.members),
    }
    if book is not None:
        keys = [
            member.episodes.episode(number).key
            for member in members
            for number in member.episodes_used.tolist()
        ]
        counts["in_codebook"] = learnt_from(book.meta, keys)
    return counts


def words(held: dict[str, Any] | None) -> list[str]:
    """The same for people: [] of a run that does not record it."""
    if not held or not held.get("episodes"):
        return []
    total = held["episodes"] + held["learnt_from"]
    line = f"held out: {held['episodes']} of {total} episodes"
    if "in_codebook" not in held:
        return [line]
    learnt = held["in_codebook"]
    if learnt is None:
        return [line + "; whether the codebook was trained on them is not known"]
    if learnt == 0:
        return [line + "; the codebook was trained on none of them"]
    return [
        line + f"; the codebook was trained on {learnt} of them, so depth figures on them flatter "
        "(train it with the same --held-out to change that)"
    ]


def say_origin(store: EpisodeStore, targets: Targets | None) -> None:
    """Says how many episodes failed on the way to the targets, and of how many it is not known
    whether these very episodes are what the targets were made from."""
    from vla.data.member import of_unknown_origin

    if targets is not None and (unknown := of_unknown_origin(targets, store)):
        warn(
            f"{store.path}: the codes of {unknown} parts are of an earlier depthtok: whether they "
            "are of these very frames is not known"
        )
    if failed := in_words(left_out(store if targets is None else targets)):
        warn(f"{store.path}: {failed}")


def failed_episodes(opened: OpenStores) -> dict[str, dict[str, int]]:
    """By data set and stage: how many episodes failed. Without the data sets in which none did."""
    last = opened.targets or opened.episodes
    counts = dict(zip(member_names(opened.episodes), map(left_out, last), strict=True))
    return {name: stages for name, stages in counts.items() if stages}


def tell_what_is_outdated(opened: OpenStores) -> None:
    """Warns of depth and codes that are not of what their sources hold now. Of other pictures than
    the episodes' they are refused later; of other intrinsics, say, a warning is all there is."""
    from depthtok.stores.lineage import outdated

    for target in opened.targets:
        store = target if isinstance(target, CodeStore) else target.source
        for line in outdated(store) if isinstance(store, Store) else ():
            warn(line)
