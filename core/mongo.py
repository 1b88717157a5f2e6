"""MongoDB clients with the settings that every service of ours needs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bson.codec_options import DatetimeConversion
from dns.exception import DNSException, FormError
from dns.exception import SyntaxError as NameSyntaxError
from pymongo import MongoClient
from pymongo.errors import ConfigurationError as DriverConfigurationError
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener

from core.config import MongoConfig
from core.errors import ConfigurationError, ServiceUnavailable

Client = MongoClient[dict[str, Any]]

_VARIABLE = "MONGO_DATABASE_HOST"
_UNAUTHORISED = (13, 18)
_UNKNOWN_NAME = ("Name or service not known", "nodename nor servname", "name resolution")
_MALFORMED = (DriverConfigurationError, ValueError, OSError, UserWarning)
_SRV_HINT = (
    "The name in the mongodb+srv:// URI does not resolve: check MONGO_DATABASE_HOST, "
    "unless the DNS is away."
)
_NAME_HINT = (
    "The host names of a replica set must resolve where the client runs: run the command "
    "inside its container (the make targets do), or set MONGO_DATABASE_HOST to names that do."
)


def connect(
    config: MongoConfig,
    *,
    timeout_s: float = 5.0,
    app: str = "llm-twin",
    listeners: Sequence[CommandListener] = (),
) -> Client:
    """A client that has reached the primary.

    Writes are acknowledged by a majority and reads see what a majority has.
    Dates out of Python's range and invalid UTF-8, which other programs may have
    written, are carried rather than refused. Raises ServiceUnavailable, or
    ConfigurationError for a URI that no retry can mend.
    """
    client = client_of(config, timeout_s=timeout_s, app=app, listeners=listeners)
    with ExitStack() as undo:
        undo.callback(client.close)
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            raise _explain_at_start(error, config) from error
        undo.pop_all()
    return client


def client_of(
    config: MongoConfig,
    *,
    timeout_s: float,
    app: str,
    listeners: Sequence[CommandListener] = (),
) -> Client:
    """A client that has not yet tried to reach anything, but for the DNS (mongodb+srv://).

    Raises as `connect` does.
    """
    try:
        return _strict_client(
            config.uri.get_secret_value(),
            appname=app,
            event_listeners=list(listeners),
            serverSelectionTimeoutMS=int(timeout_s * 1000),
            connectTimeoutMS=int(timeout_s * 1000),
            socketTimeoutMS=30_000,
            w="majority",
            wTimeoutMS=30_000,
            readConcernLevel="majority",
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_AUTO,
            unicode_decode_error_handler="replace",
        )
    except _MALFORMED as error:
        raise _explain_at_start(error, config) from None


def _strict_client(uri: str, **options: Any) -> Client:
    """The driver only warns of an option in the URI that it does not understand, and drops it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return MongoClient(uri, **options)


def explain(error: Exception, config: MongoConfig) -> ServiceUnavailable | ConfigurationError:
    """The error of ours that tells what a driver's error means for who runs us."""
    if isinstance(error, OperationFailure) and error.code in _UNAUTHORISED:
        return ConfigurationError(_VARIABLE, f"MongoDB refuses the credentials ({error.code})")
    cause = _plain(error)
    hint = _NAME_HINT if any(text in cause for text in _UNKNOWN_NAME) else ""
    return ServiceUnavailable("MongoDB", config.address, cause, hint)


def _explain_at_start(
    error: Exception, config: MongoConfig
) -> ServiceUnavailable | ConfigurationError:
    """What it means when nothing has worked yet."""
    if _does_not_resolve(error.__cause__):
        return ServiceUnavailable("MongoDB", config.address, _plain(error), _SRV_HINT)
    if isinstance(error, _MALFORMED):
        return ConfigurationError(_VARIABLE, _plain(error))
    return explain(error, config)


def _does_not_resolve(cause: BaseException | None) -> bool:
    """Whether waiting may help: a name that nobody knows and a DNS that is away look the same."""
    is_no_name = isinstance(cause, NameSyntaxError | FormError)
    return isinstance(cause, DNSException) and not is_no_name


def _plain(error: Exception) -> str:
    """The first sentence of a driver's message, without its dumps."""
    text = str(error).partition(", full error:")[0].partition(", Timeout:")[0]
    return text.partition(" (configured timeouts")[0].rstrip(". ")
