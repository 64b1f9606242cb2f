"""`scalerctl`: picks the command, runs it, and turns every failure into one line and a status.

0: done; 1: done, and something does not hold; 2: wrong use or bad input; 130: Ctrl-C; 141: the
reader of stdout went away. Only the module of the command that was named is imported.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from scheduler.cli.terminal import PROGRAM, CommandError, Parser

COMMANDS = (
    *("status", "forecast", "plan", "explain", "policy", "replay"),
    *("simulate", "backtest", "run", "demo", "fake-kubelet", "job-agent"),
)
"""Modules of this package; each has `add(subparsers)`, and sets `handle`: arguments to status."""

MODULES = {"fake-kubelet": "kubelet", "job-agent": "jobagent"}
"""Where the module has another name than its command."""

PLUGIN = "kubectl tidal"
FAILED, INTERRUPTED, NO_READER = 2, 130, 141


def plugin() -> int:
    """Run as `kubectl tidal`: the daemon is in the cluster unless an address is given."""
    return main(plugin=True)


def main(argv: Sequence[str] | None = None, *, plugin: bool = False) -> int:
    """Run one command and return the exit status."""
    # Many small products of matrices: threads of the linear algebra would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words, plugin=plugin)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # what is still buffered would fail once more when the interpreter flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except (ValueError, OSError) as error:  # what bad input raises; anything else is a defect
        for line in _lines(error):
            print(f"{PROGRAM}: {line}", file=sys.stderr)
        return FAILED


def _lines(error: ValueError | OSError) -> tuple[str, ...]:
    """Return one line per thing that is wrong; errors that hold several say so in `errors`."""
    several = getattr(error, "errors", ())
    if isinstance(several, tuple) and several:
        return several
    if isinstance(error, OSError) and error.filename and error.strerror:
        return (f"{error.filename}: {error.strerror}",)
    return (" ".join(str(error).split()),)


def _run(words: Sequence[str], *, plugin: bool) -> int:
    parser = _parser(words, PLUGIN if plugin else PROGRAM)
    parser.set_defaults(plugin=plugin)
    try:
        args = parser.parse_args(words)
        if args.version:
            print(f"{PROGRAM} {_version()}")
            return 0
        if args.command is None:
            raise CommandError(f"COMMAND: is missing; one of {', '.join(COMMANDS)}")
        status: int = args.handle(args)
    except SystemExit:  # argparse ends so after --help
        status = 0
    sys.stdout.flush()
    return status


def _parser(words: Sequence[str], program: str) -> Parser:
    parser = Parser(prog=program, description="Look at Tidal, and run it.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    named = words[0] if words else ""
    for command in (named,) if named in COMMANDS else COMMANDS:
        module = MODULES.get(command, command)
        import_module(f"scheduler.cli.{module}").add(subparsers)
    return parser


def _version() -> str:
    try:
        return metadata.version("tidal")
    except metadata.PackageNotFoundError:
        raise CommandError("--version: Tidal is not installed here; run 'make install'") from None


if __name__ == "__main__":
    sys.exit(main())
