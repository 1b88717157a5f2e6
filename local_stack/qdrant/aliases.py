"""A list of alias actions, done in one step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from local_stack.qdrant.errors import AlreadyExists, BadRequest, CollectionNotFound, NotFound
from local_stack.qdrant.fields import Fields

if TYPE_CHECKING:
    from local_stack.qdrant.catalog import State


def change_aliases(state: State, actions: list[object]) -> State:
    """`state` after `actions`, in order. Raises before anything changes where one is wrong."""
    aliases = dict(state.aliases)
    for action in actions:
        fields = Fields(action, "an alias action")
        for name, apply in _ACTIONS.items():
            if name in fields:
                apply(Fields(fields.any(name), name), aliases, state)
                break
        else:
            raise BadRequest("an alias action must be create_alias, delete_alias or rename_alias")
        fields.done()
    return replace(state, aliases=aliases)


def _create(fields: Fields, aliases: dict[str, str], state: State) -> None:
    collection, alias = fields.need("collection_name", str), fields.need("alias_name", str)
    fields.done()
    if collection not in state.collections:
        raise CollectionNotFound(collection)
    if alias in state.collections:
        raise AlreadyExists(f"Collection `{alias}` already exists!")
    aliases[alias] = collection


def _delete(fields: Fields, aliases: dict[str, str], _state: State) -> None:
    aliases.pop(fields.need("alias_name", str), None)
    fields.done()


def _rename(fields: Fields, aliases: dict[str, str], state: State) -> None:
    old, new = fields.need("old_alias_name", str), fields.need("new_alias_name", str)
    fields.done()
    if old not in aliases:
        raise NotFound(f"Alias {old} does not exists!")
    if new in state.collections:
        raise AlreadyExists(f"Collection `{new}` already exists!")
    aliases[new] = aliases.pop(old)


_ACTIONS = {"create_alias": _create, "delete_alias": _delete, "rename_alias": _rename}
