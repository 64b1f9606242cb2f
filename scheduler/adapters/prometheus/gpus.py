"""How busy the GPUs are, from DCGM: fleet means, each named after its metric.

Three numbers that people call utilisation differ: the share of GPUs that pods hold (the cluster
knows it), GPU_UTIL (the share of time in which any kernel ran, high even with few cores busy),
and SM_ACTIVE (the share of time and cores in use). dcgm-exporter leaves SM_ACTIVE out unless asked
for it; then GR_ENGINE_ACTIVE stands in, which says no more of cores than GPU_UTIL does.

Newer exporters write `hostname`, older ones `Hostname`; both become `host`, and a GPU that two
scrapes show counts once. Samples older than `stale_seconds` do not count.
"""

from scheduler.adapters.prometheus.connection import Connection, PrometheusError, Value
from scheduler.ports import GpuUse

UTIL = "DCGM_FI_DEV_GPU_UTIL"
SM_ACTIVE = "DCGM_FI_PROF_SM_ACTIVE"
ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
_METRICS = (UTIL, SM_ACTIVE, ENGINE_ACTIVE)


def utilisation(connection: Connection, now_seconds: float, stale_seconds: float = 90.0) -> GpuUse:
    """Return the means at an instant; no failure is raised, `note` says it."""
    try:
        vector = connection.instant(_query(stale_seconds), now_seconds)
    except PrometheusError as error:
        return GpuUse(note=str(error))
    return use(vector)


def use(vector: tuple[Value, ...]) -> GpuUse:
    """Return the means from the answer to the query."""
    mean = {each.labels["meaning"]: each.value for each in vector if "of" not in each.labels}
    count = {each.labels["meaning"]: int(each.value) for each in vector if "of" in each.labels}
    active = SM_ACTIVE if SM_ACTIVE in mean else ENGINE_ACTIVE if ENGINE_ACTIVE in mean else ""
    gpus = count.get(UTIL, count.get(active, 0))
    return GpuUse(
        gpus=gpus,
        gpu_util=mean[UTIL] / 100 if UTIL in mean else None,
        active=mean[active] if active else None,
        active_metric=active,
        note=_note(active, gpus, count.get(active, 0)),
    )


def _note(active: str, gpus: int, counted: int) -> str:
    if not gpus:
        return "no DCGM metrics: no GPU's use is known"
    if not active:
        return f"neither {SM_ACTIVE} nor {ENGINE_ACTIVE} is exported"
    if active == ENGINE_ACTIVE:
        return f"{SM_ACTIVE} is not exported; {ENGINE_ACTIVE} stands in and overstates use"
    return f"{SM_ACTIVE} comes from {counted} of {gpus} GPUs" if counted < gpus else ""


def _query(stale: float) -> str:
    terms = []
    for metric in _METRICS:
        gpu = f"max by (host,gpu,UUID,GPU_I_ID) ({_hosts(f'{metric} and {_young(metric, stale)}')})"
        terms.append(f'label_replace(avg({gpu}),"meaning","{metric}","","")')
        count = f'label_replace(count({gpu}),"of","gpus","","")'
        terms.append(f'label_replace({count},"meaning","{metric}","","")')
    return " or ".join(terms)


def _young(metric: str, stale: float) -> str:
    return f"(time()-timestamp({metric}) <= {stale:g})"


def _hosts(expression: str) -> str:
    older = f'label_replace({expression},"host","$1","Hostname","(.+)")'
    return f'label_replace({older},"host","$1","hostname","(.+)")'
