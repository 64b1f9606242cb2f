"""TLS towards kube-scheduler: the server's certificate, and who may call.

With a client authority only holders of a certificate that it signed get in. Files change when
certificates are renewed (a mounted Secret swaps them all at once); `stamp` tells that they did.
"""

import ssl
from pathlib import Path

import msgspec


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


def context_of(tls: Tls) -> ssl.SSLContext:
    """Return a server's context, or raise `TlsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        pair = f"certificate {tls.certificate} with key {tls.key}"
        raise TlsError(f"{pair} cannot be used: {error}") from error
    if tls.client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(tls.client_authority)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(
                f"client authority {tls.client_authority} cannot be used: {error}"
            ) from error
    return context


def stamp(tls: Tls) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when a file is written or replaced; zeros for one that is not there."""
    files = (tls.certificate, tls.key, tls.client_authority)
    return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
