"""The annotations and labels that Tidal reads and writes; times are RFC 3339 in UTC.

On workloads that a role targets (for a RoleBasedGroup with a scaling adapter: on the adapter;
without one, the role's name stands in the key): `replicas` and `epoch` say what Tidal wrote last,
so that another count is somebody's edit; `override-until` says how long that edit is left alone.

On Jobs: `queue` (a label) hands the Job to Tidal. A user declares the others, Tidal keeps the rest
of them. `docs/batch.md` explains them to users.
"""

PREFIX = "tidal.dev/"

# on workloads, written by Tidal
REPLICAS = "tidal.dev/replicas"
OVERRIDE_UNTIL = "tidal.dev/override-until"
OVERRIDE_REPLICAS = "tidal.dev/override-replicas"  # the count that is left alone

# on anything that Tidal writes
EPOCH = "tidal.dev/epoch"

# on pods that wait: changed to wake kube-scheduler
PLAN = "tidal.dev/plan"

# on pods whose gate Tidal has lifted: the reservation that they go to
RESERVATION = "tidal.dev/reservation"

# scheduling gate of pods that must not be placed without Tidal
GATE = "tidal.dev/gang"

# on Jobs, declared by the user
QUEUE = "tidal.dev/queue"  # label
TENANT = "tidal.dev/tenant"  # default: the namespace
CLASS = "tidal.dev/class"  # killable (default), checkpoint or protected
MIN_PODS = "tidal.dev/min-pods"
MAX_PODS = "tidal.dev/max-pods"
GPU_MODELS = "tidal.dev/gpu-models"  # comma-separated names of the policy
EXPECTED_SECONDS = "tidal.dev/expected-seconds"
CHECKPOINT_INTERVAL = "tidal.dev/checkpoint-interval-seconds"
CHECKPOINT_WRITE = "tidal.dev/checkpoint-write-seconds"  # it writes one on notice, in this time
RESTART_SECONDS = "tidal.dev/restart-seconds"

# on Jobs or their pods, told while the job runs
CHECKPOINT_STARTED = "tidal.dev/checkpoint-started"  # newer than the last: it writes one now
LAST_CHECKPOINT = "tidal.dev/last-checkpoint"
ACKNOWLEDGED = "tidal.dev/notice-acknowledged"  # the deadline that is acknowledged

# on Jobs, kept by Tidal
ATTEMPT = "tidal.dev/attempt"
STOPS = "tidal.dev/stops"  # the last hour's, as attempt:pods@time, for budgets after a restart
LOAN = "tidal.dev/loan"  # JSON of snapshot.Loan
NOTICE_DEADLINE = "tidal.dev/notice-deadline"  # also on the pods, for their downward API
NOTICE_FOR = "tidal.dev/notice-for"
