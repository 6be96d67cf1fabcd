"""Brock 1a, 1b, 2a, 2b against golden values, and what they need."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import BROCK_MODELS, BrockInput, estimate_brock
from lungscreen.records import NoduleType

SOLID, PART, GGN = NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS

GOLDEN = [
    (BrockInput(4, False, "M", False, 62, False, False, SOLID, 4), (0.137, 0.134, 0.110, 0.112)),
    (BrockInput(8, True, "F", False, 65, False, False, SOLID, 1), (6.575, 5.760, 7.114, 6.281)),
    (BrockInput(8, False, "M", False, 65, False, False, SOLID, 1), (2.027, 1.725, 2.095, 1.867)),
    (BrockInput(15, True, "F", True, 70, True, True, SOLID, 1), (29.186, 45.281, 48.705, 60.564)),
    (BrockInput(10, True, "M", False, 60, False, True, PART, 2), (7.293, 5.808, 11.725, 9.782)),
    (BrockInput(20, False, "F", False, 55, False, False, GGN, 5), (29.130, 24.720, 13.079, 13.102)),
]


@pytest.mark.parametrize(("data", "percent"), GOLDEN)
def test_golden_values(data, percent):
    found = [100 * estimate_brock(data, model).probability for model in BROCK_MODELS]
    assert found == pytest.approx(percent, abs=5e-4)


def test_sex_and_lobe_are_enough_for_1a():
    """1a asks for sex only beside the image; the others name what they lack."""
    data = BrockInput(8, True, "F")
    assert estimate_brock(data, "1a").probability == pytest.approx(0.06575, abs=1e-5)
    assert estimate_brock(data, "1b").needs == ("spiculation",)
    assert estimate_brock(data, "2a").needs == (
        "age",
        "family history of lung cancer",
        "emphysema",
        "nodule type",
        "number of nodules",
    )
    assert estimate_brock(data, "2b").text.startswith("not assessed: needs age")


@pytest.mark.parametrize(
    ("data", "need"),
    [
        (BrockInput(None, True, "F"), "largest transverse diameter"),
        (BrockInput(8, None, "F"), "lobe"),
        (BrockInput(8, True), "sex"),
    ],
)
def test_missing_inputs_are_never_invented(data, need):
    result = estimate_brock(data, "1a")
    assert (result.probability, result.needs) == (None, (need,))


def test_what_was_assumed_is_named_where_the_model_uses_it():
    data = BrockInput(8, True, "F", True, assumed=(("upper_lobe", "lobe estimated"), ("spiculation", "spic estimated")))
    assert estimate_brock(data, "1a").assumed == ("lobe estimated",)
    assert estimate_brock(data, "1b").assumed == ("lobe estimated", "spic estimated")
    assert estimate_brock(data, "1a").text == "6.6 %"


def test_benign_calcification_is_not_a_nodule_for_brock():
    result = estimate_brock(BrockInput(8, True, "F", nodule_type=NoduleType.CALCIFIED), "1a")
    assert result.probability is None
    assert result.text.startswith("not assessed: benign calcification")


@pytest.mark.parametrize(
    "values",
    [
        {"size_mm": 0},
        {"size_mm": -3},
        {"size_mm": math.nan},
        {"size_mm": 1e12},
        {"nodule_count": 0},
        {"nodule_count": 10**9},
        {"age": -1},
        {"age": 1e6},
        {"age": math.nan},
    ],
)
def test_impossible_inputs_are_refused_once_and_early(values):
    """Where the input is made; no model has to look again."""
    with pytest.raises(ValueError, match="expected"):
        BrockInput(**{"size_mm": 8, "upper_lobe": True, **values})


@pytest.mark.parametrize("size", [1e-300, 1e-9, 0.1, 1e9])
@pytest.mark.parametrize("model", BROCK_MODELS)
def test_absurd_sizes_give_a_probability_and_no_overflow(size, model):
    data = BrockInput(size, True, "F", True, 120, True, True, SOLID, 10_000)
    assert 0 <= estimate_brock(data, model).probability <= 1


@settings(max_examples=100, deadline=None)
@given(
    st.floats(3, 60),
    st.floats(3, 60),
    st.sampled_from(BROCK_MODELS),
    st.booleans(),
    st.sampled_from([SOLID, PART, GGN]),
)
def test_a_larger_nodule_is_never_less_likely_cancer(one, other, model, upper, kind):
    small, large = (
        estimate_brock(BrockInput(mm, upper, "F", True, 60, True, False, kind, 3), model).probability
        for mm in sorted((one, other))
    )
    assert 0 < small <= large < 1
