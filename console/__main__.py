"""The `twin` command.

Exit status: 0 good, 1 unexpected, 2 usage or configuration, 3 a service cannot be
reached, 4 partial failure or problems found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from console.crawl import crawl
from console.output import fail
from console.search import search
from console.snapshot import snapshot
from console.status import status
from console.verify import verify
from core.config import load_settings
from core.errors import TwinError
from core.logging import configure_logging

_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llm-twin")
@click.pass_context
def cli(context: click.Context) -> None:
    """Your writing as a vector index that is always in step.

    Each command reads only the environment and .env, and so runs against any
    MongoDB, RabbitMQ and Qdrant. INSTALL_AND_USAGE.md lists the variables.
    """
    settings = load_settings()
    configure_logging("twin", settings.log, sys.stderr)
    context.obj = settings


for command in (crawl, search, snapshot, status, verify):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        result = cli.main(args=arguments, prog_name="twin", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it. Python would complain while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TwinError as error:
        fail(str(error))
        return error.exit_status
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
