"""What became of a link, and the errors that end a crawl early."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.errors import PoisonError, TransientError


class Status(StrEnum):
    """The answer for one link. Other people's programs read these words."""

    INSERTED = "inserted"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    PREVIEW = "preview"
    BLOCKED = "blocked"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def good(self) -> bool:
        """Whether the store now agrees with the web."""
        return self in _GOOD


_GOOD = {Status.INSERTED, Status.UPDATED, Status.UNCHANGED, Status.DELETED}


@dataclass(frozen=True, kw_only=True)
class CrawlResult:
    """One link's answer. `id` and `collection` are None where nothing is stored."""

    link: str
    status: Status
    reason: str = ""
    collection: str | None = None
    id: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The shape of `results` in HTTP answers and of `--json`."""
        return {
            "link": self.link,
            "status": self.status.value,
            "reason": self.reason,
            "collection": self.collection,
            "id": self.id,
        }


class LinkRefused(PoisonError):
    """A link that the crawler must not, or does not know how to, follow."""

    def __init__(self, sentence: str, *, reason: str = "refused") -> None:
        super().__init__(sentence, reason=reason, stage="link")


class PageBlocked(PoisonError):
    """The site answered with a challenge or a login wall instead of the page."""

    def __init__(self, marker: str) -> None:
        super().__init__(
            f"The site answered with a challenge or login wall ({marker}), not with the page. "
            "Nothing was stored; try later, or from another network.",
            reason="blocked",
            stage="fetch",
        )


class PageGone(PoisonError):
    """The site says that there is nothing at this link (404 or 410)."""

    def __init__(self, status: int) -> None:
        super().__init__(
            f"The site answered {status}: nothing is at this link.",
            reason="not_found",
            stage="fetch",
        )


class PreviewOnly(PoisonError):
    """The page shows the beginning of a text that only members may read."""

    def __init__(self) -> None:
        super().__init__(
            "Only a preview is public; the rest is for members. Nothing was stored. "
            "The author's own export contains the whole text.",
            reason="preview",
            stage="extract",
        )


class PageUnusable(PoisonError):
    """A page was read, but no text worth storing was found in it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, reason="unusable", stage="extract")


class FetchFailed(TransientError):
    """The page could not be read now; it may work later."""


class UserInvalid(PoisonError):
    """A user's name that cannot be resolved to first and last name."""

    exit_status = 2

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, reason="user", stage="user")
