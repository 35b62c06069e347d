"""Requests for each version of an image: golden answers where they are of the same rows, else the server's own."""

from types import SimpleNamespace

import numpy as np
import pytest
from tests.workflow.test_bench import Running

from slipway import benchmark, golden, payloads
from slipway.contract import read_contract
from slipway.golden import Golden
from slipway.scenarios.versions import GoldenVersions
from slipway.settings import BenchmarkSettings
from slipway_wire.tolerances import Tolerance, Tolerances

X = np.random.default_rng(1).random((6, 3), np.float32)
CONTRACT = """
format: 1
signatures:
  serving_default:
    method: predict
    inputs: {x: {shape: [N, 3]}}
    outputs: {y: {shape: [N, 3]}}
"""


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


@pytest.fixture
def subject(tmp_path):
    """Version 2 of a model, with golden data of version 1 for the same rows, and of version 3 for others."""
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    golden.write(tmp_path / "1.npz", Golden({"x": X}, {"y": X * 9}, None))
    golden.write(tmp_path / "3.npz", Golden({"x": X + 1}, {"y": X}, None))
    contract = read_contract(tmp_path / "contract.yaml")
    own = Golden({"x": X}, {"y": X / 2 + 2}, None)
    return SimpleNamespace(
        version=2,
        contract=contract,
        golden=own,
        goldens={1: tmp_path / "1.npz", 3: tmp_path / "3.npz"},
        tolerances=Tolerances(Tolerance(1e-6, 1e-6)),
        spec=SimpleNamespace(model="m", versions=lambda: [1, 2, 3], labels=lambda: {"stable": 1}),
    )


def found(subject, server):
    running = SimpleNamespace(host="127.0.0.1", grpc_port=server.grpc)
    return benchmark.versions_of(subject, BenchmarkSettings(), running)


def test_every_version_gets_the_same_rows_and_its_own_answers(subject, server):
    known = found(subject, server)
    sent = {version: known.make(version, 2) for version in known.served}

    assert all(np.array_equal(sent[1][0].inputs["x"], one[0].inputs["x"]) for one in sent.values())
    assert [one[0].spec.version for one in sent.values()] == [1, 2, 3]
    np.testing.assert_array_equal(sent[1][0].expected["y"], X[:2] * 9)
    # Nobody knows what version 3 answers to these rows: it is asked.
    np.testing.assert_allclose(sent[3][0].expected["y"], X[:2] / 2 + 2, rtol=1e-6)
    assert [known.against(version) for version in (1, 2, 3)] == [
        "its own golden answers",
        "its own golden answers",
        "its own answers before the load",
    ]
    assert not known.are_alike(sent[1], sent[2])
    assert known.are_alike(sent[2], sent[3])


def test_a_label_asks_for_the_answers_of_its_version(subject, server):
    known = found(subject, server)
    (payload, *_) = known.make("stable", 2)

    assert (payload.spec.version, payload.spec.label) == (None, "stable")
    assert payload.rest_path == "/v1/models/m/labels/stable:predict"
    np.testing.assert_array_equal(payload.expected["y"], X[:2] * 9)
    assert known.against("stable") == "its own golden answers"


def test_the_measured_version_is_asked_as_the_other_loads_ask_it(subject):
    known = GoldenVersions("", "m", subject.contract, 2, {2: subject.golden}, {}, None)
    own = payloads.from_golden(subject.golden, subject.contract, model="m", version=2, signature=None, rows=3)

    assert [one.grpc_message for one in known.make(2, 3)] == [one.grpc_message for one in own]
