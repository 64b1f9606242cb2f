"""Nodes in sections, each of which admits the pods of the same workloads.

Between `inventory` and the snapshot. Taints, node selectors and required node affinity say which
nodes a workload may use. The planner is told no more than this: a node's section, and for each
role and job the sections that are shut to it, and why. Where every workload may use every node,
and where a node takes all that there are, there is no section. One is named after its first node.
"""

from collections.abc import Collection, Iterator, Mapping
from operator import itemgetter

import msgspec

from scheduler.adapters.cluster.inventory import Frame
from scheduler.apiserver.nodeterms import NAME_FIELD, NodeFace, NodeTerms, keys_read, refusal

Frames = tuple[Frame | None, ...]
Shut = Mapping[str, str]
"""Section -> why its nodes do not admit a workload's pods."""


class Sectioned(msgspec.Struct, frozen=True):
    """Nodes with their sections, and what is shut to whom."""

    frames: Frames
    shut: Mapping[NodeTerms | None, Shut]
    """Of those that something is shut to; of None nothing is known, and nothing is shut to it."""


class Sections:
    """Finds the sections; unchanged nodes and words give the same values again."""

    def __init__(self) -> None:
        self._asked: tuple[Frames, frozenset[NodeTerms]] | None = None
        self._made = Sectioned((), {})
        self._known: dict[str, tuple[Frame, Frame]] = {}

    def of(self, frames: Frames, every: frozenset[NodeTerms]) -> Sectioned:
        """Return the nodes by what `every` workload asks of them."""
        asked = self._asked
        if asked is None or asked[0] is not frames or asked[1] != every:
            self._made = self._sectioned(frames, every)
            self._asked = frames, every
        return self._made

    def _sectioned(self, frames: Frames, every: frozenset[NodeTerms]) -> Sectioned:
        names: dict[tuple[bool, ...], str] = {}
        shut: dict[NodeTerms | None, dict[str, str]] = {}
        section_of: dict[str, str] = {}
        for name, why in sorted(_refusals(frames, every), key=itemgetter(0)):
            alike = tuple(map(bool, why.values()))
            if not any(alike):
                continue
            section = section_of[name] = names.setdefault(alike, name)
            if section == name:
                for terms, reason in why.items():
                    if reason:
                        shut.setdefault(terms, {})[section] = reason
        return Sectioned(self._placed(frames, section_of), shut)

    def _placed(self, frames: Frames, section_of: Mapping[str, str]) -> Frames:
        known = {}
        for frame in frames:
            if frame is not None and frame.node.name in section_of:
                section = section_of[frame.node.name]
                old = self._known.get(frame.node.name)
                same = old is not None and old[0] is frame and old[1].node.section == section
                known[frame.node.name] = old if old and same else (frame, _in(frame, section))
        self._known = known
        if not known:
            return frames
        return tuple(
            known[one.node.name][1] if one is not None and one.node.name in known else one
            for one in frames
        )


def _in(frame: Frame, section: str) -> Frame:
    node = msgspec.structs.replace(frame.node, section=section)
    return msgspec.structs.replace(frame, node=node)


def _refusals(
    frames: Frames, every: Collection[NodeTerms]
) -> Iterator[tuple[str, dict[NodeTerms, str]]]:
    """Yield nodes, and for each of the words why the node refuses it, or nothing.

    Nodes that the words cannot tell apart are asked once.
    """
    keys = tuple(keys_read(every))
    answers: dict[object, dict[NodeTerms, str]] = {}
    for frame in frames:
        if frame is None:
            continue
        name = frame.node.name
        told = tuple(name if key == NAME_FIELD else frame.labels.get(key) for key in keys)
        seen = told, frame.taints
        if seen not in answers:
            face = NodeFace(name, frame.labels, frame.taints)
            answers[seen] = {terms: refusal(face, terms) for terms in every}
        yield name, answers[seen]
