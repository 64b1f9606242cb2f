"""What stands in the way of a change: autoscalers, disruption budgets, priorities."""

from scheduler.apiserver.objects.wire import CrossReference, Meta, Selector, Wire


class AutoscalerSpec(Wire, frozen=True):
    """spec of a HorizontalPodAutoscaler or a KEDA ScaledObject; KEDA's kind may be absent."""

    scale_target_ref: CrossReference = CrossReference()


class Autoscaler(Wire, frozen=True):
    """autoscaling/v2 HorizontalPodAutoscaler or keda.sh/v1alpha1 ScaledObject."""

    metadata: Meta
    spec: AutoscalerSpec = AutoscalerSpec()


class BudgetSpec(Wire, frozen=True):
    """spec of a PodDisruptionBudget."""

    selector: Selector | None = None


class BudgetStatus(Wire, frozen=True):
    """status of a PodDisruptionBudget."""

    disruptions_allowed: int = 0


class DisruptionBudget(Wire, frozen=True):
    """policy/v1 PodDisruptionBudget."""

    metadata: Meta
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


class PriorityClass(Wire, frozen=True):
    """scheduling.k8s.io/v1 PriorityClass."""

    metadata: Meta
    value: int = 0
    global_default: bool = False
