"""Which addresses a crawler may reach: every address of a host must be public.

Python 3.11's `is_global` calls several internal forms global, so addresses that
wrap an IPv4 address are unwrapped first, and multicast and site-local are named.
The address is judged, never its spelling: 127.0.0.1, 2130706433, 0x7f000001 and
0177.0.0.1 are one.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from crawlers.results import FetchFailed, LinkRefused

_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSED = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments, with a cloud's metadata service among them
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # NAT64 of a local network
        "fec0::/10",  # site-local, deprecated but routed in some places
        "100::/64",
        "2001:db8::/32",
        "5f00::/16",
    )
)
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}")
CONNECT_TIMEOUT = 10.0


class Resolver(Protocol):
    """Names to addresses. May block; raises OSError where there is no answer."""

    def __call__(self, host: str, port: int) -> list[str]: ...


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system once, for both families, in its order of preference."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet."""
    try:
        parsed = ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    inner = _unwrap(parsed)
    if inner is not None:
        return is_public(str(inner))
    if parsed.is_multicast or parsed.is_reserved or not parsed.is_global:
        return False
    return not any(parsed in network for network in _REFUSED)


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv6 one: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def literal_address(host: str) -> str | None:
    """The address that a host text is, in any spelling the system accepts; None for a name."""
    try:
        return str(ip_address(host.strip("[]").split("%", 1)[0]))
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host.lower()):
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        raise LinkRefused(f"{host!r} is no host name and no address.") from None


def public_addresses(host: str, port: int, resolver: Resolver = system_resolver) -> list[str]:
    """Resolve once; every address must be public. The text of errors names no address.

    Raises FetchFailed where the name does not resolve, LinkRefused where it leads inside.
    """
    try:
        addresses = resolver(host, port)
    except (OSError, UnicodeError) as error:
        raise FetchFailed(f"The host name {host!r} does not resolve.") from error
    if not addresses or not all(is_public(address) for address in addresses):
        raise LinkRefused(f"{host!r} leads to an internal address, which a crawler never reads.")
    return addresses


def dial(host: str, port: int, resolver: Resolver = system_resolver) -> socket.socket:
    """Connect to one of the addresses that were judged, never to the name again.

    Raises FetchFailed or LinkRefused.
    """
    failure: OSError | None = None
    for address in public_addresses(host, port, resolver):
        try:
            return socket.create_connection((address, port), timeout=CONNECT_TIMEOUT)
        except OSError as error:
            failure = error
    raise FetchFailed(f"{host!r} accepts no connection on port {port}.") from failure
