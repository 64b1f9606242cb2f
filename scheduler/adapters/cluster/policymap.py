"""The policy from a ConfigMap: followed by watch, the last good one kept.

A text that is refused changes nothing: the last good policy stays in force in memory and, for the
next start, in a second ConfigMap `<name>-last-good` that the leader writes. A thread of its own
writes that, and the Events that say to users what became of their edit.
"""

import threading
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from scheduler.adapters.cluster.events import EventRecorder, Reference
from scheduler.adapters.policyfile import CONFIG_MAP_KEY, parsed
from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import ConfigMap
from scheduler.apiserver.reflector import Reflector
from scheduler.planning.policy import Policy, PolicyError

LOOK_SECONDS = 5.0
"""How often the leader looks whether something is left to write; a change is looked at at once."""
STOP_SECONDS = 5.0
REFUSED, TAKEN = "PolicyRefused", "PolicyInForce"
_FAILURES = (ApiError, ApiUnreachableError, msgspec.MsgspecError)


class _Good(msgspec.Struct, frozen=True):
    """A policy and the text it was read from."""

    text: str
    policy: Policy


class PolicyConfigMap:
    """`current()` is the policy in force; `error` says why the newest edit was refused."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        key: str = CONFIG_MAP_KEY,
        *,
        recorder: EventRecorder,
        leading: Callable[[], bool],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Read the ConfigMap, else the last good one; raise `PolicyError` where neither is good.

        `leading` tells whether this process is the one that writes. `on_change` is called from
        the watching thread. Raises ApiError and ApiUnreachableError.
        """
        self._api = api
        self._all = f"/api/v1/namespaces/{namespace}/configmaps"
        self._name, self._key = name, key
        self._where = f"ConfigMap {namespace}/{name}"
        self._recorder = recorder
        self._leading = leading
        self._tell_change = on_change
        self.error: tuple[str, ...] = ()
        first = self._map(name)
        self._seen = first
        self._good, self._kept_text = self._first(first)
        self._lock = threading.Lock()
        self._told: tuple[str, ...] = ()
        self._mended, self._unkept = False, ""
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._watch: Reflector[ConfigMap] = Reflector(
            api,
            self._all,
            ConfigMap,
            on_change=self._changed,
            query={"fieldSelector": f"metadata.name={name}"},
        )
        self._thread = threading.Thread(target=self._run, name="tidal-policy", daemon=True)

    def start(self) -> None:
        """Follow the ConfigMap from now on."""
        self._watch.start()
        self._thread.start()

    def stop(self) -> None:
        """End following."""
        self._watch.stop()
        self._stopped.set()
        self._due.set()
        self._thread.join(STOP_SECONDS)

    @property
    def problem(self) -> str:
        """Why nothing newer is known, or the last good text not kept; empty: all is well."""
        return self._watch.problem or self._unkept

    def current(self) -> Policy:
        """Return the last good policy."""
        return self._good.policy

    def tend(self) -> None:
        """As the leader: say what became of the last edit, and keep the policy that is good.

        Raises ApiError and ApiUnreachableError.
        """
        if not self._leading():
            self._mended = False  # whoever leads says it
            return
        self._say()
        text = self._good.text
        if text != self._kept_text and not self.error:
            self._keep(text)
            self._kept_text = text

    def look(self) -> None:
        """Tend; a failure is told by `problem`, and tried again at the next look."""
        try:
            self.tend()
            self._unkept = ""
        except _FAILURES as error:
            self._unkept = f"ConfigMap {self._last_good}: cannot be written: {error}"

    def _first(self, found: ConfigMap | None) -> tuple[_Good, str]:
        """Return the policy to begin with, and the text of the last good one."""
        kept = self._map(self._last_good)
        kept_text = kept.data.get(self._key, "") if kept else ""
        try:
            return self._read(found), kept_text
        except PolicyError as error:
            self.error = error.errors
        try:
            return _Good(kept_text, self._parsed(kept_text)), kept_text
        except PolicyError:
            raise PolicyError(self.error) from None

    @property
    def _last_good(self) -> str:
        return f"{self._name}-last-good"

    def _map(self, name: str) -> ConfigMap | None:
        try:
            return msgspec.json.decode(self._api.get(f"{self._all}/{name}"), type=ConfigMap)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _read(self, found: ConfigMap | None) -> _Good:
        if found is None:
            raise PolicyError((f"{self._where}: does not exist; create it",))
        text = found.data.get(self._key)
        if text is None:
            raise PolicyError((f"{self._where}: data.{self._key}: is missing; put it there",))
        return _Good(text, self._parsed(text))

    def _parsed(self, text: str) -> Policy:
        return parsed(text.encode(), f"{self._where} data.{self._key}")

    def _changed(self) -> None:
        """Take the newest version in; runs in the watching thread."""
        found = next(iter(self._watch.items()), None)
        with self._lock:
            self._seen = found or self._seen
            try:
                good = self._read(found)
                self._mended |= bool(self.error)
                self.error = ()  # before the policy: who sees the new one sees no old complaint
                if good.text != self._good.text:
                    self._good = good
            except PolicyError as error:
                self.error = error.errors
        self._due.set()
        self._tell_change()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._due.wait(LOOK_SECONDS)
            self._due.clear()

    def _say(self) -> None:
        """Put an Event on the ConfigMap where an edit was refused, and where one mended it."""
        with self._lock:
            errors, seen = self.error, self._seen
            mended, self._mended = self._mended and not errors, False
        if seen is None or (errors == self._told and not mended):
            return
        about = Reference.of("v1", "ConfigMap", seen.metadata)
        if errors:
            text = "; ".join(errors)
            said = f"the policy is refused and the last good one stays: {text}"
            self._recorder.tell(about, "Warning", REFUSED, said)
        else:
            self._recorder.tell(about, "Normal", TAKEN, "the policy is in force")
        self._told = errors

    def _keep(self, text: str) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._last_good},
            "data": {self._key: text},
        }
        try:
            self._api.patch(f"{self._all}/{self._last_good}", body, "merge")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._api.post(self._all, body)
