"""A RabbitMQ node of the stack's own, beside any node that the system runs.

Its name, ports, data, cookie and port mapper (epmd) are its own, and it reads nothing
below /etc/rabbitmq. Debian's `rabbitmq-server` on the PATH is a wrapper that changes
to the user `rabbitmq` and the system's folders; the script behind it does neither.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MissingDependency
from local_stack.errors import StackError
from local_stack.ports import accepts
from local_stack.service import Context, LogView, ServiceSpec, bare_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_KNOWN_FOLDERS = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin", "/usr/sbin")


def rabbitmq_specs(context: Context) -> list[ServiceSpec]:
    """The node and its port mapper."""
    return [_epmd(context), _node(context)]


def server_script(folders: Sequence[str] | None = None) -> str:
    """The real rabbitmq-server script; its folder holds rabbitmqctl too.

    Looks in the folder RABBITMQ_HOME/sbin, on the PATH and where packages put it.
    """
    home = os.environ.get("RABBITMQ_HOME")
    path = os.environ.get("PATH", "").split(os.pathsep)
    for folder in folders or [*([f"{home}/sbin"] if home else []), *path, *_KNOWN_FOLDERS]:
        script = (Path(folder) / "rabbitmq-server").resolve()
        if script.name == "rabbitmq-server" and (script.parent / "rabbitmq-env").exists():
            return str(script)
    raise MissingDependency(
        "RabbitMQ (rabbitmq-server)",
        "On Debian and Ubuntu: `apt-get install rabbitmq-server`, or as root "
        "`python -m local_stack up --install-missing`, which does so without starting "
        "the system's node. Elsewhere put its sbin folder on the PATH.",
    )


def control_environment(context: Context) -> dict[str, str]:
    """The environment in which rabbitmqctl and its kin speak to this node."""
    folder = context.layout.data("mq")
    return {
        **bare_environment(folder),
        "ERL_EPMD_PORT": str(context.ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": context.node,
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
    }


def _epmd(context: Context) -> ServiceSpec:
    port = context.ports.epmd
    folder = context.layout.data("mq")
    return ServiceSpec(
        name="epmd",
        command=lambda: [_program("epmd"), "-port", str(port), "-address", "127.0.0.1"],
        address=f"127.0.0.1:{port}",
        ports={"Erlang's port mapper": port},
        folder=folder,
        environment=bare_environment(folder),
        ready=lambda _log: None if accepts(port) else "it does not accept connections",
        stop_timeout=5,
    )


def _node(context: Context) -> ServiceSpec:
    ports = context.ports
    management = {"management": ports.management} if context.options.management else {}
    return ServiceSpec(
        name="mq",
        command=_command,
        address=f"amqp://localhost:{ports.amqp}",
        ports={"AMQP": ports.amqp, "Erlang distribution": ports.erlang, **management},
        folder=context.layout.data("mq"),
        environment=_node_environment(context),
        ready=partial(_problem, context),
        prepare=partial(_write_configuration, context),
        needs=("epmd",),
        start_timeout=120,
        stop_timeout=40,
    )


def _command() -> list[str]:
    _program("erl")
    return [server_script()]


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        server_script()  # explains how to get both, where neither is there
        raise MissingDependency(f"Erlang ({name})", "Put the folder that holds it on the PATH.")
    return found


def _node_environment(context: Context) -> dict[str, str]:
    folder = context.layout.data("mq")
    return {
        **control_environment(context),
        "RABBITMQ_DIST_PORT": str(context.ports.erlang),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_MNESIA_BASE": str(folder / "db"),
        "RABBITMQ_PID_FILE": str(folder / "node.pid"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def _write_configuration(context: Context) -> None:
    folder = context.layout.data("mq")
    for part in ("db", "log", "generated", "conf.d"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    # Without a file of that name the scripts would read /etc/rabbitmq/rabbitmq-env.conf.
    (folder / "rabbitmq-env.conf").write_text("")
    plugins = ["rabbitmq_consistent_hash_exchange"]
    if context.options.management:
        plugins.append("rabbitmq_management")
    (folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
    configuration = folder / "rabbitmq.conf"
    configuration.touch(mode=0o600)
    configuration.write_text("\n".join(_configuration(context)) + "\n")


def _configuration(context: Context) -> list[str]:
    lines = [
        f"listeners.tcp.1 = 127.0.0.1:{context.ports.amqp}",
        f"default_user = {context.options.rabbitmq_username}",
        f"default_pass = {context.options.rabbitmq_password}",
        "log.console = true",
        "log.console.level = info",
        "log.file = false",
        # The default of 512 MB is also what the node then holds in memory.
        "raft.wal_max_size_bytes = 67108864",
    ]
    if context.options.management:
        lines += ["management.tcp.ip = 127.0.0.1"]
        lines += [f"management.tcp.port = {context.ports.management}"]
    return lines


def _problem(context: Context, _log: LogView) -> str | None:
    """Ready is: a client may log in."""
    import pika
    from pika.exceptions import AMQPError, ProbableAuthenticationError

    if not accepts(context.ports.amqp):
        return "it does not accept connections"
    options = context.options
    login = pika.PlainCredentials(options.rabbitmq_username, options.rabbitmq_password)
    try:
        pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", context.ports.amqp, credentials=login, blocked_connection_timeout=5
            )
        ).close()
    except ProbableAuthenticationError:
        raise _refused(context) from None
    except (AMQPError, OSError) as error:
        return f"a client could not log in: {error!r}"
    return None


def _refused(context: Context) -> StackError:
    return StackError(
        f"mq refuses the user {context.options.rabbitmq_username!r}. Its data was made with "
        "another RABBITMQ_DEFAULT_USERNAME or RABBITMQ_DEFAULT_PASSWORD: set those, or "
        f"`down` and remove {context.layout.data('mq')} to begin anew."
    )
