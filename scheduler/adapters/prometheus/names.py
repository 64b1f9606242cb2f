"""Candidate metric names per meaning, in order of preference, for vLLM and SGLang.

An engine's upgrade renames metrics, a recording rule writes `_` for `:`, KServe's monitors put
`kserve_` in front; so a meaning is a list, and each name of it is looked for in all four spellings.

    live        tokens counted as they are computed (a prompt at its prefill)
    finished    tokens counted when their request ends
    requests    requests that ended
    running, waiting   requests now; `waiting_*` are SGLang's further queues of a PD role
    kv_usage    share of the KV cache in use
    ttft        histogram: time to first token, per request
    tpot        histogram: mean time of a further token per request where the engine has it, as the
                SLO means it; else per token, where one long step in a good request counts as late
"""

import msgspec

PROMPT, GENERATED = "prompt", "generated"


class Candidate(msgspec.Struct, frozen=True):
    """A name, and the matchers that a series of it needs to carry the meaning."""

    name: str
    matchers: str = ""


_BASE: dict[str, tuple[Candidate, ...]] = {
    "prompt_live": (
        Candidate("vllm:prompt_tokens_total"),
        Candidate("sglang:realtime_tokens_total", 'mode=~"prefill_compute|prefill_cache"'),
    ),
    "prompt_finished": (Candidate("sglang:prompt_tokens_total"),),
    "generated_live": (
        Candidate("vllm:generation_tokens_total"),
        Candidate("sglang:realtime_tokens_total", 'mode="decode"'),
    ),
    "generated_finished": (Candidate("sglang:generation_tokens_total"),),
    "requests": (
        Candidate("vllm:request_success_total"),
        Candidate("sglang:num_requests_total"),
    ),
    "running": (
        Candidate("vllm:num_requests_running"),
        Candidate("sglang:num_running_reqs"),
    ),
    "waiting": (
        Candidate("vllm:num_requests_waiting"),
        Candidate("sglang:num_queue_reqs"),
    ),
    "waiting_prefill": (Candidate("sglang:num_prefill_prealloc_queue_reqs"),),
    "waiting_decode": (Candidate("sglang:num_decode_prealloc_queue_reqs"),),
    "waiting_transfer": (Candidate("sglang:num_decode_transfer_queue_reqs"),),
    "kv_usage": (
        Candidate("vllm:kv_cache_usage_perc"),
        Candidate("vllm:gpu_cache_usage_perc"),
        Candidate("sglang:token_usage"),
    ),
    "ttft": (
        Candidate("vllm:time_to_first_token_seconds_bucket"),
        Candidate("sglang:time_to_first_token_seconds_bucket"),
    ),
    "tpot": (
        Candidate("vllm:request_time_per_output_token_seconds_bucket"),
        Candidate("vllm:inter_token_latency_seconds_bucket"),
        Candidate("vllm:time_per_output_token_seconds_bucket"),
        Candidate("sglang:inter_token_latency_seconds_bucket"),
        Candidate("sglang:time_per_output_token_seconds_bucket"),
    ),
}


def _spellings(candidate: Candidate) -> tuple[Candidate, ...]:
    names = [candidate.name, candidate.name.replace(":", "_", 1)]
    names += [f"kserve_{name}" for name in names]
    return tuple(Candidate(name, candidate.matchers) for name in names)


CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    meaning: tuple(each for candidate in base for each in _spellings(candidate))
    for meaning, base in _BASE.items()
}


def _every_name() -> str:
    """Spell all names as one short expression: queries travel in addresses of limited length."""
    engines = []
    for engine in ("vllm", "sglang"):
        names = {each.name for many in _BASE.values() for each in many}
        own = sorted(name.removeprefix(f"{engine}:") for name in names if name.startswith(engine))
        engines.append(f"{engine}[:_]({'|'.join(own)})")
    return f"(kserve_)?({'|'.join(engines)})"


EVERY_NAME = _every_name()
"""A regular expression of all of them, in all spellings."""
