"""JSON logs: one line an event, with the request, tenant and event ids of the context and no personal data."""

import logging
import re
import sys
from typing import Any

import structlog

PERSONAL = frozenset({"name", "phone", "email", "payer", "client", "recipient", "recipients", "body", "authorization"})
DETAIL = re.compile(r"DETAIL:.*?(?=\n|\\n|$)")


def configure(service: str, level: str = "INFO") -> None:
    """Send this process's logs, ours and the libraries', to stdout as JSON lines at `level`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        _without_personal_data,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _without_rows,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)  # else they go to stderr, as lines that are no JSON
    for noisy in ("faststream", "uvicorn.access", "alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A broker that is down is said once by whoever needs it, not by each connection attempt of the client.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def logger(name: str) -> Any:
    """The logger of a module; call as `log.info("what happened", key=value)`."""
    return structlog.stdlib.get_logger(name)


def _without_rows(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # PostgreSQL's DETAIL shows the row that failed, with whoever is named in it.
    for key, value in event.items():
        if isinstance(value, str) and "DETAIL:" in value:
            event[key] = DETAIL.sub("DETAIL: [removed]", value)
    return event


def _without_personal_data(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key in PERSONAL & event.keys():
        event[key] = "[removed]"
    return event
