"""Decode of one model: running sequences share replicas equally, the rest wait for admission.

A `Pool` holds the sequences on equal replicas of one GPU model. Its virtual service V is the
number of tokens that a sequence running since the beginning would have; it grows by 1 / TPOT per
second. A sequence of g tokens admitted at V0 ends at V0 + g, so a step costs only what starts and
ends in it. Sequences move in groups, spread evenly over a range of V; token counts integrate the
running number over V and are exact.

Replicas of a pool share at once: a new one takes its part of what runs, and one that leaves takes
its part along. TPOT in a step follows from the mean number running in the step before. Admission
keeps both the number running and the tokens of a step within what the largest batch allows.
"""

from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import pairwise
from statistics import NormalDist

from scheduler.simulation.prefilling import Prefilled, Score

CLASSES = 3
_WHOLE = 1 - 1e-9
_EQUAL = 1 + 1e-9

# (V at which the first ends, number, V at which the last ends, requests, tokens due, of them on
# time, tokens per request, prefill completion of the first, of the last)
Group = tuple[float, int, float, float, float, float, float, float, float]
LengthClasses = tuple[tuple[float, float], ...]


def length_classes(sigma: float, classes: int = CLASSES) -> LengthClasses:
    """Return (share of requests, length / mean length) of log-normal lengths.

    Classes have equal shares of the tokens. Weighting a log-normal by its value shifts its
    logarithm by sigma^2, so the token-weighted quantile z lies at z + sigma by requests.
    """
    if sigma <= 0:
        return ((1.0, 1.0),)
    normal = NormalDist()
    inner = [normal.cdf(normal.inv_cdf(i / classes) + sigma) for i in range(1, classes)]
    bounds = [0.0, *inner, 1.0]
    shares = [high - low for low, high in pairwise(bounds)]
    return tuple((share, 1 / (classes * share)) for share in shares)


class Pool:
    """Running sequences on `replicas` equal replicas; mutable."""

    __slots__ = (
        "capacity",
        "groups",
        "mean",
        "number",
        "remaining",
        "replicas",
        "running",
        "served",
        "slots",
        "start",
        "tpot",
        "v0",
        "v1",
    )

    def __init__(self, replicas: int = 0) -> None:
        """Start empty."""
        self.replicas = replicas
        self.groups: list[Group] = []
        """A heap."""
        self.running = 0.0
        self.mean = 0.0
        """Sequences that ran in the last step, on time average."""
        self.remaining = 0.0
        """Tokens that the running sequences have still to get."""
        self.number = 0
        self.served = self.capacity = self.slots = self.start = self.v0 = self.v1 = 0.0
        self.tpot = 1.0

    def advance(self, now: float, step: float, speed: tuple[float, float, float]) -> None:
        """Run all sequences for one step; `speed` is alpha, slope and the largest batch."""
        alpha, slope, batch = speed
        self.start, self.v0 = now, self.v1
        self.slots = batch * self.replicas
        self.capacity = self.slots / (alpha + slope * batch)
        tpot = alpha + slope * self.mean / self.replicas
        if self.running > self.capacity * tpot:  # lengths grew: more run than admission would let
            tpot = self.running / self.capacity
        self.tpot = tpot
        self.v1 = self.v0 + step / tpot
        self.served = self.running * (self.v1 - self.v0)

    def retire(self, score: Score, limit: float) -> None:
        """Take out what ends before the step does; `limit` is the SLO's TPOT."""
        groups, v0, v1 = self.groups, self.v0, self.v1
        while groups and groups[0][0] < v1:
            low, number, high, requests, due, on_time, length, first, last = groups[0]
            if high <= v1:
                heappop(groups)
            else:
                part = (v1 - low) / (high - low)
                cut, rest = first + part * (last - first), 1 - part
                left = (requests * rest, due * rest, on_time * rest)
                heapreplace(groups, (v1, number, high, *left, length, cut, last))
                high, last = v1, cut
                requests, due, on_time = requests * part, due * part, on_time * part
            middle = (low + high) / 2
            self.served -= requests * (v1 - middle)
            self.running -= requests
            score.due += due
            score.late_prefill += due - on_time
            end = self.start + (middle - v0) * self.tpot
            if end - (first + last) / 2 <= limit * length * _EQUAL + 1e-6:
                score.met += on_time
        if not groups:
            self.running = 0.0

    def admit(
        self, head: Prefilled, share: float, window: tuple[float, float], classes: LengthClasses
    ) -> float:
        """Start up to `share` of a head of the queue inside a time window; return the share."""
        requests = head.requests * share
        low = self.v0 + (window[0] - self.start) / self.tpot
        high = self.v0 + (window[1] - self.start) / self.tpot
        left = self.v1 - (low + high) / 2
        slots = self.slots - self.running
        tokens = self.capacity * self.tpot * (self.v1 - self.v0) - self.served
        mean = head.generated / head.requests
        if requests > slots or requests * left > tokens:
            ranges = (self.v1 - high, self.v1 - low)
            in_step, stay = _in_step(ranges, mean, classes)
            part = min(
                1.0, tokens / (requests * in_step + 1e-12), slots / (requests * stay + 1e-12)
            )
            if part <= 0:
                return 0.0
            requests, share = requests * part, share * part
        self.running += requests
        self.served += requests * left
        self.remaining += requests * mean
        due, on_time = head.due * share / len(classes), head.on_time * share / len(classes)
        number, first, last = self.number, head.start, head.end
        for of_requests, of_length in classes:
            length = of_length * mean
            starts = requests * of_requests
            heappush(
                self.groups,
                (low + length, number, high + length, starts, due, on_time, length, first, last),
            )
            number += 1
        self.number = number
        return share

    def finish(self, step: float) -> None:
        """Close the step's books."""
        self.mean = self.served * self.tpot / step
        self.remaining = self.remaining - self.served if self.groups else 0.0

    def take(self, replicas: int) -> "Pool":
        """Part with some replicas and their share of what runs; return them as a pool."""
        part = Pool(replicas)
        share = replicas / self.replicas
        part.groups, self.groups = _scaled(self.groups, share), _scaled(self.groups, 1 - share)
        for name in ("running", "mean", "remaining"):
            whole = getattr(self, name)
            setattr(part, name, whole * share)
            setattr(self, name, whole * (1 - share))
        part.number, part.v1 = self.number, self.v1
        self.replicas -= replicas
        return part

    def tokens_due(self) -> float:
        """Return prompt and generated tokens of all that run."""
        return sum(group[4] for group in self.groups)


def _scaled(groups: list[Group], share: float) -> list[Group]:
    if share <= 0:
        return []
    return [  # equal order keys, so still a heap
        (low, number, high, requests * share, due * share, on_time * share, length, first, last)
        for low, number, high, requests, due, on_time, length, first, last in groups
    ]


def _in_step(
    ranges: tuple[float, float], mean: float, classes: LengthClasses
) -> tuple[float, float]:
    """Return tokens per request inside the step, and the share that still runs at its end.

    The step has between `ranges[0]` and `ranges[1]` tokens left at admission, evenly spread.
    """
    few, many = ranges
    tokens = stay = 0.0
    for of_requests, of_length in classes:
        length = mean * of_length
        if length >= many:
            unfinished, inside = 1.0, (few + many) / 2
        elif length <= few:
            unfinished, inside = 0.0, length
        else:
            unfinished = (length - few) / (many - few)
            inside = unfinished * (few + length) / 2 + (1 - unfinished) * length
        tokens += of_requests * inside
        stay += of_requests * unfinished
    return tokens, stay


class Site:
    """One GPU model: the pool of its ready replicas, and a pool per batch that drains; mutable."""

    __slots__ = ("draining", "ready")

    def __init__(self) -> None:
        """Start without replicas."""
        self.ready = Pool()
        self.draining: list[Pool] = []
        """Oldest first."""

    @property
    def served_draining(self) -> float:
        """Tokens that draining replicas made in the last step."""
        return sum(pool.served for pool in self.draining)

    @property
    def remaining(self) -> float:
        """Tokens that running sequences have still to get."""
        return self.ready.remaining + sum(pool.remaining for pool in self.draining)

    @property
    def drained(self) -> int:
        """Replicas, oldest first, that run nothing any more."""
        done = 0
        for pool in self.draining:
            if pool.groups:
                break
            done += pool.replicas
        return done

    def resize(self, ready: int, draining: int, lost: int, score: Score) -> float:
        """Take in new replica counts; return the tokens that went with replicas lost.

        Of the ready replicas that are gone, `lost` went at once, the others drain. A replica that
        no longer drains is gone, the oldest first, with what it still ran.
        """
        pool, batches = self.ready, self.draining
        if ready == pool.replicas and not draining and not lost and not batches:
            return 0.0
        before = sum(batch.replicas for batch in batches)
        gone = [pool.take(min(lost, pool.replicas))] if lost and pool.replicas else []
        leave = min(pool.replicas, max(pool.replicas - ready, draining - before, 0))
        if leave:
            batches.append(pool.take(leave))
        pool.replicas = ready
        surplus = sum(batch.replicas for batch in batches) - draining
        while surplus > 0:
            gone.append(batches[0].take(min(surplus, batches[0].replicas)))
            surplus -= gone[-1].replicas
            if not batches[0].replicas:
                batches.pop(0)
        if surplus < 0:  # they were never ready
            batches.append(Pool(-surplus))
        for part in gone:
            score.due += part.tokens_due()
            score.late_prefill += sum(group[4] - group[5] for group in part.groups)
        return sum(part.remaining for part in gone)

    def tokens_due(self) -> float:
        """Return prompt and generated tokens of all that run."""
        return sum(pool.tokens_due() for pool in (self.ready, *self.draining))


class Decode:
    """The admission queue of one model, and where it is served; mutable, stepped by `Fleet`."""

    __slots__ = ("classes", "limit", "queue", "sites", "waiting")

    def __init__(self, gpu_models: int, sigma: float, limit: float) -> None:
        """`sigma` is of log lengths, `limit` the SLO's TPOT."""
        self.classes = length_classes(sigma)
        self.limit = limit
        self.queue: deque[Prefilled] = deque()
        self.waiting = 0.0
        """Generated tokens of the queue."""
        self.sites = tuple(Site() for _ in range(gpu_models))

    def refuse(self, before: float, score: Score) -> float:
        """Drop what arrived before a time; return its generated tokens."""
        dropped = 0.0
        while self.queue and self.queue[0].arrived < before:
            head = self.queue.popleft()
            dropped += head.generated
            score.due += head.due
            score.late_prefill += head.due - head.on_time
        self.waiting -= dropped
        return dropped

    def step(
        self,
        now: float,
        step: float,
        arrivals: list[Prefilled],
        speeds: list[tuple[float, float, float]],
        score: Score,
    ) -> float:
        """Run one step; return the tokens that arrived. Each pool's `served` holds its own.

        `speeds` are alpha, slope and largest batch by GPU model.
        """
        arrived = 0.0
        for group in arrivals:
            arrived += group.generated
            self.queue.append(group)
        self.waiting += arrived
        active = []
        for site, speed in zip(self.sites, speeds, strict=True):
            pool = site.ready
            if pool.replicas:
                pool.advance(now, step, speed)
                pool.retire(score, self.limit)
                active.append(pool)
            else:
                pool.served = pool.capacity = 0.0
            for batch in site.draining:
                batch.advance(now, step, speed)
                batch.retire(score, self.limit)
                batch.finish(step)
        if active:
            self._admit(now, now + step, active, score)
        for pool in active:
            pool.finish(step)
        return arrived

    def _admit(self, now: float, end: float, active: list[Pool], score: Score) -> None:
        """Admit from the head of the queue while there is room, to each pool by its room."""
        queue, classes, limit = self.queue, self.classes, self.limit
        while queue and queue[0].start < end:
            head = queue[0]
            rooms = [max(pool.slots - pool.running, 0.0) for pool in active]
            room = sum(rooms)
            if room <= 0:
                return
            window = (now, end) if head.end <= now else (max(head.start, now), min(head.end, end))
            admitted = 0.0
            for pool, own in zip(active, rooms, strict=True):
                if own > 0:
                    admitted += pool.admit(head, own / room, window, classes)
                    pool.retire(score, limit)
            if admitted < _WHOLE:
                self._keep(head, admitted)
                return
            self.waiting -= head.generated
            queue.popleft()
        if not queue:
            self.waiting = 0.0

    def _keep(self, head: Prefilled, admitted: float) -> None:
        """Leave the rest of a head in the queue."""
        rest = 1 - admitted
        self.waiting -= head.generated * admitted
        head.start += admitted * (head.end - head.start)
        head.requests *= rest
        head.generated *= rest
        head.due *= rest
        head.on_time *= rest

    def tokens_due(self) -> float:
        """Return prompt and generated tokens of all that wait or run."""
        running = sum(site.tokens_due() for site in self.sites)
        return sum(head.due for head in self.queue) + running
