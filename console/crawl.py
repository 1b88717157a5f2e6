"""`twin crawl`: links in, documents in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from console.output import console, print_json, print_table
from core.config import Settings

if TYPE_CHECKING:
    from crawlers.results import CrawlResult

PARTIAL_FAILURE = 4


@click.command()
@click.argument("links", nargs=-1, required=True, metavar="LINK...")
@click.option("--user", required=True, help='Whose writing it is: "First Last".')
@click.option("--json", "as_json", is_flag=True, help="A list of results as JSON.")
@click.pass_obj
def crawl(settings: Settings, links: tuple[str, ...], user: str, as_json: bool) -> int:
    """Read each LINK and store what it holds; the same link again updates its document.

    Exit status 4 when at least one link did not end in a stored document.
    """
    from crawlers.service import crawl as crawl_links

    on_result = None if as_json else _announce
    results = crawl_links(links, user, settings, on_result)
    if as_json:
        print_json([result.as_dict() for result in results])
    elif len(results) > 1:
        _show(results)
    return 0 if all(result.status.good for result in results) else PARTIAL_FAILURE


def _announce(result: CrawlResult) -> None:
    console().print(f"{result.status.value:<10} {result.link}")
    if result.reason:
        console().print(f"           {result.reason}", style="dim")


def _show(results: list[CrawlResult]) -> None:
    rows = [(result.status.value, result.collection, result.id, result.link) for result in results]
    print_table("\nResults", ("status", "collection", "document", "link"), rows)
