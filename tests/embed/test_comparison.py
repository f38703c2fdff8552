"""What a model can run on, side by side."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from vecbridge.embed.comparison import FORMS, compare
from vecbridge.errors import ConfigError, InvalidRecordError


def test_everything_that_runs_has_rates_and_a_cosine_and_the_rest_a_reason():
    found = compare("bundled", device="cpu", pictures=3, rounds=2)
    assert {(each.runtime, each.dtype) for each in found} == set(FORMS)
    ran = [each for each in found if not each.problem]
    assert ("onnx", "float32") in {(each.runtime, each.dtype) for each in ran}
    for each in ran:
        assert each.pictures_per_s > 0
        assert each.texts_per_s > 0
        assert 0.9 < each.cosine <= 1
    assert [each.pictures_per_s for each in ran] == sorted(
        (each.pictures_per_s for each in ran), reverse=True
    )
    problems = {(each.runtime, each.dtype): each.problem for each in found if each.problem}
    assert "--int8" in problems["onnx", "int8"]
    assert found[len(ran) :] == [each for each in found if each.problem], "losers of the race stand last"


def test_rates_count_pictures_of_ones_own():
    picture = np.zeros((20, 30, 3), np.uint8)
    found = compare("bundled", device="cpu", images=[picture, picture, picture], pictures=2, rounds=1)
    assert any(each.pictures_per_s for each in found)
    with pytest.raises(InvalidRecordError):
        compare("bundled", device="cpu", images=[b"no picture"], rounds=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pictures": 0}, "pictures=0"),
        ({"rounds": 0}, "rounds=0"),
        ({"images": []}, "at least one picture"),
        ({"device": "warp"}, "warp"),
        ({"model": "./nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ConfigError, match=words):
        compare(**{"model": "bundled", "device": "cpu"} | arguments)
