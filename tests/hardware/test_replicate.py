"""Do copies balance the pipeline as well as any could?"""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from bale.hardware import Load, replicate


@st.composite
def loads(draw: st.DrawFn) -> list[Load]:
    unit = draw(st.sampled_from([1, 1, 4]))
    made = []
    for index in range(draw(st.integers(1, 4))):
        positions = draw(st.integers(1, 12))
        most = draw(st.sampled_from([1, positions]))
        made.append(Load(str(index), draw(st.integers(1, 5)), positions, draw(st.integers(1, 3)), most, unit))
    return made


@given(loads(), st.integers(0, 30))
def test_no_other_copies_are_faster(made, more) -> None:
    budget = sum(load.cost(1) for load in made) + more
    copies = replicate(made, budget)

    def slowest(many):
        return max(load.time(n) for load, n in zip(made, many, strict=True))

    def paid(many):
        return sum(load.cost(n) for load, n in zip(made, many, strict=True))

    assert paid(copies) <= budget
    assert all(1 <= n <= load.most for load, n in zip(made, copies, strict=True))
    affordable = [many for many in product(*(range(1, load.most + 1) for load in made)) if paid(many) <= budget]
    assert slowest(copies) == min(map(slowest, affordable))
    for index, n in enumerate(copies):  # and none is more than that takes
        fewer = [*copies[:index], n - 1, *copies[index + 1 :]]
        assert n == 1 or slowest(fewer) > slowest(copies)
