"""An HTTPS port whose certificates are renewed under it.

The listening socket stays; for new files a new server takes it over, so that no connection is
refused meanwhile. Connections made under the former files end after the answer they wait for:
who was let in by a former authority has to show a certificate again.
"""

import asyncio
import socket
from typing import Protocol

from aiohttp import web

from scheduler.extender.tls import Tls, TlsError, context_of, stamp

BACKLOG = 1024
LAST_ANSWER_SECONDS = 1.0
"""So long a connection under former files may still be answered."""


class Reports(Protocol):
    """Where it is told that renewed files cannot be used."""

    tls_error: str


class RenewedSite:
    """One HTTPS site on `listener`, restarted when the files of `tls` change."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket, tls: Tls) -> None:
        self._runner = runner
        self._listener = listener
        self._tls = tls
        self._stamp = stamp(tls)
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
            now = stamp(self._tls)
            if now == self._stamp:
                continue
            self._stamp = now
            try:
                await self.start()
            except TlsError as error:
                reports.tls_error = str(error)
            else:
                reports.tls_error = ""
