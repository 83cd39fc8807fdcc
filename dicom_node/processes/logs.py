"""Logs: readable lines on a terminal, JSON lines anywhere else. Names of cases, UIDs and numbers, no patient data."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import Processor

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(level: str, process: str) -> None:
    """Send structlog's lines and those of the libraries to standard error, each with the process' name."""

    def name_process(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["process"] = process
        return line

    shared: list[Processor] = [
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Libraries speak only of what went wrong: pynetdicom's chatter names patients at its debug level.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer))
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)


def warn_of_settings(file: Path, problem: str) -> None:
    """Say on standard error what is wrong with a settings file that is used all the same.

    Before the command has configured its logs: standard output belongs to what it was asked for.
    """
    logger = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    logger.warning("settings use an old name", file=str(file), problem=problem)
