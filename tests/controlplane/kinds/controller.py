"""The stand-in controllers as one thread: looks again whenever anything changed.

The real controllers of RoleBasedGroup and LeaderWorkerSet cannot be had here. What they did when
they were driven from outside is recorded in `kinds.md`; `lws`, `rbg`, `instances` and `scaling`
reproduce those facts, section by section, and nothing that was not recorded.
"""

import threading
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError
from scheduler.apiserver.objects import Meta
from scheduler.apiserver.reflector import Reflector
from tests.controlplane.kinds import instances, lws, rbg
from tests.controlplane.kinds.scaling import Adapters
from tests.controlplane.kinds.store import (
    ADAPTER,
    INSTANCE,
    KINDS,
    RBG,
    SET,
    Store,
    dying,
    owners,
    root,
    uid,
)
from tests.controlplane.kinds.world import eventually

CRDS = Path(__file__).with_name("crds.yaml")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PAUSE_SECONDS = 0.02
NOT_YET = {404, 429}
"""Of a kind that was just defined; 429 says that its storage is being made."""


class Thing(msgspec.Struct, frozen=True):
    """Any object: only that it changed matters."""

    metadata: Meta


def install(api: Api) -> None:
    """Create our definitions, those that are not there, and wait until they are served."""
    for body in yaml.safe_load_all(CRDS.read_text()):
        try:
            api.post(DEFINITIONS, body)
        except ApiError as error:
            if error.status != 409:
                raise
    eventually(lambda: all(_served(api, kind) for kind in KINDS), "our kinds served")


def _served(api: Api, kind: str) -> bool:
    try:
        api.get(root(kind))
    except ApiError as error:
        if error.status in NOT_YET:
            return False
        raise
    return True


class StandIn:
    """Controllers of both kinds for one namespace; `rbg_version` says whose habits they have."""

    def __init__(
        self, api: Api, namespace: str, rbg_version: Literal["0.7", "0.8"] = "0.7"
    ) -> None:
        self._store = Store(api, namespace)
        self._new = rbg_version == "0.8"
        self._adapters = Adapters(reverts=not self._new)
        self._changed = threading.Event()
        self._stopped = False
        self._watched: list[Reflector[Any]] = [
            Reflector(api, root(kind), Thing, on_change=self._changed.set) for kind in KINDS
        ]
        self._thread = threading.Thread(target=self._run, name="stand-in controllers")

    def start(self) -> None:
        for one in self._watched:
            one.start()
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._changed.set()
        self._thread.join()
        for one in self._watched:
            one.stop()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._changed.wait()
            if self._stopped:
                return
            self._changed.clear()
            try:
                self._store.read()
                self._pass()
            except ApiUnreachableError:
                self._store.again = True
            if self._store.again:
                self._changed.set()
            pause.wait(PAUSE_SECONDS)

    def _pass(self) -> None:
        store = self._store
        _collect(store)
        instances.reconcile(store)
        rbg.reconcile_sets(store)
        rbg.reconcile_groups(store, adapter_overrules=self._new)
        self._adapters.reconcile(store)
        lws.reconcile(store)


def _collect(store: Store) -> None:
    """Delete what lost its owner; the garbage collector learns of new kinds only after a while."""
    living = {uid(one) for kind in (RBG, SET) for one in store.all(kind)}
    for kind in (SET, INSTANCE, ADAPTER):
        for one in store.all(kind):
            if owners(one) and not living & set(owners(one)) and not dying(one):
                store.delete(kind, one)
