"""Logs: one line an event, JSON unless a terminal reads, and nothing that could be replayed."""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

# Tokens, webhook secrets and the password in a URL, wherever they turn up.
_REPLAYABLE = re.compile(
    r"(?P<url>postgres(?:ql)?(?:\+\w+)?://[^:@/\s]*:)\S*(?=@)"
    r"|\b(?P<token>bf_ses_|tr_[a-z]+_|pk_[a-z]+_|whsec_)[A-Za-z0-9+/=_-]+"
)

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: str) -> None:
    """Send structlog and the standard library's loggers, uvicorn's among them, to standard error from this level.

    Ours write their lines themselves: on its way through the standard library a line takes three times as long, and
    each request leaves one.
    """
    structlog.configure(
        processors=[*_SHARED, *_rendering(), _encoded],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    rendering = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering()]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=rendering))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # yoyo tells every statement and uvicorn every stage of its life; the command tells what matters of both.
    for chatty in ("yoyo", "uvicorn"):
        logging.getLogger(chatty).setLevel("DEBUG" if level == "debug" else "WARNING")
    # These tell requests and answers whole, at debug: the values of secrets, the master key, cookies. httpx tells each
    # request at info, which who runs a command did not ask for.
    for indiscreet in ("boto3", "botocore", "hvac", "urllib3", "httpx", "httpcore"):
        logging.getLogger(indiscreet).setLevel("WARNING")


def _rendering() -> list[Processor]:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    # Exceptions become text before masking: a driver's message may quote a URL.
    return [structlog.processors.format_exc_info, mask, renderer]


def _encoded(_logger: object, _method: str, line: Any) -> bytes:
    """Make bytes of what a renderer made; a structlog processor."""
    return str(line).encode()


def mask(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace what could be replayed in every text of an event; a structlog processor."""
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        if "_" not in value and "://" not in value:  # most have neither, and to look for them is quick
            return value
        return _REPLAYABLE.sub(lambda match: f"{match['url'] or match['token']}***", value)
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value
