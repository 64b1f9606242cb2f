"""Small fleets and pods, built and drawn."""

from hypothesis import strategies as st

from binpacking.cards import Fleet, Host, PodShape
from binpacking.fragmentation import Mixture

MODELS = ("A", "B")


def host(name: str, *cards: int, cpu: int = 8000, memory: int = 1000, model: str = "A") -> Host:
    return Host(name, model, cpu, memory, cards)


def pod(
    cards: int, milli: int = 1000, cpu: int = 1000, memory: int = 0, models: tuple[str, ...] = ()
) -> PodShape:
    return PodShape(cpu, memory, cards, milli if cards else 0, models)


def shapes() -> st.SearchStrategy[PodShape]:
    whole = st.builds(
        pod,
        st.sampled_from((0, 1, 2, 4)),
        cpu=st.integers(0, 6).map(lambda n: 1000 * n),
        memory=st.integers(0, 3).map(lambda n: 100 * n),
        models=st.sampled_from(((), ("A",), ("B",), ("A", "B"))),
    )
    shared = st.builds(
        pod,
        st.just(1),
        milli=st.sampled_from((100, 300, 470, 810)),
        cpu=st.integers(0, 6).map(lambda n: 1000 * n),
        models=st.sampled_from(((), ("B",))),
    )
    return st.one_of(whole, shared)


def fleets() -> st.SearchStrategy[tuple[Host, ...]]:
    cards = st.lists(st.just(1000), min_size=1, max_size=4).map(tuple)
    one = st.tuples(cards, st.integers(1, 12), st.sampled_from(MODELS))
    return st.lists(one, min_size=1, max_size=4).map(
        lambda hosts: tuple(
            host(f"n{place}", *cards, cpu=1000 * cpu, model=model)
            for place, (cards, cpu, model) in enumerate(hosts)
        )
    )


def mixtures() -> st.SearchStrategy[Mixture]:
    weighted = st.tuples(shapes(), st.integers(1, 9))
    return st.lists(weighted, min_size=1, max_size=5).map(lambda found: Mixture(tuple(found)))


def fleet(*hosts: Host) -> Fleet:
    return Fleet(hosts)
