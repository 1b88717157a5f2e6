"""Transforms one after another: each takes an event and gives events, one event, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import PoisonError
from core.events import ChangeEvent, Op

Transform = Callable[[ChangeEvent], ChangeEvent | Iterable[ChangeEvent] | None]
"""A function of the event alone: the same change, replayed, must give the same again.

It changes nothing in place. What has to vanish downstream is told as a delete (`as_delete`);
None tells nothing, and leaves what was told before.
"""


class TransformFailed(PoisonError):
    """A transform raised, or made what nobody could consume: the event is to be set aside.

    The sentence holds nothing of the document.
    """

    def __init__(self, transform: str, problem: str) -> None:
        self.transform = transform
        super().__init__(
            f"the transform {transform} {problem}", reason="transform", stage=transform
        )


@dataclass(frozen=True)
class Step:
    """One transform, its name in errors, and what it may do to a document.

    `rewrites`: let it travel as another than MongoDB has it. `moves`: under another key or
    collection than its own.
    """

    name: str
    transform: Transform
    rewrites: bool = False
    moves: bool = False


@dataclass(frozen=True)
class Chain:
    """Transforms in the order they apply, for events of `collections`. Empty, it changes nothing.

    Control events do not pass through a chain.
    """

    steps: tuple[Step, ...] = ()
    collections: tuple[str, ...] = ()

    @property
    def may_rewrite(self) -> bool:
        """Whether nobody may read a document from MongoDB in place of the one that travels."""
        return any(step.rewrites for step in self.steps)

    @property
    def may_move(self) -> bool:
        """Whether a document may travel under another key or collection than its own."""
        return any(step.moves for step in self.steps)

    def apply(self, event: ChangeEvent) -> tuple[ChangeEvent, ...]:
        """What is to be sent for `event`, in this order; empty where it is nothing.

        Each has the version and the time of `event`. One has its message id too; several have
        it with `:1`, `:2` and so on behind. Raises TransformFailed.
        """
        if not self.steps:
            return (event,)
        made: tuple[ChangeEvent, ...] = (event,)
        for step in self.steps:
            made = tuple(result for each in made for result in self._results(step, each))
        return _in_place_of(event, made)

    def _results(self, step: Step, event: ChangeEvent) -> tuple[ChangeEvent, ...]:
        try:
            results = _as_tuple(step.transform(event))
        except Exception as error:
            raise TransformFailed(step.name, f"raised {_told(error)}") from error
        for result in results:
            problem = self._problem(result, event)
            if problem:
                raise TransformFailed(step.name, problem)
        return results

    def _problem(self, result: Any, event: ChangeEvent) -> str | None:
        match result:
            case ChangeEvent(db=db) if db != event.db:
                return "made an event for another database, which nobody's queue takes"
            case ChangeEvent(collection=collection) if collection not in self.collections:
                return "made an event for a collection that is not captured"
            case ChangeEvent(op=Op.DELETE, document=None):
                return None
            case ChangeEvent(op=Op.CREATE | Op.UPDATE | Op.READ, document=Mapping()):
                return None
            case ChangeEvent(op=op):
                return f"made an event whose op {op!s} does not fit its document"
            case _:
                return f"gave a {type(result).__name__}, which is no change event"


def as_delete(event: ChangeEvent) -> ChangeEvent:
    """The same key at the same version, told as deleted, and nothing of what it held."""
    return replace(event, op=Op.DELETE, document=None, before=None, update_description=None)


def _as_tuple(result: Any) -> tuple[Any, ...]:
    if result is None:
        return ()
    alone = isinstance(result, ChangeEvent | Mapping | str | bytes)
    return (result,) if alone or not isinstance(result, Iterable) else tuple(result)


def _in_place_of(event: ChangeEvent, made: tuple[ChangeEvent, ...]) -> tuple[ChangeEvent, ...]:
    """Order and identity stay the change's own, whatever a transform did to them."""
    several = len(made) > 1
    return tuple(
        replace(
            each,
            version=event.version,
            version_hint=event.version_hint,
            wall_ms=event.wall_ms,
            message_id=f"{event.message_id}:{number}" if several else event.message_id,
        )
        for number, each in enumerate(made, start=1)
    )


def _told(error: Exception) -> str:
    """What was raised, and where.

    An error's text may quote the document. It is told where it cannot: where it stands in the
    code as it is, or is the sentence of a PoisonError, which is written for this.
    """
    if isinstance(error, PoisonError):
        return str(error)
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    kind = type(error).__name__
    if where is None:
        return kind
    code = where.tb_frame.f_code
    place = f"{kind} at {Path(code.co_filename).name}:{where.tb_lineno}"
    text = error.args[0] if error.args else None
    return f"{place}: {text}" if isinstance(text, str) and text in code.co_consts else place
