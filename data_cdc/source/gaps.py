"""What MongoDB's refusals of a change stream mean."""

from __future__ import annotations

from enum import Enum

from pymongo.errors import OperationFailure, PyMongoError

from data_cdc.errors import not_a_replica_set


class Meaning(Enum):
    """What to do about an error of the change stream."""

    RETRY = "wait, and open it again at the same position"
    LOST = "the position is gone from the oplog"
    UNKNOWN = "another filter hides the event of the token: begin at its time"
    OVERSIZE = "the event is larger than a reply may be: ask for it without its document"


# ChangeStreamHistoryLost and InvalidResumeToken; then a token that is no hexadecimal (of what we
# send, only a token can fail to parse) and one that does not decode. CappedPositionLost (136) is
# not among them: the cursor fell off the oplog's end, and opening it again tells whether the
# position did, too.
_LOST = frozenset({286, 260, 9, 50811})
_UNKNOWN = 280
_OVERSIZE = 10334
_NO_REPLICA_SET = 40573


def meaning_of(error: PyMongoError) -> Meaning:
    """Classify an error of the change stream. Raises ConfigurationError where waiting is vain."""
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _NO_REPLICA_SET:
        raise not_a_replica_set()
    if code in _LOST:
        return Meaning.LOST
    if code == _UNKNOWN:
        return Meaning.UNKNOWN
    return Meaning.OVERSIZE if code == _OVERSIZE else Meaning.RETRY
