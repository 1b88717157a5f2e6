"""Ports, the state folder, the order of services and what readiness reads from logs."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.config import load_settings
from core.errors import MissingDependency
from local_stack import debian, mongo, rabbitmq
from local_stack.errors import PortsFixed, PortTaken, UnknownService
from local_stack.install import install_missing
from local_stack.layout import Layout
from local_stack.logs import print_logs
from local_stack.own_services import overridden
from local_stack.ports import Ports, can_bind, holder, require_free
from local_stack.service import LogView, waves
from local_stack.stack import LocalStack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_free_ports_are_different_and_free() -> None:
    """Free ports are all different, bindable, and outside the range of outgoing connections."""
    values = list(asdict(Ports.free()).values())
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(values)) == len(values)
    assert all(can_bind(port) and port < lowest for port in values)


def test_a_base_port_gives_the_ports_that_follow() -> None:
    """`--base-port` numbers the services on from one port."""
    ports = Ports.from_base(20000)
    assert (ports.mongo1, ports.amqp, ports.epmd, ports.cdc_http) == (20000, 20003, 20009, 20010)


def test_ports_must_differ() -> None:
    """Two services cannot be given one port."""
    with pytest.raises(ValueError, match="different"):
        Ports(qdrant=5673)


def test_a_taken_port_names_its_holder(listener: socket.socket) -> None:
    """The error for a taken port says which port, for what, who holds it and what to do."""
    port = listener.getsockname()[1]
    with pytest.raises(PortTaken, match=rf"port {port} \(AMQP of mq\) is taken by .*pid") as caught:
        require_free(port, "AMQP", "mq")
    assert f"pid {os.getpid()}" in str(caught.value)
    assert "--base-port" in str(caught.value)


def test_a_free_port_has_no_holder() -> None:
    """Nobody is accused of holding a port on which nobody listens."""
    assert holder(Ports.free().amqp) is None


def test_a_stack_keeps_its_ports(tmp_path: Path) -> None:
    """A state folder gives the same ports and node name again, and refuses others."""
    place = Layout.at(tmp_path)
    first = place.recall(Ports.free())
    place.remember(first)
    assert place.recall(None) == first
    with pytest.raises(PortsFixed, match="other ports"):
        place.recall(Ports.default())


def test_a_start_that_started_nothing_pins_no_ports(
    tmp_path: Path, listener: socket.socket
) -> None:
    """A taken port ends a first start, and the next may be on other ports."""
    place = Layout.at(tmp_path)
    taken = replace(Ports.free(), qdrant=listener.getsockname()[1])
    with pytest.raises(PortTaken):
        LocalStack(place, ports=taken, services=["qdrant"]).up()
    assert place.memory() is None
    assert LocalStack(place, ports=Ports.default()).ports == Ports.default()


def test_variables_that_the_stack_overrides_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set to something else is named, from .env and the shell; the same is not."""
    fixed = LocalStack(Layout.at(tmp_path)).environment()
    for name in (*fixed, "QDRANT_CLOUD_URL", "LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("QDRANT_DATABASE_HOST=qdrant.example\nRABBITMQ_HOST=localhost\n")
    monkeypatch.setenv("MONGO_DATABASE_HOST", "mongodb://elsewhere")
    monkeypatch.setenv("USE_QDRANT_CLOUD", "0")
    monkeypatch.setenv("LOG_FORMAT", "auto")
    assert overridden(fixed, env_file) == ["MONGO_DATABASE_HOST", "QDRANT_DATABASE_HOST"]
    assert overridden(fixed, tmp_path / "none") == ["MONGO_DATABASE_HOST"]


def test_looking_writes_nothing(tmp_path: Path) -> None:
    """Creating a stack object, its status and `down` leave a new folder as it was."""
    stack = LocalStack(Layout.at(tmp_path / "new"))
    stack.status()
    stack.down()
    assert not (tmp_path / "new").exists()


def test_services_start_after_what_they_need(tmp_path: Path) -> None:
    """Each service comes after those it needs, and all of a stack are in the order."""
    stack = LocalStack(Layout.at(tmp_path))
    order = stack.services
    assert order.index("epmd") < order.index("mq") < order.index("data_cdc")
    assert order.index("qdrant") < order.index("feature_pipeline")
    assert len(order) == 9


def test_a_circle_of_needs_is_refused(tmp_path: Path) -> None:
    """Services that need each other are an error, not an endless wait."""
    stack = LocalStack(Layout.at(tmp_path))
    one = stack._spec("mq")
    with pytest.raises(ValueError, match="circle"):
        waves([type(one)(**{**vars(one), "needs": ("mq",)})])


def test_groups_stand_for_their_members(tmp_path: Path) -> None:
    """`mongo` is three members, `mq` brings its port mapper, and an unknown name is refused."""
    assert LocalStack(Layout.at(tmp_path), services=["mongo"]).services == mongo.MEMBERS
    assert LocalStack(Layout.at(tmp_path), services=["mq"]).services == ("epmd", "mq")
    with pytest.raises(UnknownService, match=r"'redis'.*qdrant"):
        LocalStack(Layout.at(tmp_path), services=["redis"])


def test_the_default_stack_is_what_services_expect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the default stack means what the settings mean without any."""
    for name in LocalStack(Layout.at(tmp_path)).environment():
        monkeypatch.delenv(name, raising=False)
    plain = load_settings(env_file=None)
    for name, value in LocalStack(Layout.at(tmp_path)).environment().items():
        monkeypatch.setenv(name, value)
    ours = load_settings(env_file=None)
    assert ours.mongo == plain.mongo
    assert (ours.rabbitmq.port, ours.crawlers) == (plain.rabbitmq.port, plain.crawlers)
    assert ours.cdc == plain.cdc
    assert ours.qdrant.url == plain.qdrant.url.replace("localhost", "127.0.0.1")


def test_readiness_reads_the_present_run_only(tmp_path: Path) -> None:
    """An event that an earlier process logged does not make the next one ready."""
    log = tmp_path / "data_cdc.log"
    line = json.dumps({"event": "cdc.streaming"}) + "\n"
    log.write_text(line)
    assert LogView(log).has_event("cdc.streaming")
    assert not LogView(log, start=len(line)).has_event("cdc.streaming")
    assert not LogView(log).has_event("cdc")


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    """At a start a log over the limit becomes `.1`, and a short one is appended to."""
    place = Layout.at(tmp_path)
    place.open_log("mq", limit=10).write_text("short")
    assert place.open_log("mq", limit=10).read_text() == "short"
    place.log("mq").write_text("longer than ten")
    assert place.open_log("mq", limit=10).read_text() == ""
    assert (tmp_path / "logs" / "mq.log.1").read_text() == "longer than ten"


def test_logs_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines of several logs carry the name of their service."""
    (tmp_path / "a").write_text("1\n2\n3\n")
    (tmp_path / "b").write_text("4\nunfinished")
    print_logs({"mq": tmp_path / "a", "mongo": tmp_path / "b"}, lines=2, follow=False)
    assert capsys.readouterr().out == "mq    | 2\nmq    | 3\nmongo | 4\n"


def test_a_missing_rabbitmq_says_how_to_get_it(tmp_path: Path) -> None:
    """Without RabbitMQ the error names the package and the command that installs it."""
    with pytest.raises(MissingDependency, match=r"apt-get install rabbitmq-server.*--install-mis"):
        rabbitmq.server_script([str(tmp_path)])


def test_the_wrapper_of_debian_is_not_taken_for_the_server(tmp_path: Path) -> None:
    """Debian's wrapper, which changes user and folders, is passed over for the script behind it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "sbin").mkdir()
    for name in ("rabbitmq-script-wrapper", "rabbitmq-server", "rabbitmq-env"):
        (tmp_path / "real" / name).touch()
    (tmp_path / "sbin" / "rabbitmq-server").symlink_to(tmp_path / "real/rabbitmq-script-wrapper")
    found = rabbitmq.server_script([str(tmp_path / "sbin"), str(tmp_path / "real")])
    assert found == str(tmp_path / "real" / "rabbitmq-server")


def test_a_named_mongod_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONGOD_BINARY that names no program is an error, not a reason to take another."""
    monkeypatch.setenv("MONGOD_BINARY", "/nowhere/mongod")
    with pytest.raises(MissingDependency, match="MONGOD_BINARY=/nowhere/mongod"):
        mongo.mongod_binary()


def test_a_mongod_without_its_libraries_is_no_mongod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mongod that the loader refuses is reported with the library and the package it is in."""
    binary = tmp_path / "mongod"
    said = "mongod: error while loading shared libraries: libcurl.so.4: cannot open"
    binary.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 127\n")
    binary.chmod(0o755)
    monkeypatch.setenv("MONGOD_BINARY", str(binary))
    with pytest.raises(MissingDependency, match=r"libcurl\.so\.4.*apt-get install libcurl4"):
        mongo.mongod_binary()


def test_nothing_is_installed_where_nothing_is_missing() -> None:
    """Services that need no program of the system cause no call of a package manager."""
    said: list[str] = []
    install_missing(["qdrant", "data_cdc"], said.append)
    assert said == []


def test_packages_do_not_start_services(tmp_path: Path) -> None:
    """While packages are installed a policy refuses to start services; then it is gone."""
    policy = tmp_path / "policy-rc.d"
    with debian.services_stay_down(policy):
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text()
    assert not policy.exists()


def test_a_policy_of_the_machine_stays(tmp_path: Path) -> None:
    """A policy that was there before is neither changed nor removed."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("theirs")
    with debian.services_stay_down(policy):
        assert policy.read_text() == "theirs"
    assert policy.read_text() == "theirs"
