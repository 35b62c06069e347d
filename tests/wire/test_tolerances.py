import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire.status import InvalidArgument
from slipway_wire.tolerances import Tolerance, Tolerances

ANY = Tolerance(any_value=True)
tolerances = st.builds(
    Tolerance, st.floats(0, 1, allow_nan=False), st.floats(0, 1, allow_nan=False), any_value=st.booleans()
)
names = st.text(min_size=1, max_size=5)


@given(st.builds(Tolerances, tolerances, st.dictionaries(names, st.dictionaries(names, tolerances))))
def test_what_is_written_is_read(tmp_path_factory, one):
    path = tmp_path_factory.getbasetemp() / "tolerances.json"
    path.write_bytes(one.to_json())

    assert Tolerances.read(path) == one


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"default": {"atoll": 1}, "signatures": {}}', b"\xff"])
def test_another_file_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "t.json").write_bytes(content)

    with pytest.raises(InvalidArgument, match=r"t\.json: not a file of tolerances: ") as caught:
        Tolerances.read(tmp_path / "t.json")
    assert "\n" not in caught.value.message


def test_every_output_has_its_own():
    own = Tolerance(0.5, 0)
    known = Tolerances(Tolerance(0, 0), {"serving_default": {"y": own}})

    assert known.of("serving_default", "y") == own
    assert known.of("serving_default", "z") == known.of("other", "y") == Tolerance(0, 0)


X = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(("tolerance", "expected", "found", "said"), [
    (Tolerance(0.1, 0), X, X + 0.05, None),
    (Tolerance(0.1, 0), X, X + 0.2, "[0]: expected 1.0, got 1.20000"),
    (Tolerance(9, 9), np.array([1, 2]), np.array([1, 3]), "[1]: expected 2, got 3"),
    (Tolerance(0, 0), np.array([np.nan]), np.array([np.nan]), None),
    (ANY, X, X + 1000, None),
    (ANY, X, X[:1], "expected shape [2], got [1]"),
    (ANY, X, np.array([np.inf, 1], np.float32), "expected finite values, got inf"),
    (ANY, X, np.array([1, 1]), None),
    (ANY, X, np.array([b"a", b"b"], object), "expected numbers, got strings"),
    (ANY, np.array([True]), np.array([1]), "expected bools, got numbers"),
    (ANY, np.array([b"a"], object), np.array([b"b"], object), None),
])  # fmt: skip
def test_a_departure_is_told_in_one_line(tolerance, expected, found, said):
    fault = tolerance.difference(expected, found)

    assert fault == said or (said is not None and fault.startswith(said))
