"""How our services open a connection to the broker."""

from __future__ import annotations

from functools import partial

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from core.config import RabbitConfig
from core.errors import ConfigurationError, ServiceUnavailable, TwinError

HEARTBEAT_S = 30
_BRIEFLY_S = 10.0

# pika names these for any connection that ends in the handshake, a broker's death among them;
# only the broker's own reply (ACCESS_REFUSED, NOT_ALLOWED) says that it refuses us.
_SUSPECTED = (ProbableAuthenticationError, ProbableAccessDeniedError)
_REFUSALS = ("(403)", "(530)")


def parameters(
    config: RabbitConfig, name: str, *, heartbeat_s: int = HEARTBEAT_S
) -> pika.ConnectionParameters:
    """Connection parameters with a limit on every wait. `name` shows in the broker's UI."""
    return pika.ConnectionParameters(
        host=config.host,
        port=config.port,
        credentials=pika.PlainCredentials(
            config.username, config.password.get_secret_value(), erase_on_connect=False
        ),
        heartbeat=heartbeat_s,
        socket_timeout=5,
        stack_timeout=10,
        connection_attempts=1,
        client_properties={"connection_name": name},
    )


def explain(error: BaseException, config: RabbitConfig) -> TwinError:
    """The error of ours that tells what a failure of pika means for who runs us."""
    if _refuses(error):
        return ConfigurationError(
            "RABBITMQ_DEFAULT_USERNAME",
            f"RabbitMQ at {config.address} refuses user {config.username!r}",
            "Check it and RABBITMQ_DEFAULT_PASSWORD.",
        )
    return ServiceUnavailable("RabbitMQ", config.address, reason_of(error))


def _refuses(error: BaseException) -> bool:
    if isinstance(error, _SUSPECTED):
        return any(code in reason_of(error) for code in _REFUSALS)
    return isinstance(error, AuthenticationError)


def reason_of(error: BaseException) -> str:
    """What a pika error says; many of them say it only in an error that they carry."""
    carried = [getattr(error, "exception", None), *getattr(error, "exceptions", ()), *error.args]
    causes = [cause for cause in carried if isinstance(cause, BaseException)]
    if causes:
        return reason_of(causes[-1])
    text = str(error) or ", ".join(str(argument) for argument in error.args)
    return text or type(error).__name__


def open_blocking(config: RabbitConfig, name: str) -> pika.BlockingConnection:
    """A connection for one caller's thread. Raises ServiceUnavailable or ConfigurationError."""
    try:
        return pika.BlockingConnection(parameters(config, name))
    except (AMQPError, AMQPConnectorException, OSError) as error:
        raise explain(error, config) from error


def open_briefly(config: RabbitConfig, name: str) -> pika.BlockingConnection:
    """One for a few calls. It breaks after 10 s, with an AMQPError, whatever it waits for.

    Raises ServiceUnavailable or ConfigurationError.
    """
    connection = open_blocking(config, name)
    # A blocking call has no limit but the heartbeat's, which is twice 35 s. The connection's
    # own timers run in its thread after the call only; those of what is below it, meanwhile.
    below = connection._impl  # noqa: SLF001
    silence = StreamLostError(f"it was not done within {_BRIEFLY_S:.0f} s")
    below.ioloop.call_later(_BRIEFLY_S, partial(below._terminate_stream, silence))  # noqa: SLF001
    return connection
