"""Asks the daemon's API: one GET, one document, or one line that says why not.

The daemon is at an address (`--server`, `$TIDAL_SERVER`, else this machine) or in the cluster of a
kubeconfig. Over https a token of that kubeconfig goes along; over http nothing secret does.
"""

import argparse
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from rich.table import Table
from rich.text import Text

from scheduler.cli.terminal import CommandError, add_output, print_document, print_parts
from scheduler.daemon.documents.shapes import Failure

if TYPE_CHECKING:
    from scheduler.cli.cluster import Cluster

DEFAULT_SERVER = "http://127.0.0.1:9330"
SERVER_VARIABLE = "TIDAL_SERVER"
TIMEOUT_SECONDS = 60.0
"""A replay plans in full, so an answer may take a while."""

T = TypeVar("T")
Tell = Callable[[T], Iterable[Table | Text]]


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add `--server`, the options of a kubeconfig, and `-o`."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help=f"the daemon's API; default: ${SERVER_VARIABLE}, else {DEFAULT_SERVER}, and the "
        "daemon in the cluster where an option below names one",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="as kubectl takes it")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", help="where Tidal runs; default: tidal-system"
    )
    parser.add_argument(
        "--insecure-skip-tls-verify",
        action="store_true",
        help="do not check the daemon's certificate, as kubectl means it",
    )
    add_output(parser)


def show(args: argparse.Namespace, path: str, kind: type[T], tell: Tell[T]) -> T:
    """Fetch a document, print it as `-o` asks, and return it."""
    with _way(args) as way:
        body = _fetched(way, path)
        document = _understood(way, body, kind)
    if args.output == "table":
        print_parts(tell(document))
    else:
        print_document(body, args.output)
    return document


def named(prefix: str, name: str) -> str:
    """Return the path of a named thing; slashes in names stay."""
    return f"{prefix}/{quote(name, safe='/@')}"


class _Way(NamedTuple):
    """A connection to the daemon, what people call it, and what to send along."""

    name: str
    connection: HTTPConnection
    prefix: str
    headers: dict[str, str]


@contextmanager
def _way(args: argparse.Namespace) -> Iterator[_Way]:
    """Yield the way that the options name."""
    named_cluster = bool(args.kubeconfig or args.context or args.namespace)
    server = args.server
    if server is None and not named_cluster:
        default = None if args.plugin else DEFAULT_SERVER
        server = os.environ.get(SERVER_VARIABLE) or default
    if server is None:
        with _through(_cluster(args)) as way:
            yield way
        return
    scheme, host, prefix = _address(server)
    if scheme == "http":
        if named_cluster:
            raise CommandError(
                f"--server: {server} is not encrypted, and a kubeconfig's token is a secret; "
                f"write https://, or leave one of the two out"
            )
        connection, headers = HTTPConnection(host, timeout=TIMEOUT_SECONDS), {}
    else:
        cluster = _cluster(args)
        connection = HTTPSConnection(host, timeout=TIMEOUT_SECONDS, context=cluster.tls())
        headers = {"Authorization": cluster.authorization()}
    with closing(connection):
        yield _Way(server, connection, prefix, headers)


def _cluster(args: argparse.Namespace) -> "Cluster":
    from scheduler.cli.cluster import NAMESPACE, Choice, Cluster  # noqa: PLC0415 - takes 0.4 s

    return Cluster(
        Choice(
            kubeconfig=args.kubeconfig,
            context=args.context,
            namespace=args.namespace or NAMESPACE,
            insecure=args.insecure_skip_tls_verify,
        )
    )


@contextmanager
def _through(cluster: "Cluster") -> Iterator[_Way]:
    """Yield a way through a port-forward, with TLS from end to end."""
    context, header = cluster.tls(), cluster.authorization()
    name = f"https://{cluster.server_name}"
    with cluster.tunnel() as tunnel, _told(name):
        tunnel.settimeout(TIMEOUT_SECONDS)
        connection = HTTPConnection(cluster.server_name)
        with context.wrap_socket(tunnel, server_hostname=cluster.server_name) as secured:
            connection.sock = secured
            yield _Way(name, connection, "", {"Authorization": header})


def _address(server: str) -> tuple[str, str, str]:
    """Return scheme, host with port, and what stands before our paths."""
    try:
        parts = urlsplit(server)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(f"--server: {server!r} is no http:// address; give one")
    return parts.scheme, parts.netloc, server.partition(parts.netloc)[2].rstrip("/")


def _fetched(way: _Way, path: str) -> bytes:
    """Return the body that the API answers with; raise `CommandError` for anything else."""
    with _told(way.name):
        way.connection.request("GET", way.prefix + path, headers=way.headers)
        answer = way.connection.getresponse()
        body = answer.read()
    if answer.status != HTTPStatus.OK:
        raise CommandError(_failure(way.name, answer.status, body))
    return body


@contextmanager
def _told(server: str) -> Iterator[None]:
    """Say in one line why the daemon does not answer."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise CommandError(
            f"--server: the certificate of {server} cannot be verified ({error.verify_message}); "
            f"its CA is read from ConfigMap tidal-api-ca, which Role tidal-reader allows: ask for "
            f"it, put the CA there, or add --insecure-skip-tls-verify"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, CommandError):
            raise
        raise CommandError(
            f"--server: {server} cannot be reached ({_one_line(error)}); start the daemon with "
            f"'scalerctl run', name another address, or a cluster with --context"
        ) from None


def _understood(way: _Way, body: bytes, kind: type[T]) -> T:
    """Return the document, or say that it is another one than this command reads."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CommandError(
            f"--server: {way.name} answers with another document than expected "
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
