"""Logging of a daemon: to its standard error in the foreground, else to a file in the store.

The file is cut off by size.  No secret is ever logged: no ticket, no key of a volume.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE_BYTES_MAX = 4 << 20
FILES_KEPT = 3
LEVELS = ("debug", "info", "warning", "error")


def _say_in_a_line(record: logging.LogRecord) -> bool:
    """Bytes from a stranger that are no HTTP are no fault of ours, and not worth a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and type(error).__module__ == "aiohttp.http_exceptions":
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg = f"{record.getMessage()}: {' '.join(str(error).split())}"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True


def start(level: str, path: Path | None) -> None:
    """Log to `path`, or to standard error where it is None."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8"
        )
        path.chmod(0o600)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What aiohttp says of each connection is of no use below a warning.
    logging.getLogger("aiohttp").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("aiohttp.server").addFilter(_say_in_a_line)
    logging.captureWarnings(capture=True)
