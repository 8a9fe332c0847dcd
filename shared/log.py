"""JSON logs: one line an event, with the request, tenant and event ids of the context and no personal data."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

PERSONAL = frozenset({"name", "phone", "email", "payer", "client", "recipient", "recipients", "body", "authorization"})
DETAIL = re.compile(r"DETAIL:.*?(?=\n|\\n|$)")

_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=MappingProxyType({}))


class Logger:
    """Says what happened with its fields: `log.info("what happened", key=value)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: Any) -> None:
        """Something passes by itself or was refused."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """Something that a person should look at, with the traceback of `exc_info`."""
        self._logger.error(event, exc_info=exc_info, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Our events and those of libraries, in the same form."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line = {
            "event": record.getMessage(),
            **_context.get(),
            **getattr(record, "fields", {}),
            "level": record.levelname.lower(),
            "logger": record.name,
            "service": self._service,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        line |= dict.fromkeys(PERSONAL & line.keys(), "[removed]")
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: _without_rows(value) for key, value in line.items()}, default=repr)


def logger(name: str) -> Logger:
    """The logger of a module."""
    return Logger(name)


def configure(service: str, level: str = "INFO") -> None:
    """Send this process's logs, ours and the libraries', to stdout as JSON lines at `level`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("faststream", "uvicorn.access", "alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A broker that is down is said once by whoever needs it, not by each connection attempt of the client.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def bind(**fields: Any) -> None:
    """Add `fields` to every line that is logged in this context from now on."""
    _context.set({**_context.get(), **fields})


def _without_rows(value: Any) -> Any:
    # PostgreSQL's DETAIL shows the row that failed, with whoever is named in it.
    return DETAIL.sub("DETAIL: [removed]", value) if isinstance(value, str) and "DETAIL:" in value else value
