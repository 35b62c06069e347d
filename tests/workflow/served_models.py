"""
Models whose answers numpy can check, in a real server: what callers of any TF Serving would meet.

`digits` tells handwritten digits by the nearest mean image: real images, real errors, no training. `types` gives back
what it is given.
"""

import contextlib

import numpy as np
from scipy import special
from sklearn.datasets import load_digits
from tests.dropin import processes, saved_models

from slipway.contract import Contract
from slipway.golden import Golden

DIGITS = {
    "format": 1,
    "doc": "Tells digits by the nearest mean image.",
    "signatures": {
        "serving_default": {
            "method": "predict",
            "doc": "Scores of all digits.",
            "inputs": {"image": {"dtype": "float32", "shape": ["N", 64], "range": [0, 1], "doc": "grey values"}},
            "outputs": {
                "logits": {"dtype": "float32", "shape": ["N", 10], "meaning": "logits"},
                "probabilities": {
                    "dtype": "float32",
                    "shape": ["N", 10],
                    "range": [0, 1],
                    "row_sum": 1,
                    "from": "softmax(logits)",
                    "meaning": "probability",
                },
                "label": {"dtype": "int64", "shape": ["N"], "range": [0, 9], "from": "argmax(logits)"},
            },
        },
        "classify": {
            "method": "classify",
            "features": {"image": "image/raw"},
            "scores": "probabilities",
            "classes": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
        },
        "regress": {"method": "regress", "features": {"image": "image/raw"}, "value": "best"},
    },
    "golden": {"label": "label"},
}
DIGITS["signatures"]["serving_default"]["outputs"]["best"] = {"dtype": "float32", "shape": ["N"]}
CLASSES = [label.encode() for label in DIGITS["signatures"]["classify"]["classes"]]


def digits_contract():
    return Contract.model_validate(DIGITS)


def _weights():
    """Weights [64, 10] and offsets [10] whose largest sum is the nearest mean image."""
    images, labels = _data()
    means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
    return means.T.astype(np.float32), (-(means**2).sum(axis=1) / 2).astype(np.float32)


def _data():
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int64)


def digits_golden(rows=None):
    images, labels = _data()
    images, labels = images[:rows], labels[:rows]
    weights, offsets = _weights()
    logits = images @ weights + offsets
    probabilities = special.softmax(logits, axis=-1)
    outputs = {"logits": logits, "probabilities": probabilities, "label": logits.argmax(axis=-1)}
    return Golden({"image": images}, outputs | {"best": probabilities.max(axis=-1)}, labels)


def write_digits(directory):
    """Write the SavedModel, node by node: no TensorFlow in this process."""
    graph = saved_models.Graph()
    weights, offsets = _weights()
    image = graph.placeholder("image", "float")
    examples = graph.placeholder("examples", "string")
    parsed = _parse_examples(graph, examples)
    default = {"image": (image, "float")}, _outputs(graph, "", image, weights, offsets)
    graph.signature("serving_default", *default)
    shape = graph.meta.signature_def["serving_default"].inputs["image"].tensor_shape
    shape.unknown_rank = False
    for size in (-1, 64):
        shape.dim.add().size = size
    scored = _outputs(graph, "e_", parsed, weights, offsets)
    rows = graph.node("Shape", "shape", [scored["label"][0]], T="int64", out_type="int32")
    one = graph.node("Const", "one", dtype="int32", value=np.int32([1]))
    axis = graph.node("Const", "concat_axis", dtype="int32", value=np.int32(0))
    multiples = graph.node("ConcatV2", "multiples", [rows, one, axis], N=2, T="int32", Tidx="int32")
    labels = graph.node("Const", "classes", dtype="string", value=np.array([CLASSES], object))
    classes = graph.node("Tile", "tiled", [labels, multiples], T="string", Tmultiples="int32")
    given = {"inputs": (examples, "string")}
    graph.signature(
        "classify", given, {"classes": (classes, "string"), "scores": scored["probabilities"]}, saved_models.CLASSIFY
    )
    graph.signature("regress", given, {"outputs": scored["best"]}, saved_models.REGRESS)
    return graph.write(directory)


def _outputs(graph, prefix, image, weights, offsets):
    w = graph.node("Const", f"{prefix}w", dtype="float", value=weights)
    b = graph.node("Const", f"{prefix}b", dtype="float", value=offsets)
    last = graph.node("Const", f"{prefix}last", dtype="int32", value=np.int32(-1))
    product = graph.node("MatMul", f"{prefix}product", [image, w], T="float")
    logits = graph.node("BiasAdd", f"{prefix}logits", [product, b], T="float")
    probabilities = graph.node("Softmax", f"{prefix}softmax", [logits], T="float")
    label = graph.node("ArgMax", f"{prefix}label", [logits, last], T="float", Tidx="int32", output_type="int64")
    best = graph.node("Max", f"{prefix}best", [probabilities, last], T="float", Tidx="int32", keep_dims=False)
    return {
        "logits": (logits, "float"),
        "probabilities": (probabilities, "float"),
        "label": (label, "int64"),
        "best": (best, "float"),
    }


def _parse_examples(graph, examples):
    def strings(name, values):
        return graph.node("Const", name, dtype="string", value=np.array(values, object))

    names = [strings(n, []) for n in ("names", "sparse_keys")]
    keys = [strings("dense_keys", [b"image/raw"]), strings("ragged_keys", [])]
    default = graph.node("Const", "default", dtype="float", value=np.zeros(0, np.float32))
    parsed = graph.node(
        "ParseExampleV2",
        "parsed",
        [examples, *names, *keys, default],
        Tdense=("float",),
        num_sparse=0,
        sparse_types=(),
        ragged_value_types=(),
        ragged_split_types=(),
    )
    (node,) = (node for node in graph.meta.graph_def.node if node.name == "parsed")
    node.attr["dense_shapes"].list.shape.add().dim.add(size=64)
    for empty in ("sparse_types", "ragged_value_types", "ragged_split_types"):
        node.attr[empty].list.SetInParent()
    return parsed


def write_types(directory):
    """Write what gives back its inputs: `serving_default` (float x -> y), `two` (float a, string b_bytes), `text`, `int` (uint16)."""
    graph = saved_models.Graph()
    ends = {}
    for dtype in ("float", "string", "uint16"):
        given = graph.placeholder(f"x_{dtype}", dtype)
        ends[dtype] = (given, dtype), (graph.node("Identity", f"y_{dtype}", [given], T=dtype), dtype)
    graph.signature("serving_default", {"x": ends["float"][0]}, {"y": ends["float"][1]})
    graph.signature("text", {"words": ends["string"][0]}, {"y_bytes": ends["string"][1]})
    graph.signature("int", {"x": ends["uint16"][0]}, {"y": ends["uint16"][1]})
    two = [{"a": ends["float"][end], "b_bytes": ends["string"][end]} for end in (0, 1)]
    graph.signature("two", *two)
    return graph.write(directory)


def types_contract(signatures):
    """Make a contract of some signatures of `types`: name -> (dtype, inputs, outputs)."""
    described = {}
    for name, (dtype, inputs, outputs) in signatures.items():
        known = {"values": ["a"]} if dtype == "string" else {}
        described[name] = {
            "method": "predict",
            "inputs": {i: {"dtype": dtype, "shape": ["N", "T"], **known} for i in inputs},
            "outputs": {o: {"dtype": dtype, "shape": ["N", "T"]} for o in outputs},
        }
    return Contract.model_validate({"format": 1, "signatures": described, "probe": {"dims": {"T": 2}}})


@contextlib.contextmanager
def running(directory):
    """Run a server with `digits` (versions 1 and 2, the label stable on 1) and `types`."""
    for version in (1, 2):
        write_digits(directory / "digits" / str(version))
    write_types(directory / "types" / "1")
    config = directory / "models.config"
    config.write_text(
        "model_config_list {\n"
        f'  config {{ name: "digits" base_path: "{directory}/digits" model_platform: "tensorflow"\n'
        '    model_version_policy { all {} } version_labels { key: "stable" value: 1 } }\n'
        f'  config {{ name: "types" base_path: "{directory}/types" model_platform: "tensorflow" }}\n'
        "}\n"
    )
    server = processes.Server(
        directory / "server", f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models"
    )
    try:
        yield server.wait_until_ready()
    finally:
        server.close()
