import pytest
from pydantic import ValidationError

from slipway.contract import ExampleFeature, FeatureForm, ImageForm

WRONG = {
    "two scales": (ImageForm, {"range": [0, 1], "scale": 1}, "either `range`, or `scale` and `offset`"),
    "an offset alone": (ImageForm, {"offset": 1}, "`offset` needs `scale`"),
    "no scale": (ImageForm, {"scale": [1, 0, 1]}, "a scale of 0 makes all pictures alike"),
    "no range": (ImageForm, {"range": [1, 1]}, "a scale of 0 makes all pictures alike"),
    "two sizes": (FeatureForm, {"default": 0, "pad": 0}, "`default` (of fixed size) or `pad` (of any), not both"),
    "a padded picture": (FeatureForm, {"image": {}, "pad": 0}, "an `image` has no vocabulary, default or pad"),
    "strings": (ExampleFeature, {"dtype": "string"}, "needs `values`"),
    "range the wrong way round": (ExampleFeature, {"range": [1, 0]}, "[least, greatest], got range [1.0, 0.0]"),
    "count and shape": (ExampleFeature, {"count": [0, 1], "shape": [2]}, "count is [least, most]"),
    "a value of another kind": (ExampleFeature, {"dtype": "int64", "values": [1, 2.5]}, "2.5 is no int64"),
    "a default of another kind": (ExampleFeature, {"default": "a"}, "'a' is no float32"),
}


@pytest.mark.parametrize(("kind", "given", "expected"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_one_line(kind, given, expected):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(given)

    (fault,) = caught.value.errors()
    assert expected in fault["msg"]
