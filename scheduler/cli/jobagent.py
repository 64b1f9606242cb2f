"""`scalerctl job-agent`: the sidecar by which a batch job talks to Tidal through files.

In a folder that it shares with the job: the job touches `checkpoint-started` and `checkpoint` when
it begins to write one and when it is complete, and `acknowledged` when it has seen `notice`, which
holds the time at which its GPUs are taken. The agent turns these into annotations of its own pod
and back; it may get and patch that, and no more.
"""

import argparse
import os
import signal
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from types import FrameType

import msgspec

from scheduler.apiserver import times
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError, ConfigurationError
from scheduler.apiserver.objects import Meta
from scheduler.cli.terminal import PROGRAM, CommandError, Subparsers
from scheduler.planning import marks

CHECKPOINT, NOTICE, ACKNOWLEDGED = "checkpoint", "notice", "acknowledged"
TOUCHED = {"checkpoint-started": marks.CHECKPOINT_STARTED, CHECKPOINT: marks.LAST_CHECKPOINT}
"""Files of which the time is told, and as what."""
FILES_SECONDS = 1.0
POD_ROUNDS = 5
"""The pod is read once in so many looks at the files: a thousand agents ask 200 times a second."""


class _Pod(msgspec.Struct, frozen=True):
    metadata: Meta


def add(subparsers: Subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "job-agent", help="tell Tidal of a job's checkpoints, and the job of notices"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("/tidal"), help="shared with the job; /tidal"
    )
    for name, variable in (("namespace", "POD_NAMESPACE"), ("pod", "POD_NAME")):
        parser.add_argument(
            f"--{name}", default=os.environ.get(variable), help=f"default: ${variable}"
        )
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Run until the pod ends."""
    for name, variable in (("namespace", "POD_NAMESPACE"), ("pod", "POD_NAME")):
        if not getattr(args, name):
            raise CommandError(f"--{name}: is missing; set {variable} from the downward API")
    if not args.directory.is_dir():
        raise CommandError(f"--directory: {args.directory} is no folder; mount an emptyDir there")
    try:
        api = Api.load()
    except ConfigurationError as error:
        raise CommandError(f"job-agent: {error}") from None
    run(JobAgent(api, args.namespace, args.pod, args.directory), _until_signal())
    return 0


def run(agent: "JobAgent", stopped: threading.Event) -> None:
    """Look at the files each second until told to stop, and once more then; or the pod is gone."""
    said, rounds = "", 0
    while True:
        error = agent.step(read_pod=rounds % POD_ROUNDS == 0)
        if error and error != said:
            print(f"{PROGRAM}: {error}", file=sys.stderr, flush=True)
        said, rounds = error, rounds + 1
        if stopped.is_set() or agent.gone:
            return
        stopped.wait(FILES_SECONDS)


class JobAgent:
    """One pod and one folder; `step` brings each up to date with the other."""

    def __init__(self, api: Api, namespace: str, pod: str, directory: Path) -> None:
        """Nothing is read before the first step."""
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self._directory = directory
        self._known: dict[str, str] | None = None
        """The pod's annotations as last read or written."""
        self.gone = False
        """The API server knows no such pod any more: nothing is left to be told."""

    def step(self, *, read_pod: bool) -> str:
        """Do what is due; return why it could not be done, or nothing. All of it is repeatable."""
        try:
            if read_pod or self._known is None:
                body = self._api.get(self._path)
                self._known = dict(msgspec.json.decode(body, type=_Pod).metadata.annotations)
                self._show_notice(self._known.get(marks.NOTICE_DEADLINE, ""))
            self._tell(self._due(self._known))
        except (ApiError, ApiUnreachableError, msgspec.MsgspecError) as error:
            self.gone = isinstance(error, ApiError) and error.status == HTTPStatus.NOT_FOUND
            return f"pod: {error}"
        except OSError as error:
            return f"--directory: {error.filename}: {error.strerror}; make it writable"
        return ""

    def _due(self, known: dict[str, str]) -> dict[str, str]:
        """Return the annotations that the files ask for and the pod does not have."""
        wanted = {}
        for name, mark in TOUCHED.items():
            at = _touched(self._directory / name)
            if at is not None:
                wanted[mark] = times.text(at / 1e9)
        deadline = known.get(marks.NOTICE_DEADLINE, "")
        if deadline and self._acknowledged():
            wanted[marks.ACKNOWLEDGED] = deadline
        return {name: value for name, value in wanted.items() if known.get(name) != value}

    def _acknowledged(self) -> bool:
        """Whether the job touched its file after it could see this notice."""
        shown = _touched(self._directory / NOTICE)
        seen = _touched(self._directory / ACKNOWLEDGED)
        return shown is not None and seen is not None and seen >= shown

    def _tell(self, due: dict[str, str]) -> None:
        if due and self._known is not None:
            self._api.patch(self._path, {"metadata": {"annotations": due}}, "merge")
            self._known |= due

    def _show_notice(self, deadline: str) -> None:
        """Write the file whole and only when it says something else, since its time counts."""
        file = self._directory / NOTICE
        if not deadline:
            file.unlink(missing_ok=True)
        elif _text(file) != deadline:
            fresh = self._directory / f".{NOTICE}"
            fresh.write_text(f"{deadline}\n")
            fresh.replace(file)


def _touched(file: Path) -> int | None:
    """Return when the file was touched last, in nanoseconds, None where there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _until_signal() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; the first process of a container needs that."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, stop)
    return stopped
