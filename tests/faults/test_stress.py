"""Documents live their lives while everything that carries them is killed again and again.

`STRESS_SEED=… pytest …` repeats the choices of a run, as far as threads allow it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from console.audit import Report
from local_stack.stack import LocalStack
from tests.cdc_harness import Client, courses, replay
from tests.stress_harness import KINDS, Journal, Keeper, Killer, schedule
from tests.stress_walk import Life, Ref, Walker, lives, states
from tests.stress_watch import Tap, Watch, manifests, wrong_chunks
from tests.twin_harness import Twin, open_twin, until

pytestmark = [pytest.mark.stack, pytest.mark.model]

_WRITERS = 4
_SETTLE_S = 120
_SHOWN = 5
_SENTINEL = "the last one"
# Half of the writers: a primary that dies leaves them without an answer.
_IMPATIENT: Mapping[str, Any] = {"w": "majority", "retryWrites": False}


@dataclass(frozen=True)
class Form:
    """How long and how hard. `rate` is writes a second, of all writers together."""

    documents: int
    seconds: float
    kill_every: float
    rate: float


@pytest.fixture
def twin(twin_env: dict[str, str], tmp_path: Path) -> Iterator[Twin]:
    """A twin whose services have not started yet."""
    with open_twin({**twin_env, "CDC_HTTP_PORT": "0"}, tmp_path) as twin:
        yield twin


@pytest.mark.fault(1, 3, 16, 22)
@pytest.mark.timeout(600)
def test_a_hundred_documents_survive_a_kill_of_each_kind(twin: Twin, infra: LocalStack) -> None:
    """Each kind of service dies at least once under load: nothing lost, stale or resurrected."""
    Trial(twin, infra, Form(documents=100, seconds=20, kill_every=4, rate=25)).run()


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_documents_survive_ninety_seconds_of_kills(
    twin: Twin, infra: LocalStack
) -> None:
    """A kill every five seconds, at random: nothing lost, stale or resurrected."""
    Trial(twin, infra, Form(documents=1000, seconds=90, kill_every=5, rate=70)).run()


class Trial:
    """One run: walk and kill, settle, then look at everything and tell all that is wrong."""

    def __init__(self, twin: Twin, infra: LocalStack, form: Form) -> None:
        self.twin = twin
        self.form = form
        self.seed = int(os.environ.get("STRESS_SEED") or random.SystemRandom().randrange(10**6))
        self.chance = random.Random(self.seed)  # noqa: S311 - a repeatable choice
        self.journal = Journal()
        self.lives = lives(form.documents)
        self.keepers = {
            "data_cdc": Keeper(twin.cdc, self.journal),
            "feature_pipeline": Keeper(twin.pipeline, self.journal),
        }
        self.killer = Killer(infra, self.keepers, self.journal)
        self.figures: dict[str, Any] = {"seed": self.seed}
        self.problems: list[str] = []
        self.offending: dict[Ref, str] = {}

    def run(self) -> None:
        """Fails with seed, figures, kills and the lives of the first offending documents."""
        try:
            with Tap(self.twin).open() as tap:
                with self._kept():
                    until(self._is_ready, "both services", timeout=120)
                    self._walk_and_kill()
                    self._settle()
                self._end_services()
                self._check_documents(tap)
                self._check_logs()
        except BaseException:
            print(self._told())
            raise
        assert not self.problems, self._told()
        assert set(self.killer.count) == set(KINDS)
        print(self._told())

    def _is_ready(self) -> bool:
        return all(keeper.ready for keeper in self.keepers.values())

    @contextmanager
    def _kept(self) -> Iterator[None]:
        for keeper in self.keepers.values():
            keeper.start()
        try:
            yield
        finally:
            for keeper in self.keepers.values():
                keeper.end()

    # -- while it goes on ------------------------------------------------------

    def _walk_and_kill(self) -> None:
        impatient = Client(self.twin.environment["MONGO_DATABASE_HOST"], **_IMPATIENT)
        databases = [self.twin.db, impatient[self.twin.db.name]] * (_WRITERS // 2)
        walkers = [self._walker(number, database) for number, database in enumerate(databases)]
        self.watch = Watch(self.twin, self.journal.clock)
        self.watch.start()
        self.journal.note("writing begins")
        with impatient, ExitStack() as ending:
            for walker in walkers:
                walker.start()
                ending.callback(walker.end)
            self._kill_on_schedule()
        self.journal.note("writing has ended")
        outcomes = sum((walker.outcomes for walker in walkers), Counter[str]())
        self.problems += [surprise for walker in walkers for surprise in walker.surprises]
        self.figures |= {"writes": dict(outcomes), "kills": dict(self.killer.count)}

    def _walker(self, number: int, database: Database[dict[str, Any]]) -> Walker:
        return Walker(
            database,
            self.lives[number::_WRITERS],
            self.form.rate / _WRITERS,
            self.seed + number,
            self.journal.clock,
        )

    def _kill_on_schedule(self) -> None:
        begun = time.monotonic()
        victims = schedule(self.chance)
        for number in range(1, int(self.form.seconds / self.form.kill_every) + 1):
            time.sleep(max(0.0, begun + number * self.form.kill_every - time.monotonic()))
            next(filter(self.killer.strike, next(victims)))

    def _settle(self) -> None:
        """Everything is up, and then a last document is sent after all the others."""
        begun = time.monotonic()
        self.killer.rest()
        assert not self.killer.errors, self.killer.errors
        up = time.monotonic()
        self.journal.note("everything is up")
        last = Life("posts", _SENTINEL)
        last.went("insert", 1)
        self.lives.append(last)
        self.twin.db.posts.insert_one({"_id": _SENTINEL, "state": 1, "content": "The end."})
        report = self.twin.report(settle_s=_SETTLE_S)
        self.figures |= {
            "all_up_after_s": round(up - begun, 1),
            "settled_after_s": round(time.monotonic() - up, 1),
        }
        self.journal.note("settled" if report.in_step else "not in step")
        until(lambda: self.twin.queue_depth() == 0, "the queue to be empty")

    def _end_services(self) -> None:
        """Both drain, so what was still on its way has its effect before anybody looks."""
        for service in (self.twin.cdc, self.twin.pipeline):
            status = service.end()
            if status != 0:
                self.problems.append(f"{service.module} ended with status {status} on SIGTERM")
        self.watch.end()
        self.problems += self.watch.violations
        self.figures["readings"] = self.watch.readings

    # -- afterwards ------------------------------------------------------------

    def _check_documents(self, tap: Tap) -> None:
        found = states(self.twin.db)
        expected = {life.ref: life.expected for life in self.lives if life.alive}
        self._compare("MongoDB", expected, found)
        self._take_report(self.twin.report(settle_s=0))
        for ref, problem in wrong_chunks(self.twin.qdrant).items():
            self._blame(ref, f"in Qdrant: {problem}")
        self._check_tombstones(found)
        self._check_messages(tap, found)

    def _check_tombstones(self, found: Mapping[Ref, int]) -> None:
        told = manifests(self.twin.qdrant)
        for life in self.lives:
            if life.ref not in found and life.state:
                manifest = told.get(life.ref)
                if manifest is None or not manifest.get("deleted"):
                    self._blame(life.ref, "deleted, without a tombstone in Qdrant")

    def _check_messages(self, tap: Tap, found: Mapping[Ref, int]) -> None:
        """What was published is enough by itself to know the final state of everything."""
        received = tap.drain()
        told = {ref: document["state"] for ref, document in replay(received).items()}
        self._compare("the messages", dict(found), told)
        distinct = len({one.message_id for one in received})
        self.figures |= {
            "messages": len(received),
            "duplicates": len(received) - distinct,
            "courses": courses(received),
        }

    def _compare(
        self, where: str, expected: Mapping[Ref, int | None], found: Mapping[Ref, int]
    ) -> None:
        for ref in expected.keys() | found.keys():
            if expected.get(ref) != found.get(ref):
                self._blame(ref, f"{where}: {found.get(ref)} instead of {expected.get(ref)}")

    def _take_report(self, report: Report) -> None:
        for name in ("missing", "stale", "orphaned"):
            for ref in getattr(report, name):
                self._blame(ref, f"{name} in Qdrant")

    def _check_logs(self) -> None:
        self.problems += self.killer.errors
        letters = self.twin.dead_letters()
        if letters:
            self.problems.append(f"{len(letters)} dead letters, the first: {letters[0]}")
        for module, keeper in self.keepers.items():
            if keeper.ended:
                self.problems.append(f"{module} ended by itself: {keeper.ended}")
        self._check_capture()
        self.figures["stale_dropped"] = self.twin.pipeline.text().count("event.stale")

    def _check_capture(self) -> None:
        """It neither missed anything, nor made up for that by reading everything again."""
        log = self.twin.cdc.text()
        if "cdc.gap_declared" in log:
            self.problems.append("data_cdc has declared a gap")
        if (snapshots := log.count('"snapshot.started"')) != 1:
            self.problems.append(f"data_cdc began {snapshots} snapshots")
        state = self.twin.mongo[self.twin.settings.mongo.state_database]
        if parked := list(state["cdc_parked"].find()):
            self.problems.append(f"data_cdc has parked {len(parked)} events: {parked[0]}")

    def _blame(self, ref: Ref, what: str) -> None:
        self.offending.setdefault(ref, what)
        self.problems.append(f"{ref}: {what}")

    def _told(self) -> str:
        """The figures, the journal, what is wrong, and the lives behind it."""
        stories = {life.ref: life.story for life in self.lives}
        lines = [f"STRESS_SEED={self.seed}", str(self.figures), *self.journal.lines]
        lines += [f"{len(self.problems)} problems", *self.problems[: 4 * _SHOWN]]
        for ref in list(self.offending)[:_SHOWN]:
            lines += [f"the life of {ref}:", *(f"    {line}" for line in stories.get(ref, []))]
        return "\n".join(lines)
