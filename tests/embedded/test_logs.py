"""Logs are JSON lines that hold nothing to replay."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from app import logs


@contextmanager
def configured() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    logs.configure("info")
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_both_kinds_of_loggers_write_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with configured():
        structlog.get_logger("ours").info("ours", number=1)
        logging.getLogger("theirs").warning("theirs %s", 2)
        structlog.get_logger("ours").debug("unheard")
        for library in ("httpx", "httpcore.http11", "uvicorn", "yoyo"):
            logging.getLogger(library).info("chatter")
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["number"], ours["level"]) == ("ours", 1, "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("theirs 2", "theirs", "warning")


def test_what_could_be_replayed_is_masked_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://u:Sec@ret123@host/x"
    with configured():
        structlog.get_logger("ours").info("bf_ses_Secret123", url=url, nested={"list": ["tr_pat_Secret123"]})
        logging.getLogger("theirs").warning("with %s", "whsec_Secret123+/=")
        structlog.get_logger("ours").error("failed", exc_info=ValueError(url))
    written = capsys.readouterr().err
    assert "ret123" not in written
    assert "postgresql://u:***@host/x" in written
