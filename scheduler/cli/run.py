"""`scalerctl run`: the daemon, in the foreground, until the world ends or a signal comes.

Logs go to standard error, one JSON object a line. Ends with status 1 where an invariant broke
or the world failed, with 2 where it cannot start.
"""

import argparse
import sqlite3
import sys
from pathlib import Path

from scheduler.adapters.ledger import LedgerFormatError
from scheduler.cli.terminal import PROGRAM, CommandError, Subparsers
from scheduler.extender.process import ExtenderGoneError, PortInUseError
from scheduler.planning.policy import PolicyError
from scheduler.simulation.remote import WorldRefusedError
from scheduler.wiring.world import DaemonSettings, run_daemon

BROKEN = 1
MOST_PORT = 65535


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser("run", help="run the daemon against a world")
    parser.add_argument(
        "--world", required=True, metavar="URL", help="address of the world, http://HOST:PORT"
    )
    parser.add_argument(
        "--policy", required=True, type=Path, metavar="FILE", help="read again when it changes"
    )
    parser.add_argument(
        "--ledger", required=True, type=Path, metavar="FILE", help="made where there is none"
    )
    parser.add_argument(
        "--port", type=port, default=9330, help="of the API for people; 0: any free one"
    )
    parser.add_argument(
        "--extender-port", type=port, default=9331, help="of the extender; 0: any free one"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log ticks without actions too"
    )
    parser.set_defaults(handle=handle)


def port(text: str) -> int:
    """Return a port number, or 0 for any free one."""
    if not text.isdecimal() or int(text) > MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to {MOST_PORT}")
    return int(text)


def handle(args: argparse.Namespace) -> int:
    """Run the daemon."""
    settings = DaemonSettings(
        world_url=args.world,
        policy=args.policy,
        ledger=args.ledger,
        api_port=args.port,
        extender_port=args.extender_port,
        verbose=args.verbose,
    )
    try:
        return run_daemon(settings)
    except PolicyError as error:
        raise CommandError(*(f"--policy: {line}" for line in error.errors)) from None
    except LedgerFormatError as error:
        raise CommandError(f"--ledger: {error}") from None
    except sqlite3.Error as error:
        raise CommandError(f"--ledger: {args.ledger}: {error}; name another file") from None
    except PortInUseError as error:
        raise CommandError(f"--extender-port: {error.strerror}") from None
    except (WorldRefusedError, ExtenderGoneError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return BROKEN
