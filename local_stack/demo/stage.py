"""What the demo plays on: a stack on free ports, the sample site, and clients of both."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from console.audit import Report, audit
from core.config import Settings, load_settings
from core.embedding import Embedder, load_embedder
from core.mongo import Client, connect
from core.qdrant.client import client_of
from core.qdrant.schema import cleaned_name, family_of
from core.rag import Hit, Query, Retriever
from local_stack.demo.telling import Telling
from local_stack.sample_site import SampleSite, sample_site
from local_stack.service import Options
from local_stack.stack import EVERYTHING, running_stack

_CRAWL_TIMEOUT_S = 60
_INVOCATIONS = "/2015-03-31/functions/function/invocations"


@dataclass(frozen=True)
class Stage:
    """Everything the story needs. Clients are open for as long as the stage is."""

    settings: Settings
    site: SampleSite
    mongo: Client
    qdrant: QdrantClient
    retriever: Retriever

    def crawl(self, link: str) -> list[dict[str, Any]]:
        """Send `link` to the crawlers' HTTP service, by the course's call; its results."""
        port = self.settings.crawlers.port
        body = json.dumps({"user": self.site.links.author, "link": link}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{_INVOCATIONS}",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_CRAWL_TIMEOUT_S) as answer:  # noqa: S310
            results: list[dict[str, Any]] = json.load(answer)["results"]
        return results

    def search(self, question: str, limit: int = 5) -> list[Hit]:
        """What a retrieval client finds now."""
        return self.retriever.search(Query(question, limit=limit))

    def committed_ms(self, collection: str, entry: str) -> int | None:
        """When MongoDB committed the state that Qdrant holds, in milliseconds since 1970."""
        match = models.FieldCondition(key="entry_id", match=models.MatchValue(value=entry))
        records, _ = self.qdrant.scroll(
            cleaned_name(family_of(collection)),
            scroll_filter=models.Filter(must=[match]),
            limit=1,
            with_payload=["updated_at"],
        )
        return _milliseconds(records[0].payload or {}) if records else None

    def delete(self, collection: str, entry: str) -> None:
        """Delete a document in MongoDB, as any program might."""
        self.mongo[self.settings.mongo.database][collection].delete_one({"_id": entry})

    def verify(self) -> Report:
        """What `twin verify` says."""
        return audit(self.mongo, self.qdrant, self.settings, settle_s=20)


@contextmanager
def open_stage(folder: Path, telling: Telling) -> Iterator[Stage]:
    """Start everything in `folder`; end everything with the context."""
    with ExitStack() as cleanup, ThreadPoolExecutor(max_workers=1) as background:
        site = cleanup.enter_context(sample_site(folder / "site"))
        telling.say(f"sample site behind {site.proxy_url}")
        model = background.submit(_load_model)
        options = Options(environment=_ways_to(site), management=False)
        stack = cleanup.enter_context(
            running_stack(
                folder / "stack", services=EVERYTHING, options=options, report=telling.say
            )
        )
        settings = _settings(stack.environment())
        mongo = connect(settings.mongo)
        cleanup.callback(mongo.close)
        qdrant = client_of(settings.qdrant)
        cleanup.callback(qdrant.close)
        retriever = Retriever(qdrant, settings.qdrant, _result(model))
        yield Stage(settings, site, mongo, qdrant, retriever)


def _ways_to(site: SampleSite) -> dict[str, str]:
    return {"CRAWLER_PROXY": site.proxy_url, "CRAWLER_CA_FILE": str(site.ca_file)}


def _settings(environment: Mapping[str, str]) -> Settings:
    os.environ.update(environment)
    return load_settings(None)


def _load_model() -> Embedder:
    return load_embedder(load_settings(None).embedding)


def _result(model: Future[Embedder]) -> Embedder:
    return model.result(timeout=120)


def _milliseconds(payload: Mapping[str, Any]) -> int | None:
    stamp = payload.get("updated_at")
    return int(datetime.fromisoformat(stamp).timestamp() * 1000) if stamp else None
