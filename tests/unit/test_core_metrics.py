"""Metrics and health over a real socket, and clients that behave badly."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from core.metrics import Histogram, OperationsServer, new_registry
from local_stack.ports import free_ports


class State:
    """What the probes of a test answer with."""

    def __init__(self) -> None:
        self.problems: dict[str, str | None] = {"loop": None}

    def __call__(self) -> Mapping[str, str | None]:
        return self.problems


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(port: int, state: State) -> Iterator[OperationsServer]:
    with OperationsServer("127.0.0.1", port, new_registry(), live=state, ready=state) as server:
        assert server.serving
        yield server


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Status, content type and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        answer = urllib.request.urlopen(request, timeout=10)  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_metrics_are_those_of_the_registry_and_of_the_process(
    server: OperationsServer, port: int
) -> None:
    """/metrics is readable to Prometheus, and knows the memory of this process."""
    status, content_type, body = get(port, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    assert families["process_resident_memory_bytes"].samples[0].value > 1_000_000
    assert all(name.startswith("process_") for name in families)


def test_a_server_that_asks_for_openmetrics_gets_it(server: OperationsServer, port: int) -> None:
    """Which of the two formats comes is for the Accept header to say."""
    _, content_type, body = get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_health_is_a_status_and_a_reason(server: OperationsServer, port: int, state: State) -> None:
    """All well is 200; one problem is 503, with the sentence of that check."""
    assert get(port, "/livez") == (
        200,
        "application/json",
        '{"status": "ok", "checks": {"loop": "ok"}}\n',
    )
    state.problems = {"leader": None, "rabbitmq": "there is no connection"}
    status, _, body = get(port, "/readyz?verbose")
    assert status == 503
    assert json.loads(body) == {
        "status": "not ready",
        "checks": {"leader": "ok", "rabbitmq": "there is no connection"},
    }


def test_anything_else_is_not_found(server: OperationsServer, port: int) -> None:
    """Other paths are 404, other methods are refused, and the server goes on."""
    assert get(port, "/")[0] == 404
    assert get(port, "/metrics/../etc/passwd")[0] == 404
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"DELETE /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 501")
    assert get(port, "/livez")[0] == 200


def test_a_probe_that_fails_is_an_error_of_that_request(
    server: OperationsServer, port: int, state: State
) -> None:
    """A bug in what answers is 500 and a warning, and ends nothing."""
    state.problems = None  # type: ignore[assignment]
    with capture_logs() as lines:
        assert get(port, "/readyz")[0] == 500
    assert [line["event"] for line in lines] == ["http.answer_failed"]
    assert get(port, "/metrics")[0] == 200


def test_a_connection_ends_with_its_answer(server: OperationsServer, port: int) -> None:
    """Keep-alive is not granted, so that no client holds a thread between scrapes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = b""
        while part := client.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.0 200")


def test_clients_that_say_nothing_keep_nobody_out(server: OperationsServer, port: int) -> None:
    """More silent connections than are served at once, and a scrape is answered all the same."""
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    begun = time.monotonic()
    assert get(port, "/metrics")[0] == 200
    assert cut_off(silent[0])
    assert time.monotonic() - begun < 4, "they were only waited for"
    for client in silent:
        client.close()


def test_a_client_that_dawdles_is_cut_off(port: int, state: State) -> None:
    """A byte now and then does not hold a request open beyond its time."""
    registry = new_registry()
    with (
        OperationsServer("127.0.0.1", port, registry, live=state, ready=state, request_s=1),
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        assert dawdle(client, seconds=20) < 10


def dawdle(client: socket.socket, seconds: float) -> float:
    """Send a byte now and then until the other side has had enough; how long that took."""
    begun = time.monotonic()
    client.settimeout(0.3)
    while (took := time.monotonic() - begun) < seconds:
        try:
            client.sendall(b"G")
            if client.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return took


def cut_off(client: socket.socket) -> bool:
    client.settimeout(5)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_port_0_serves_nothing(state: State) -> None:
    """Who wants no HTTP gets none, without a word."""
    server = OperationsServer("127.0.0.1", 0, new_registry(), live=state, ready=state)
    with capture_logs() as lines, server:
        assert not server.serving
    assert lines == []


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_address_that_cannot_be_had_is_a_warning(host: str, port: int, state: State) -> None:
    """A taken port, or a host that is none, says http.not_served, and the service goes on."""
    with closing(socket.create_server(("127.0.0.1", port))), capture_logs() as lines:
        server = OperationsServer(host, port, new_registry(), live=state, ready=state)
        with server:
            assert not server.serving
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("http.not_served", "warning")
    ]


def test_closing_twice_is_closing_once_and_frees_the_port(port: int, state: State) -> None:
    """After `close` another server may have the port, at once."""
    for _ in range(2):
        server = OperationsServer("127.0.0.1", port, new_registry(), live=state, ready=state)
        with server:
            assert get(port, "/livez")[0] == 200
            server.close()
            assert not server.serving
            with pytest.raises(OSError, match="refused"):
                get(port, "/livez")


def test_registries_know_nothing_of_each_other() -> None:
    """There is no global registry: what one collects, another does not."""

    class Collector:
        def collect(self) -> Iterator[GaugeMetricFamily]:
            yield GaugeMetricFamily("one", "One.", value=1)

    one, other = new_registry(), new_registry()
    one.register(Collector())
    assert isinstance(one, CollectorRegistry)
    assert one.get_sample_value("one") == 1
    assert other.get_sample_value("one") is None


def test_a_histogram_counts_what_is_not_above_each_bound() -> None:
    """Buckets add up to the number of values, and a value on a bound is below it."""
    histogram = Histogram((0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 20):
        histogram.observe(value)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("10.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == pytest.approx(20.65)
