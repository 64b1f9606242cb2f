"""Free ports on the loopback address."""

import contextlib
import secrets
import socket

LOOPBACK = "127.0.0.1"
# Below those that the system gives to outgoing connections (Linux: from 32768). A client that asks
# again and again for a server which is down would else take the server's port itself one day.
LOWEST, END = 20_000, 32_768
ATTEMPTS = 100


def free_ports(count: int) -> tuple[int, ...]:
    """That many different ports that nobody listens on.

    They are free again when this returns, so another process may take one before it is used: who
    starts a program on one starts it again with others when it says that the address is in use.
    """
    with contextlib.ExitStack() as stack:
        return tuple(_bound(stack.enter_context(socket.socket())) for _ in range(count))


def _bound(probe: socket.socket) -> int:
    for _ in range(ATTEMPTS):
        port = LOWEST + secrets.randbelow(END - LOWEST)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise OSError(f"no free port among {ATTEMPTS} tried from {LOWEST} to {END - 1}")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
