"""Configuration: read once at the edge, handed down as small frozen objects.

The process environment wins over `.env`, and that over the defaults below, which
suit services on this machine outside Docker. An empty value counts as not set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import ConfigurationError

# MongoDB allows 63 bytes, and RabbitMQ 255: less what our own names put behind.
_LONGEST_DATABASE = 63 - len("_state")
_LONGEST_QUEUE = 255 - len(".dead")
_MONGO_S_OWN = ("admin", "config", "local")

SnapshotMode = Literal["initial", "when_needed", "always", "no_data", "initial_only"]

CAPTURABLE = ("articles", "posts", "repositories", "repository_files")


@dataclass(frozen=True, kw_only=True)
class MongoConfig:
    """Where documents are. `uri` may hold a password: print `address` instead."""

    uri: SecretStr
    database: str

    @property
    def address(self) -> str:
        """The URI without its credentials, and without its options: some hold passwords."""
        return re.sub(r"(?<=://)[^@/]*@", "", self.uri.get_secret_value()).partition("?")[0]

    @property
    def state_database(self) -> str:
        """The database that holds the state of our services, never a user's documents."""
        return f"{self.database}_state"


@dataclass(frozen=True, kw_only=True)
class RabbitConfig:
    """The broker, and the queue that change events end in."""

    host: str
    port: int
    username: str
    password: SecretStr
    queue: str
    partitions: int

    @property
    def address(self) -> str:
        """Host and port, for logs and errors."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class QdrantConfig:
    """The vector database: a server by host and port, or a cloud cluster by URL."""

    url: str
    api_key: SecretStr | None

    @property
    def address(self) -> str:
        """Host and port, for logs and errors."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Which model turns text into vectors. `max_tokens` includes the special tokens."""

    model: str
    max_tokens: int
    size: int
    device: str


@dataclass(frozen=True, kw_only=True)
class CdcConfig:
    """What is captured, in which form it travels, and how a service without a position begins.

    `oversize_messages` says what becomes of a message that the broker finds too large.
    `transforms` are specifications, each `{"type": name, ...options}`, in the order they
    apply. `http_port` is where metrics and health are served; 0 serves nothing.
    """

    collections: tuple[str, ...]
    snapshot_mode: SnapshotMode
    message_format: Literal["envelope", "flat"]
    oversize_messages: Literal["reference", "park"]
    pre_images: bool
    transforms: tuple[Mapping[str, Any], ...] = field(repr=False)  # may hold a salt
    http_host: str
    http_port: int


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """How the feature pipeline consumes."""

    partitions: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class CrawlerConfig:
    """How crawlers reach out, and where their HTTP service listens."""

    proxy: str | None
    ca_file: Path | None
    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """`auto` is readable text on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "console"]
    level: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration, a part for each reader."""

    mongo: MongoConfig
    rabbitmq: RabbitConfig
    qdrant: QdrantConfig
    embedding: EmbeddingConfig
    cdc: CdcConfig
    features: FeatureConfig
    crawlers: CrawlerConfig
    log: LogConfig


Port = Annotated[int, Field(ge=1, le=65535)]
PortOrNone = Annotated[int, Field(ge=0, le=65535)]


class _Environment(BaseSettings):
    """The environment variables by their own names. Only `load_settings` sees this."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", case_sensitive=True)

    MONGO_DATABASE_HOST: SecretStr = SecretStr(
        "mongodb://localhost:30001,localhost:30002,localhost:30003/?replicaSet=my-replica-set"
    )
    MONGO_DATABASE_NAME: str = "twin"
    RABBITMQ_HOST: str = "localhost"
    RABBITMQ_PORT: Port = 5673
    RABBITMQ_DEFAULT_USERNAME: str = "guest"
    RABBITMQ_DEFAULT_PASSWORD: SecretStr = SecretStr("guest")
    RABBITMQ_QUEUE_NAME: str = "default"
    QDRANT_DATABASE_HOST: str = "localhost"
    QDRANT_DATABASE_PORT: Port = 6333
    USE_QDRANT_CLOUD: bool = False
    QDRANT_CLOUD_URL: str | None = None
    QDRANT_APIKEY: SecretStr | None = None
    EMBEDDING_MODEL_ID: str = "sentence-transformers/all-MiniLM-L6-v2"
    EMBEDDING_MODEL_MAX_INPUT_LENGTH: Annotated[int, Field(ge=32, le=32768)] = 256
    EMBEDDING_SIZE: Annotated[int, Field(ge=1, le=65536)] = 384
    EMBEDDING_MODEL_DEVICE: str = "cpu"
    FEATURE_PARTITIONS: Annotated[int, Field(ge=1, le=64)] = 1
    FEATURE_WORKERS: Annotated[int, Field(ge=1, le=64)] = 1
    CDC_COLLECTIONS: Annotated[tuple[str, ...], NoDecode] = CAPTURABLE
    CDC_SNAPSHOT_MODE: SnapshotMode = "when_needed"
    CDC_MESSAGE_FORMAT: Literal["envelope", "flat"] = "envelope"
    CDC_OVERSIZE_MESSAGES: Literal["reference", "park"] = "reference"
    CDC_PRE_IMAGES: bool = False
    CDC_TRANSFORMS: Annotated[tuple[Mapping[str, Any], ...], NoDecode] = ()
    CDC_HTTP_HOST: str = "127.0.0.1"
    CDC_HTTP_PORT: PortOrNone = 9464
    CRAWLER_PROXY: str | None = None
    CRAWLER_CA_FILE: Path | None = None
    CRAWLER_HOST: str = "127.0.0.1"
    CRAWLER_PORT: Port = 9010
    LOG_FORMAT: Literal["auto", "json", "console"] = "auto"
    LOG_LEVEL: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("CDC_COLLECTIONS", mode="before")
    @classmethod
    def _split_collections(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("CDC_COLLECTIONS")
    @classmethod
    def _known_collections(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(CAPTURABLE))
        if unknown:
            raise ValueError(f"unknown collection {unknown[0]!r}; known: {', '.join(CAPTURABLE)}")
        if not value:
            raise ValueError("names no collection")
        return tuple(dict.fromkeys(value))

    @field_validator("CDC_TRANSFORMS", mode="before")
    @classmethod
    def _list_of_objects(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"is no JSON: {error}") from None
        if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
            raise ValueError('must be a JSON list of objects, each such as {"type": "flatten"}')
        return parsed

    @field_validator("LOG_FORMAT", "LOG_LEVEL", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("FEATURE_PARTITIONS", "FEATURE_WORKERS")
    @classmethod
    def _only_one(cls, value: int) -> int:
        if value > 1:
            raise ValueError("this version serves 1; more would be left unconsumed")
        return value

    @field_validator("MONGO_DATABASE_HOST")
    @classmethod
    def _mongo_uri(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must be a URI that begins with mongodb:// or mongodb+srv://")
        return value

    @field_validator("MONGO_DATABASE_NAME")
    @classmethod
    def _database_name(cls, value: str) -> str:
        if re.search(r'[/\\. "$*#<>:|?\x00]', value) or len(value.encode()) > _LONGEST_DATABASE:
            raise ValueError("is no name that MongoDB allows for a database")
        if value in _MONGO_S_OWN:
            raise ValueError(f"{value} is a database of MongoDB's own, without change streams")
        return value

    @field_validator("RABBITMQ_HOST", "QDRANT_DATABASE_HOST")
    @classmethod
    def _host_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]+", value) and not _is_ip_address(value):
            raise ValueError("must be a host name or an IP address, without scheme and port")
        return value

    @field_validator("RABBITMQ_QUEUE_NAME")
    @classmethod
    def _queue_name(cls, value: str) -> str:
        if len(value.encode()) > _LONGEST_QUEUE or value.startswith("amq."):
            raise ValueError("is too long for RabbitMQ, or begins with its own prefix amq.")
        return value

    @field_validator("QDRANT_CLOUD_URL")
    @classmethod
    def _cloud_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_http_url(value):
            raise ValueError("must be a URL such as https://cluster.example:6333")
        return value

    @field_validator("CRAWLER_PROXY")
    @classmethod
    def _proxy_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme != "http" or not parts.hostname or not parts.port:
                raise ValueError("must be a URL such as http://proxy.example:3128")
        return value

    @field_validator("CRAWLER_CA_FILE")
    @classmethod
    def _readable_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"no such file: {value}")
        return value

    @model_validator(mode="after")
    def _cloud_needs_url(self) -> Self:
        if self.USE_QDRANT_CLOUD and not self.QDRANT_CLOUD_URL:
            raise ValueError("QDRANT_CLOUD_URL: is needed when USE_QDRANT_CLOUD is true")
        return self


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def load_settings(env_file: Path | None = Path(".env")) -> Settings:
    """Read the environment and `env_file`, where it exists.

    Raises ConfigurationError, which names the variable and never shows a secret.
    """
    try:
        env = _Environment(_env_file=env_file)
    except ValidationError as error:
        raise _explain(error) from None
    return _assemble(env)


def _explain(error: ValidationError) -> ConfigurationError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    variable = str(first["loc"][0]) if first["loc"] else message.partition(":")[0]
    if not first["loc"]:
        message = message.partition(":")[2].strip()
    return ConfigurationError(
        variable, message[:1].lower() + message[1:], "Set it in the environment or in .env."
    )


def _assemble(env: _Environment) -> Settings:
    return Settings(
        mongo=MongoConfig(uri=env.MONGO_DATABASE_HOST, database=env.MONGO_DATABASE_NAME),
        rabbitmq=RabbitConfig(
            host=env.RABBITMQ_HOST,
            port=env.RABBITMQ_PORT,
            username=env.RABBITMQ_DEFAULT_USERNAME,
            password=env.RABBITMQ_DEFAULT_PASSWORD,
            queue=env.RABBITMQ_QUEUE_NAME,
            partitions=env.FEATURE_PARTITIONS,
        ),
        qdrant=_qdrant(env),
        embedding=EmbeddingConfig(
            model=env.EMBEDDING_MODEL_ID,
            max_tokens=env.EMBEDDING_MODEL_MAX_INPUT_LENGTH,
            size=env.EMBEDDING_SIZE,
            device=env.EMBEDDING_MODEL_DEVICE,
        ),
        cdc=CdcConfig(
            collections=env.CDC_COLLECTIONS,
            snapshot_mode=env.CDC_SNAPSHOT_MODE,
            message_format=env.CDC_MESSAGE_FORMAT,
            oversize_messages=env.CDC_OVERSIZE_MESSAGES,
            pre_images=env.CDC_PRE_IMAGES,
            transforms=env.CDC_TRANSFORMS,
            http_host=env.CDC_HTTP_HOST,
            http_port=env.CDC_HTTP_PORT,
        ),
        features=FeatureConfig(partitions=env.FEATURE_PARTITIONS, workers=env.FEATURE_WORKERS),
        crawlers=CrawlerConfig(
            proxy=env.CRAWLER_PROXY,
            ca_file=env.CRAWLER_CA_FILE,
            host=env.CRAWLER_HOST,
            port=env.CRAWLER_PORT,
        ),
        log=LogConfig(format=env.LOG_FORMAT, level=env.LOG_LEVEL),
    )


def _qdrant(env: _Environment) -> QdrantConfig:
    if env.USE_QDRANT_CLOUD and env.QDRANT_CLOUD_URL:
        return QdrantConfig(url=env.QDRANT_CLOUD_URL, api_key=env.QDRANT_APIKEY)
    host = env.QDRANT_DATABASE_HOST
    netloc = f"[{quote(host, safe=':')}]" if ":" in host else host
    return QdrantConfig(
        url=f"http://{netloc}:{env.QDRANT_DATABASE_PORT}", api_key=env.QDRANT_APIKEY
    )
