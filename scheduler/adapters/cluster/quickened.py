"""Times that the API server wrote, on the time line of a clock that runs faster; demonstrations.

Such a clock lives R seconds in one of the wall's, and everything that Tidal writes carries its
time. The API server's own times are the wall's: they are put on the clock's line where objects
come in, so nothing behind has to know. At rate 1 there is nothing to do, and nothing here runs.

The API server cuts its times to whole seconds, which are R of the clock's. A time is taken as the
end of its second: a pod bound in the second in which its place was reserved was bound afterwards.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from scheduler.apiserver.objects import Condition, Job, Meta, Pod
from scheduler.apiserver.times import seconds, text

RESOLUTION_SECONDS = 1.0
_replace = msgspec.structs.replace


class Quickened:
    """Puts the times of pods and Jobs on the clock's line; other kinds' times nobody reads."""

    def __init__(self, of_wall: Callable[[float], float]) -> None:
        """`of_wall` maps Unix seconds of the wall to the clock's."""
        self._of_wall = of_wall

    def __call__(self, item: Any) -> Any:  # noqa: ANN401 - any kind of object, and the same back
        """Return the object with its times moved."""
        match item:
            case Pod():
                return self._pod(item)
            case Job():
                return _replace(
                    item,
                    metadata=self._meta(item.metadata),
                    status=_replace(item.status, start_time=self._time(item.status.start_time)),
                )
            case _:
                return item

    def _pod(self, pod: Pod) -> Pod:
        status = _replace(
            pod.status,
            start_time=self._time(pod.status.start_time),
            conditions=tuple(self._condition(one) for one in pod.status.conditions),
        )
        return _replace(pod, metadata=self._meta(pod.metadata), status=status)

    def _meta(self, meta: Meta) -> Meta:
        return _replace(meta, creation_timestamp=self._time(meta.creation_timestamp))

    def _condition(self, one: Condition) -> Condition:
        return _replace(one, last_transition_time=self._time(one.last_transition_time))

    def _time(self, written: str | None) -> str | None:
        if not written:
            return written
        return text(self._of_wall(seconds(written) + RESOLUTION_SECONDS))
