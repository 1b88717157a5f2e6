"""Which addresses are public, and that nothing else is ever dialled."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import httpx
import pytest

from crawlers.egress import ConnectProxy, guarded_dial
from crawlers.fetch import GuardedTransport
from crawlers.guard import dial, is_public, public_addresses
from crawlers.results import FetchFailed, LinkRefused


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07::1"])
def test_public_addresses_are_public(address: str) -> None:
    """Addresses of the public internet may be reached."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104  # judged, not listened on
        "10.0.0.5",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.192",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:10.0.0.5",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffa",
        "fe80::1%eth0",
        "fec0::1",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "not an address",
    ],
)
def test_internal_addresses_are_not_public(address: str) -> None:
    """Private, local, wrapped and special addresses are refused in every form."""
    assert not is_public(address)


def test_one_internal_answer_refuses_the_host() -> None:
    """A name with a public and an internal address is refused, and the text names neither."""
    with pytest.raises(LinkRefused) as caught:
        public_addresses("two.example", 443, lambda *_: ["93.184.215.14", "10.0.0.5"])
    assert "10.0.0.5" not in str(caught.value)


def test_a_changed_answer_is_not_dialled() -> None:
    """The name is resolved once: an answer that turns internal afterwards is never asked for."""
    answers = iter([["127.0.0.1"]])
    with pytest.raises(LinkRefused):
        dial("rebind.example", 443, lambda *_: next(answers))
    with pytest.raises(StopIteration):
        next(answers)


def test_an_unknown_name_may_work_later() -> None:
    """A name that does not resolve is a failure, not a refusal."""

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror

    with pytest.raises(FetchFailed, match="does not resolve"):
        public_addresses("nowhere.example", 443, unknown)


def test_the_fetcher_connects_judged_addresses_only() -> None:
    """Without a proxy httpx resolves through the guard, so internal names end in a refusal."""
    transport = GuardedTransport(ssl.create_default_context(), lambda *_: ["169.254.169.254"])
    with httpx.Client(transport=transport) as client, pytest.raises(LinkRefused):
        client.get("http://metadata.example/")


def _ask(proxy: ConnectProxy, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(line + b"\r\n\r\n")
        return client.recv(100).split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"CONNECT 127.0.0.1:443 HTTP/1.1", b"403"),
        (b"CONNECT [::1]:443 HTTP/1.1", b"403"),
        (b"CONNECT localhost:80 HTTP/1.1", b"403"),
        (b"CONNECT 8.8.8.8:22 HTTP/1.1", b"403"),
        (b"CONNECT nowhere.invalid:443 HTTP/1.1", b"502"),
        (b"GET http://10.0.0.5/ HTTP/1.1", b"405"),
        (b"nonsense", b"405"),
    ],
)
def test_page_scripts_and_git_cannot_leave_for_inside(line: bytes, answer: bytes) -> None:
    """The door that browser and git use opens to public addresses on web ports only."""
    with ConnectProxy(guarded_dial) as proxy:
        assert answer in _ask(proxy, line)


def test_the_door_relays_both_ways(echo: Callable[[str, int], socket.socket]) -> None:
    """What an allowed connection says is carried unchanged in both directions."""
    with (
        ConnectProxy(echo) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client,
    ):
        client.sendall(b"CONNECT pages.example:443 HTTP/1.1\r\n\r\n")
        assert b"200" in client.recv(100)
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"


@pytest.fixture
def echo() -> Callable[[str, int], socket.socket]:
    """Dials a peer that answers once in capital letters."""
    import threading

    def dialler(host: str, port: int) -> socket.socket:
        ours, theirs = socket.socketpair()

        def answer() -> None:
            with theirs:
                theirs.sendall(theirs.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        return ours

    return dialler
