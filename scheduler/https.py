"""A port of ours: plain HTTP, or HTTPS whose certificates are renewed under it.

With a client authority only holders of a certificate that it signed get in. Files change when
certificates are renewed (a mounted Secret swaps them all at once, other writers do not: a pair
that does not fit is reported, and tried again when it changes). The listening socket stays; for
new files a new server takes it over, so that no connection is refused meanwhile. Connections made
under the former files end after the answer they wait for: who was let in by a former authority has
to show a certificate again.
"""

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

BACKLOG = 1024
LAST_ANSWER_SECONDS = 1.0
"""So long a connection under former files may still be answered."""


class TlsError(Exception):
    """A certificate, key or authority that cannot be used; the message names the file."""


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM; `certificate` may hold the chain after it."""

    certificate: Path
    key: Path
    client_authority: Path | None = None
    """Authority of client certificates; without it anybody who reaches the port may ask."""
    look_seconds: float = 5.0
    """How often the files are looked at for a change."""


class Reports(Protocol):
    """Where it is told that renewed files cannot be used; empty while they can."""

    tls_error: str


def context_of(tls: Tls) -> ssl.SSLContext:
    """Return a server's context, or raise `TlsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"{tls.certificate} and {tls.key} cannot be used ({error}); name a PEM certificate "
            f"and its key"
        ) from error
    if tls.client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(tls.client_authority)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(
                f"client authority {tls.client_authority} cannot be used ({error}); name a PEM "
                f"certificate"
            ) from error
    return context


async def serve(
    stack: AsyncExitStack,
    app: web.Application,
    listener: socket.socket,
    tls: Tls | None,
    reports: Reports,
) -> None:
    """Serve `app` on `listener` until the stack closes, and it with it. Raises `TlsError`."""
    stack.callback(listener.close)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if tls is None:
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        return
    site = _RenewedSite(runner, listener, tls)
    await site.start()
    following = asyncio.create_task(site.follow(reports))
    stack.callback(following.cancel)


class _RenewedSite:
    """One HTTPS site on `listener`, restarted when the files of `tls` change."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, tls: Tls) -> None:
        self._runner = runner
        self._listener = listener
        self._tls = tls
        self._stamps = _stamps(tls)
        self._site: web.SockSite | None = None

    async def start(self) -> None:
        """Serve with the files as they are now. Raises `TlsError`, and then goes on as before."""
        context = context_of(self._tls)
        former, server = self._site, self._runner.server
        connections = [] if server is None else list(server.connections)
        site = web.SockSite(
            self._runner, self._listener.dup(), ssl_context=context, backlog=BACKLOG
        )
        await site.start()
        self._site = site
        if former is not None:
            await former.stop()
        for connection in connections:
            connection.close()
            asyncio.get_running_loop().call_later(LAST_ANSWER_SECONDS, connection.force_close)

    async def follow(self, reports: Reports) -> None:
        """Look at the files for ever; a bad set is reported, and tried again when it changes."""
        while True:
            await asyncio.sleep(self._tls.look_seconds)
            now = _stamps(self._tls)
            if now == self._stamps:
                continue
            self._stamps = now
            try:
                await self.start()
            except TlsError as error:
                reports.tls_error = str(error)
            else:
                reports.tls_error = ""


def _stamps(tls: Tls) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when a file is written or replaced; zeros for one that is not there."""
    files = (tls.certificate, tls.key, tls.client_authority)
    return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
