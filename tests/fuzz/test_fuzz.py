"""No call is answered wrongly in silence, and nothing is lost by one that is refused."""

import pytest

from fuzz import labels, matrices, model_files, pictures, questions, settings, shell
from fuzz.judge import Fault, NotMade, judge

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
