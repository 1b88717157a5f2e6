"""The ports of one stack, how free ones are found, and who holds one that is taken."""

from __future__ import annotations

import random
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from local_stack.errors import PortTaken
from local_stack.process import command_name, owner_of

_LOWEST, _HIGHEST = 10_000, 32_000
_LISTEN = "0A"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where each service of a stack listens, always on 127.0.0.1.

    The defaults are those of docker-compose.yml, which publishes all but qdrant_grpc, erlang
    and epmd.
    """

    mongo1: int = 30001
    mongo2: int = 30002
    mongo3: int = 30003
    amqp: int = 5673
    management: int = 15673
    qdrant: int = 6333
    crawlers: int = 9010
    qdrant_grpc: int = 6334
    erlang: int = 25673
    epmd: int = 14369
    cdc_http: int = 9464

    def __post_init__(self) -> None:
        values = list(asdict(self).values())
        if len(set(values)) != len(values) or not all(0 < port < 65536 for port in values):
            raise ValueError(f"ports must be different and between 1 and 65535: {values}")

    @classmethod
    def default(cls) -> Self:
        """The ports of docker-compose.yml."""
        return cls()

    @classmethod
    def from_base(cls, base: int) -> Self:
        """`base` and the ports that follow it, in the order of the fields."""
        return cls(**{field.name: base + at for at, field in enumerate(fields(cls))})

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody listens on now.

        They lie below the kernel's range for outgoing connections, so that none of those
        takes one while a service restarts.
        """
        names = [field.name for field in fields(cls)]
        return cls(**dict(zip(names, free_ports(len(names)), strict=True)))


def free_ports(count: int) -> list[int]:
    """`count` different ports that can be bound on this machine now."""
    found: list[int] = []
    candidates = random.Random().sample(range(_LOWEST, _highest()), 2000)  # noqa: S311 - no secret
    for port in candidates:
        if can_bind(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {_LOWEST} and {_highest()}")


def _highest() -> int:
    try:
        ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]
    except (OSError, IndexError):
        return _HIGHEST
    return max(min(_HIGHEST, int(ephemeral)), _LOWEST + 4000)


def can_bind(port: int) -> bool:
    """Whether a service could listen on `port` now; connections that linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something accepts connections on `port` of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require_free(port: int, purpose: str, service: str) -> None:
    """Raise PortTaken, which says by whom where /proc tells."""
    if not can_bind(port):
        raise PortTaken(port, purpose, service, holder(port))


def holder(port: int) -> str | None:
    """The program that listens on `port` as a phrase, or None where the system does not tell."""
    inodes = _listening_inodes(port)
    for folder in Path("/proc").glob("[0-9]*"):
        if inodes and _holds(folder, inodes):
            return _describe(int(folder.name))
    return None


def _describe(pid: int) -> str:
    owner = owner_of(pid)
    stack = f", of the stack in {owner}" if owner else ""
    return f"{command_name(pid)} (pid {pid}{stack})"


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
        except OSError:
            continue
        found |= {
            r[9] for r in rows if r[3] == _LISTEN and int(r[1].rpartition(":")[2], 16) == port
        }
    return found


def _holds(process: Path, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        return any(str(link.readlink()) in wanted for link in (process / "fd").iterdir())
    except OSError:
        return False
