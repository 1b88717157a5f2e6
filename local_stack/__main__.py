"""`python -m local_stack up | down | status | logs | env | install`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.config import load_settings
from core.errors import TwinError
from local_stack.install import install_missing
from local_stack.layout import Layout
from local_stack.logs import print_logs
from local_stack.own_services import overridden
from local_stack.ports import Ports
from local_stack.service import Options
from local_stack.stack import GROUPS, LocalStack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local_stack.stack import ServiceStatus

PROBLEMS_FOUND = 4
_STOP = "`make local-stop` (`python -m local_stack down`)"
_START = "`make local-start` (`python -m local_stack up`)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status is that of every command of this project."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except TwinError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"interrupted; what has started goes on until {_STOP}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads us, as `head` does, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--state",
        metavar="DIR",
        help="the stack's folder (default: LOCAL_STACK_STATE, else .local)",
    )
    parser = argparse.ArgumentParser(
        prog="python -m local_stack",
        description="The services of docker-compose.yml as plain processes, without Docker.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands.add_parser("up", parents=[shared], help="start what does not run"))
    install = commands.add_parser(
        "install", parents=[shared], help="as root on Debian, install rabbitmq-server if missing"
    )
    install.set_defaults(run=_install)
    down = commands.add_parser("down", parents=[shared], help="end what this stack started")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", parents=[shared], help="show each service")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)
    _add_logs(commands.add_parser("logs", parents=[shared], help="show what services print"))
    env = commands.add_parser("env", parents=[shared], help="print the variables for clients")
    env.set_defaults(run=_env)
    return parser


def _add_up(parser: argparse.ArgumentParser) -> None:
    groups = ", ".join(GROUPS)
    parser.add_argument("--only", metavar="A,B", help=f"these services; groups are {groups}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--base-port", type=_base, metavar="N", help="ports N, N+1, … N+10")
    where.add_argument("--free-ports", action="store_true", help="any free ports")
    parser.add_argument(
        "--install-missing", action="store_true", help="do first what `install` does"
    )
    parser.add_argument(
        "--oplog-mb", type=int, default=512, metavar="N", help="MongoDB's oplog, at a first start"
    )
    parser.set_defaults(run=_up)


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="default: all, ten lines")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--lines", type=int, help="only the last N lines")
    parser.set_defaults(run=_logs)


def _up(given: argparse.Namespace) -> int:
    layout = Layout.at(given.state)
    services = tuple(given.only.split(",")) if given.only else ()
    stack = LocalStack(
        layout,
        ports=_ports(given, layout),
        services=services,
        options=_options(given.oplog_mb),
        report=_say,
    )
    if given.install_missing:
        install_missing(stack.services, _say)
    unused = overridden(stack.environment())
    if unused:
        _say(f"set, but not used by the local stack, which has its own: {', '.join(unused)}")
    stack.up()
    return 0


def _ports(given: argparse.Namespace, layout: Layout) -> Ports | None:
    if given.free_ports and layout.memory() is None:
        return Ports.free()
    base: Ports | None = given.base_port
    return base


def _base(text: str) -> Ports:
    try:
        return Ports.from_base(int(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number from 1 to 65525") from None


def _options(oplog_mb: int = 512) -> Options:
    rabbitmq = load_settings().rabbitmq
    return Options(
        oplog_mb=oplog_mb,
        rabbitmq_username=rabbitmq.username,
        rabbitmq_password=rabbitmq.password.get_secret_value(),
    )


def _install(given: argparse.Namespace) -> int:
    install_missing(LocalStack(Layout.at(given.state)).services, _say)
    return 0


def _down(given: argparse.Namespace) -> int:
    LocalStack(Layout.at(given.state), report=_say).down()
    return 0


def _status(given: argparse.Namespace) -> int:
    rows = LocalStack(Layout.at(given.state)).status()
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    return 0 if all(row.state == "running" for row in rows) else PROBLEMS_FOUND


def _print_table(rows: list[ServiceStatus]) -> None:
    print(f"{'SERVICE':<17} {'STATE':<8} {'PID':>7}  {'SINCE':<20} ADDRESS")
    for row in rows:
        since = datetime.fromtimestamp(row.since, UTC).astimezone() if row.since else None
        when = f"{since:%Y-%m-%d %H:%M:%S}" if since else "-"
        print(f"{row.service:<17} {row.state:<8} {row.pid or '-':>7}  {when:<20} {row.address}")
    if any(row.state == "dead" for row in rows):
        print(f"\nA dead service stays dead until {_START}, which keeps its data.")


def _logs(given: argparse.Namespace) -> int:
    stack = LocalStack(Layout.at(given.state))
    names = [given.service] if given.service else list(stack.services)
    lines = given.lines if given.lines is not None or given.service else 10
    print_logs({name: stack.log_path(name) for name in names}, lines=lines, follow=given.follow)
    return 0


def _env(given: argparse.Namespace) -> int:
    stack = LocalStack(Layout.at(given.state), options=_options())
    for name, value in stack.environment().items():
        print(f"{name}={value}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
