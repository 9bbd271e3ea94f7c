"""No call is answered wrongly in silence, and nothing is lost by one that is refused."""

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from fuzz import labels, matrices, model_files, pictures, questions, settings, shell
from fuzz.bench import G, N
from fuzz.judge import Case, Fault, NotMade, judge

pytestmark = pytest.mark.slow  # thousands of calls, a minute and a half
MODULES = (matrices, labels, settings, questions, model_files, pictures, shell)
CASES = [case for module in MODULES for case in module.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_a_call_is_answered_rightly_or_refused_by_name(case, bench, outcomes):
    try:
        outcome = judge(case, bench)
    except NotMade as error:
        pytest.skip(f"cannot be made here: {error}")
    except Fault:
        outcomes[case.kind, "FAULTS"] += 1
        raise
    outcomes[case.kind, outcome] += 1


def test_there_are_many_cases_and_each_is_another():
    names = [(case.kind, case.name) for case in CASES]
    assert len(names) >= 500 and len(set(names)) == len(names)


WITHOUT_BYTES = sorted(name for name in labels.TEXTS if "bytes" not in name)


@hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    form=st.sampled_from(sorted(matrices.SAME)),
    dress=st.tuples(*[st.sampled_from(WITHOUT_BYTES)] * 3, st.sampled_from(sorted(labels.NUMBERS))),
    genes=st.permutations(range(G)),
    cells=st.lists(st.integers(0, N - 1), min_size=1, unique=True),
)
def test_mixtures_of_unusual_forms_are_read_as_the_canonical_one(
    bench, outcomes, form, dress, genes, cells
):
    makes = {**labels.TEXTS, **labels.NUMBERS}
    chosen = zip(("group", "donor", "celltype", "age"), dress, strict=True)
    forms = {key: makes[name] if key != "age" else labels.NUMBERS[name] for key, name in chosen}

    def given(bench):
        adata = matrices.in_x(matrices.SAME[form], bench)
        for key, make in forms.items():
            adata.obs[key] = make(adata.obs[key])
        return adata[cells][:, genes]

    def equals(bench):
        return labels.known(bench, bench.adata[cells].copy())

    case = Case("mixture", "", given, labels.known, equals)
    try:
        outcome = judge(case, bench)
    except NotMade:
        hypothesis.reject()
    outcomes[case.kind, outcome] += 1
