"""Asks the daemon's API: one GET, one document, or one line that says why not."""

import argparse
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import quote

import msgspec
from rich.table import Table
from rich.text import Text

from scheduler.cli.terminal import CommandError, add_output, print_document, print_parts
from scheduler.daemon.documents.shapes import Failure

DEFAULT_SERVER = "http://127.0.0.1:9330"
SERVER_VARIABLE = "TIDAL_SERVER"
TIMEOUT_SECONDS = 60.0
"""A replay plans in full, so an answer may take a while."""

T = TypeVar("T")
Tell = Callable[[T], Iterable[Table | Text]]


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add `--server` and `-o`."""
    parser.add_argument(
        "--server",
        metavar="URL",
        default=os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER,
        help=f"the daemon's API; default: ${SERVER_VARIABLE}, else {DEFAULT_SERVER}",
    )
    add_output(parser)


def show(args: argparse.Namespace, path: str, kind: type[T], tell: Tell[T]) -> T:
    """Fetch a document, print it as `-o` asks, and return it."""
    body = fetch(args.server, path)
    document = understood(args.server, body, kind)
    if args.output == "table":
        print_parts(tell(document))
    else:
        print_document(body, args.output)
    return document


def named(prefix: str, name: str) -> str:
    """Return the path of a named thing; slashes in names stay."""
    return f"{prefix}/{quote(name, safe='/@')}"


def fetch(server: str, path: str) -> bytes:
    """Return the body that the API answers with; raise `CommandError` for anything else."""
    if not server.startswith(("http://", "https://")):
        raise CommandError(f"--server: {server!r} is no http:// address; give one")
    url = server.rstrip("/") + path
    # a proxy from the environment would be asked for loopback too
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            raise CommandError(_failure(server, error.code, error.read())) from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", error)
        raise CommandError(
            f"--server: {server} cannot be reached ({_one_line(why)}); "
            f"start the daemon with 'scalerctl run', or name another address"
        ) from None


def understood(server: str, body: bytes, kind: type[T]) -> T:
    """Return the document, or say that it is another one than this command reads."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandError(
            f"--server: {server} answers with another document than expected "
            f"({_one_line(error)}); use the scalerctl of the daemon's version"
        ) from None


def _failure(server: str, code: int, body: bytes) -> str:
    try:
        return _one_line(msgspec.json.decode(body, type=Failure).error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"--server: {server} answered {code} and is not Tidal's API; name another address"


def _one_line(what: object) -> str:
    text = getattr(what, "strerror", None) or str(what) or type(what).__name__
    return " ".join(text.split())
