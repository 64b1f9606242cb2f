"""Tells users who signed the daemon's certificate, and tells them anew when that changes.

The file is a Secret's, which an operator renews under the daemon: so it is looked at again and
again, as `daemon.certificate` looks at the certificate. Until a new authority is published, users
who have read the old one refuse the new certificate.
"""

import threading
from http import HTTPStatus
from pathlib import Path

from scheduler.apiserver.client import Api, ApiError, ApiUnreachableError

CA_MAP, CA_KEY = "tidal-api-ca", "ca.crt"
"""ConfigMap in the daemon's namespace where `scalerctl` finds who signed its certificate."""
LOOK_SECONDS = 10.0
STOP_SECONDS = 5.0


class Authority:
    """Publishes the authority in `file`; a part with a thread of its own."""

    def __init__(self, api: Api, namespace: str, file: Path) -> None:
        self._api = api
        self._all = f"/api/v1/namespaces/{namespace}/configmaps"
        self._file = file
        self._published: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidal-authority", daemon=True)
        self.problem = ""
        """Why a changed file is not published yet; empty otherwise."""

    def start(self) -> None:
        """Publish it, and begin to look. Raises OSError, ApiError and ApiUnreachableError."""
        self._publish()
        self._thread.start()

    def stop(self) -> None:
        """End looking."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def refresh(self) -> None:
        """Publish the file where it has changed; `problem` tells why it could not be done."""
        try:
            self._publish()
            self.problem = ""
        except (OSError, ValueError, ApiError, ApiUnreachableError) as error:
            self.problem = f"--tls-ca: {self._file} is not published in {CA_MAP}: {error}"

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            self.refresh()

    def _publish(self) -> None:
        pem = self._file.read_text(encoding="utf-8")
        if pem == self._published:
            return
        body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {CA_KEY: pem}}
        try:
            self._api.patch(f"{self._all}/{CA_MAP}", body, "merge")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._create(body | {"metadata": {"name": CA_MAP}})
        self._published = pem

    def _create(self, body: object) -> None:
        """Create it; a replica that starts at the same time may be first, from the same Secret."""
        try:
            self._api.post(self._all, body)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
