"""The server's certificate from files, taken anew when they change on disk.

Secret volumes swap both files at once, but they are read one after the other, so a pair that does
not fit is tried again at the next look, and the old one serves until then.
"""

import asyncio
import ssl
from pathlib import Path

LOOK_SECONDS = 10.0


class CertificateError(ValueError):
    """The files cannot be used; the message names them and the fix."""


class Certificate:
    """A TLS context for a server, kept up to date by `follow`."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Load the pair; raise `CertificateError` where it cannot be used."""
        self._cert, self._key = cert, key
        self.context = _context()
        try:
            self._bodies = self._read()
            self._load(self.context)
        except (OSError, ValueError) as error:
            raise CertificateError(
                f"--tls-cert: {cert} and {key} cannot be used ({error}); name a PEM certificate "
                f"and its key"
            ) from None

    def refresh(self) -> bool:
        """Take new files in where they are a pair; return whether there were any."""
        try:
            bodies = self._read()
            if bodies == self._bodies:
                return False
            self._load(_context())  # tried apart, since a failure half way would spoil ours
            self._load(self.context)
        except (OSError, ValueError):
            return False
        self._bodies = bodies
        return True

    async def follow(self) -> None:
        """Refresh again and again; cancel it to end."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.refresh()

    def _read(self) -> tuple[bytes, bytes]:
        return self._cert.read_bytes(), self._key.read_bytes()

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._cert, self._key)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
