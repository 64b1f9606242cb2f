"""Reads a file of batch jobs: CSV with a header, or a YAML list of the same fields."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scheduler.simulation.clusterfile import ClusterSpec, Name
from scheduler.simulation.documents import DocumentError, checked, parse_yaml, read_text
from scheduler.simulation.jobs import JobSpec, shapes

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class JobsError(DocumentError):
    """A file of jobs that was refused."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Name
    tenant: Annotated[str, Field(min_length=1)]
    priority: Count = 1
    pods: Count = 1
    gpus_per_pod: Count
    min_pods: Count | None = None
    max_pods: Count | None = None
    gpu_models: tuple[str, ...] = ()
    submitted_seconds: Annotated[float, Field(allow_inf_nan=False)]
    duration_seconds: Duration
    declared_seconds: Duration | None = None
    """Not given: the owner knows the duration."""
    checkpoint_interval_seconds: Duration | None = None
    checkpoint_write_seconds: Seconds = 0.0
    writes_on_notice: bool = False
    restart_seconds: Seconds = 0.0
    grace_seconds: Seconds = 30.0
    preemptible: bool = True

    @model_validator(mode="after")
    def sane(self) -> Self:
        """Elastic bounds hold the pods; only a job that writes can write on notice."""
        if not (self.min_pods or self.pods) <= self.pods <= (self.max_pods or self.pods):
            raise ValueError("min_pods <= pods <= max_pods must hold")
        if self.writes_on_notice and self.checkpoint_interval_seconds is None:
            raise ValueError("writes_on_notice: needs checkpoint_interval_seconds")
        return self

    def spec(self) -> JobSpec:
        """Return the job, its defaults filled in."""
        values = self.model_dump()
        values["min_pods"] = self.min_pods or self.pods
        values["max_pods"] = self.max_pods or self.pods
        values["declared_seconds"] = self.declared_seconds or self.duration_seconds
        return JobSpec(**values)


def load_jobs(path: Path, cluster: ClusterSpec) -> tuple[JobSpec, ...]:
    """Return the jobs of a file; raise `JobsError` with every error.

    A job that an empty cluster could not hold under one leaf is an error. In CSV an empty cell
    means "not given", and GPU models are separated by `;`.
    """
    text = read_text(path, JobsError)
    document = _csv(text) if path.suffix == ".csv" else parse_yaml(text, str(path), JobsError)
    if not document or not isinstance(document, list | tuple):
        raise JobsError((f"{path}: holds no jobs; write a list of them, or give 'none'",))
    jobs = tuple(row.spec() for row in checked(tuple[_Row, ...], document, JobsError))
    errors = _impossible(jobs, cluster)
    if errors:
        raise JobsError(errors)
    return jobs


def _csv(text: str) -> tuple[dict[str, object], ...]:
    return tuple(
        {
            str(name): value.split(";") if name == "gpu_models" and value else value
            for name, value in row.items()
            if value not in (None, "")
        }
        for row in csv.DictReader(io.StringIO(text), restkey="(more cells than the header)")
    )


def _impossible(jobs: tuple[JobSpec, ...], cluster: ClusterSpec) -> tuple[str, ...]:
    counts = Counter(job.id for job in jobs)
    errors = [f"id: {name} occurs twice" for name, n in sorted(counts.items()) if n > 1]
    known = {node.gpu_model for node in cluster.nodes}
    for index, job in enumerate(jobs):
        unknown = sorted(set(job.gpu_models) - known)
        if unknown:
            errors.append(f"{index}.gpu_models: no node has {', '.join(unknown)}")
            continue
        allowed = job.gpu_models or tuple(known)
        nodes = tuple(node for node in cluster.nodes if node.gpu_model in allowed)
        if not shapes(ClusterSpec(nodes)).fits(job.min_pods, job.gpus_per_pod):
            errors.append(
                f"{index}.pods: no leaf holds {job.min_pods} pods of {job.gpus_per_pod} GPUs"
            )
    return tuple(errors)
