"""`twin search`: passages that answer a question."""

from __future__ import annotations

import click

from console.output import console, print_json
from core.config import CAPTURABLE, Settings
from core.rag import Hit, Query, Retriever


@click.command()
@click.argument("question")
@click.option("--author", help="Full name or id of the author, in its own case.")
@click.option("--platform", help="For example medium, github.")
@click.option("--type", "kind", type=click.Choice(CAPTURABLE), help="MongoDB collection.")
@click.option("--limit", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A list of hits as JSON.")
@click.pass_obj
def search(
    settings: Settings,
    question: str,
    author: str | None,
    platform: str | None,
    kind: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find passages that answer QUESTION, best first."""
    if not question.strip():
        raise click.UsageError("QUESTION is empty.")
    query = Query(question, author=author, platform=platform, type=kind, limit=limit)
    hits = find(settings, query)
    if as_json:
        print_json([hit.as_dict() for hit in hits])
        return
    if not hits:
        console().print("Nothing found.")
    for rank, hit in enumerate(hits, start=1):
        _show(rank, hit)


def find(settings: Settings, query: Query) -> list[Hit]:
    """Search with a model and a client of this call's own."""
    from core.embedding import load_embedder
    from core.qdrant.client import client_of

    client = client_of(settings.qdrant)
    try:
        return Retriever(client, settings.qdrant, load_embedder(settings.embedding)).search(query)
    finally:
        client.close()


def _show(rank: int, hit: Hit) -> None:
    out = console()
    place = " · ".join(part for part in (hit.type, hit.path, hit.author_full_name) if part)
    out.print(f"{rank}. {hit.score:.3f}  {hit.link or hit.entry_id}")
    out.print(f"   {place}", style="dim")
    out.print(f"   {_excerpt(hit.content)}\n")


def _excerpt(text: str, length: int = 280) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"
