import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_wire import dtypes, stablehlo
from slipway_wire.signatures import PREDICT, Signature, TensorSpec
from slipway_wire.stablehlo import Lowered, Manifest, Program, Weight, decode, encode, next_offset
from slipway_wire.status import DataLoss

NUMBERS = [
    dtypes.from_name(name) for name in ("float", "double", "half", "bfloat16", "int8", "int64", "bool", "complex64")
]


def specs():
    shapes = st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=3).map(tuple)
    names = st.text(min_size=1, max_size=5)
    return st.lists(names, unique=True, max_size=3).flatmap(
        lambda aliases: st.tuples(
            *[st.builds(TensorSpec, st.just(a), st.sampled_from(NUMBERS), shapes, names) for a in sorted(aliases)]
        ).map(lambda made: {spec.name: spec for spec in made})
    )


@st.composite
def manifests(draw):
    shapes = draw(st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=3))
    weights, end = [], 0
    for shape in shapes:
        weights.append(Weight(draw(st.sampled_from(NUMBERS)), tuple(shape), next_offset(end)))
        end = weights[-1].offset + weights[-1].nbytes
    used = st.lists(st.integers(0, len(weights) - 1), max_size=3).map(tuple) if weights else st.just(())
    signatures = {}
    for number, name in enumerate(draw(st.lists(st.text(max_size=5), unique=True, max_size=3))):
        inputs = draw(specs())
        has_rows = any(one.shape[:1] == (None,) for one in inputs.values())
        sizes = draw(st.sets(st.integers(1, 99), min_size=1, max_size=3).map(sorted)) if has_rows else [None]
        programs = tuple(Program(f"s{number}.{rows}", rows, draw(used), "0" * 64) for rows in sizes)
        signature = Signature(name, PREDICT, inputs, draw(specs()))
        signatures[name] = Lowered(signature, programs, rows_are_apart=draw(st.booleans()))
    return Manifest("1.0.0", {"jaxlib": "0.10.2"}, tuple(weights), signatures)


@settings(max_examples=40)
@given(manifests())
def test_what_is_written_is_read_and_written_alike(manifest):
    assert decode(encode(manifest)) == manifest
    assert encode(decode(encode(manifest))) == encode(manifest)


@given(st.integers(0, 10**12))
def test_a_weight_begins_at_the_next_boundary(end):
    assert next_offset(end) % stablehlo.ALIGNMENT_BYTES == 0
    assert 0 <= next_offset(end) - end < stablehlo.ALIGNMENT_BYTES


SPEC = TensorSpec("x", dtypes.FLOAT, (None, 2), "x:0")
MANIFEST = Manifest(
    "1.0.0",
    {},
    (Weight(dtypes.FLOAT, (2, 3), 64),),
    {
        "f": Lowered(
            Signature("f", PREDICT, {"x": SPEC}, {}),
            (Program("s0", 1, (0,), "ab"), Program("s1", 4, (0,), "cd")),
            rows_are_apart=True,
        )
    },
)


def test_a_weight_knows_its_bytes():
    assert MANIFEST.weights[0].nbytes == 24


def test_a_tensor_of_unknown_rank_is_not_written():
    odd = replace(SPEC, shape=None)
    lowered = replace(MANIFEST.signatures["f"], signature=Signature("f", PREDICT, {"x": odd}, {}))

    with pytest.raises(ValueError, match="unknown rank"):
        encode(replace(MANIFEST, signatures={"f": lowered}))


def _set(path, value):
    def spoil(content):
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_set(["format"], 2), "format 2, and this release reads 1; export it again"),
        (_set(["weights", 0, "offset"], 63), "a weight begins at byte 63, no multiple of 64"),
        (_set(["weights", 0, "shape"], [2, -1]), "-1 is no size"),
        (_set(["weights", 0, "shape"], [True]), "True is no size"),
        (_set(["weights", 0, "dtype"], "DT_STRING"), "DT_STRING: XLA has no such elements"),
        (_set(["weights", 0, "dtype"], "DT_VARIANT"), "DT_VARIANT: XLA has no such elements"),
        (_set(["weights", 0, "dtype"], "DT_NONE"), "unknown data type"),
        (_set(["signatures", "f", "programs", 0, "file"], "../secret"), "'../secret' is no name of a file"),
        (_set(["signatures", "f", "programs", 0, "weights"], [1]), "s0 uses a weight that there is not"),
        (_set(["signatures", "f", "programs", 0, "rows"], 4), r"signature f: programs for \[4, 4\] rows"),
        (_set(["signatures", "f", "programs", 0, "rows"], None), r"signature f: programs for \[None, 4\] rows"),
        (_set(["signatures", "f", "programs", 0, "rows"], 0), r"signature f: programs for \[0, 4\] rows"),
        (
            _set(["signatures", "f", "inputs", "x", "shape"], [1, 2]),
            r"signature f: programs for \[1, 4\] rows, which do not fit its inputs",
        ),
        (
            _set(["signatures", "f", "inputs"], {}),
            r"signature f: programs for \[1, 4\] rows, which do not fit its inputs",
        ),
        (
            _set(["signatures", "f", "programs"], [{"file": "s0", "rows": None, "weights": [], "sha256": "ab"}]),
            r"signature f: programs for \[None\] rows, which do not fit its inputs",
        ),
        (_set(["signatures", "f", "programs"], []), r"signature f: programs for \[\] rows"),
        (_set(["signatures", "f", "inputs"], [1]), "damaged"),
        (_set(["signatures"], None), "damaged"),
    ],
)
def test_what_is_damaged_is_told_in_one_line(spoil, said):
    content = json.loads(encode(MANIFEST))
    spoil(content)

    with pytest.raises(DataLoss, match=rf"^stablehlo/manifest\.json: .*{said}") as told:
        decode(json.dumps(content).encode())
    assert "\n" not in told.value.message


@given(st.one_of(st.binary(max_size=50), st.text(max_size=50).map(str.encode), st.just(b"[]"), st.just(b"{}")))
def test_no_bytes_do_worse_than_data_loss(content):
    with pytest.raises(DataLoss):
        decode(content)
