"""`twin verify`: is Qdrant in step with MongoDB?"""

from __future__ import annotations

from functools import partial

import click
from pymongo.errors import PyMongoError

from console.audit import Report, audit
from console.output import console, fail, print_json, print_table
from core.config import Settings
from core.mongo import connect, explain
from core.qdrant.client import client_of

PROBLEMS_FOUND = 4


@click.command()
@click.option(
    "--settle",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds that documents in flight are given to arrive.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="{in_step, checked, missing, stale, orphaned}."
)
@click.pass_obj
def verify(settings: Settings, settle: float, as_json: bool) -> int:
    """Compare MongoDB with Qdrant: exit status 0 only when they are in step.

    A document is missing when Qdrant has none, stale when it has another state or
    other chunks, orphaned when MongoDB has none. What CDC_TRANSFORMS does to documents counts:
    one that a transform fails at is missing or stale until the transform is mended.
    """
    report = run(settings, settle)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    return 0 if report.in_step else PROBLEMS_FOUND


def run(settings: Settings, settle_s: float) -> Report:
    """Compare with clients of this call's own."""
    mongo = connect(settings.mongo, app="twin-verify")
    qdrant = client_of(settings.qdrant)
    try:
        return audit(mongo, qdrant, settings, settle_s, partial(_say_waiting, settle_s))
    except PyMongoError as error:
        raise explain(error, settings.mongo) from error
    finally:
        qdrant.close()
        mongo.close()


def _say_waiting(settle_s: float, count: int) -> None:
    fail(f"waiting up to {settle_s:.0f} s for {count} documents to settle")


def _show(report: Report) -> None:
    if report.in_step:
        console().print(f"In step: {report.checked} documents, none missing, stale or orphaned.")
        return
    problems = [
        (problem, name["type"], name["entry_id"])
        for problem in ("missing", "stale", "orphaned")
        for name in report.as_dict()[problem]
    ]
    print_table(
        f"Not in step: {len(problems)} of {report.checked} documents",
        ("problem", "collection", "document"),
        problems,
    )
