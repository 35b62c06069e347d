import numpy as np
import pytest

from slipway.errors import SourceError
from slipway.golden import read


def answers(export, inputs):
    from slipway.models.session import ServingSession

    with ServingSession(export) as session:
        return session.run("serving_default", inputs)


def fault(export, signature, inputs):
    from slipway.models.session import ServingSession

    with ServingSession(export) as session:
        try:
            session.run(signature, inputs)
        except SourceError as error:
            return str(error)


def refusal(export):
    from slipway.models.session import ServingSession, load_eagerly

    told = []
    for load in (ServingSession, load_eagerly):
        try:
            load(export)
        except SourceError as error:
            told.append(str(error))
    return told


def test_a_session_answers_as_the_model_does(exported, fresh):
    golden = read(exported.golden)

    found = fresh.test_function(answers, exported.export, dict(golden.inputs))

    np.testing.assert_allclose(found["logits"], golden.outputs["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "inputs", "expected"),
    [
        ("other", {}, "other: no signature or input 'other'"),
        ("serving_default", {"picture": np.zeros((1, 8, 8, 1))}, "serving_default: no signature or input 'picture'"),
        ("serving_default", {"image": np.zeros((1, 8), np.float32)}, "ValueError: Cannot feed value of shape (1, 8)"),
        ("classify", {"inputs": np.array([b"no example"], object)}, "InvalidArgumentError: "),
    ],
)
def test_a_call_that_fails_is_one_line(signature, inputs, expected, exported, fresh):
    told = fresh.test_function(fault, exported.export, signature, inputs)

    assert told.startswith(expected)
    assert "\n" not in told


def cut(directory):
    path = directory / "variables/variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1000])


def flip(directory):
    path = directory / "variables/variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def remove(directory):
    (directory / "saved_model.pb").unlink()


def empty(directory):
    (directory / "saved_model.pb").write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, flip, remove, empty])
def test_both_loaders_refuse_a_damaged_savedmodel_in_one_line(harm, exported, fresh, tmp_path):
    version = exported.copy(tmp_path / "copy")
    harm(version.export)

    told = fresh.test_function(refusal, version.export)

    assert len(told) == 2, told
    assert told[0].startswith(f"{version.export}: cannot be loaded: ")
    assert all("\n" not in line for line in told)
