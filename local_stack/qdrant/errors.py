"""What a request can end in, in the words and statuses of Qdrant's REST API.

ApiError
├── BadRequest      400  the request is wrong: change it
├── NotFound        404  the collection, alias or point does not exist
├── AlreadyExists   409  the name is taken
├── EngineFailure   500  the engine failed: look at this server's log
└── NotServed       501  Qdrant serves it, the embedded server does not: use a server
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import TwinError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ApiError(TwinError):
    """An answer other than success. `status` is its HTTP status."""

    status = 500


class BadRequest(ApiError):
    """The request is wrong in itself."""

    status = 400

    def __init__(self, problem: str) -> None:
        super().__init__(f"Wrong input: {problem}")


class NotFound(ApiError):
    """Something that the request names does not exist."""

    status = 404

    def __init__(self, problem: str) -> None:
        super().__init__(f"Not found: {problem}")


class CollectionNotFound(NotFound):
    """No collection and no alias has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Collection `{name}` doesn't exist!")


class AlreadyExists(ApiError):
    """The name of a new collection or alias is taken."""

    status = 409

    def __init__(self, problem: str) -> None:
        super().__init__(f"Wrong input: {problem}")


class EngineFailure(ApiError):
    """The engine failed for a reason that is not the request's."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"Service internal error: {cause}")


class NotServed(ApiError):
    """A part of Qdrant's API that the embedded server leaves out."""

    status = 501

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"Not served: {what}. The embedded Qdrant leaves it out; "
            "a Qdrant server (docker compose) has it"
        )


# The engine raises plain exceptions; these are the beginnings of their sentences.
_CALLER_IS_WRONG = re.compile(
    r"Not existing vector name|Vector dimension error|Wrong usage|No range index"
    r"|No appropriate index|Bad request|Wrong input|Validation failed|Conversion between"
    r"|Malformed|Can't order by|Expected|Unable to|.*[Ii]nvalid"
)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn what `qdrant_edge` raises into the answer that a Qdrant server would give."""
    try:
        yield
    except TwinError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise BadRequest(_first_line(error)) from error
    except Exception as error:
        raise _from_engine(_first_line(error)) from error


def _from_engine(text: str) -> ApiError:
    if text.startswith("No point with id"):
        return NotFound(f"{text} found")
    if "Shard is not initialized" in text:
        return NotFound("the collection was deleted while the request ran")
    if _CALLER_IS_WRONG.match(text):
        return BadRequest(text)
    return EngineFailure(text)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
