"""What is served: small SavedModels with random weights, what they are asked, and the same call in one process."""

import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slipway_wire import inference, messages, payloads, predict
from slipway_wire.paths import PostVerb
from slipway_wire.payloads import Payload

HALF = "half_plus_two"
CNN, MNIST, RESNET, LARGE = "digits_cnn", "mnist_cnn", "resnet50", "large_input"
RECOMMENDER = "recommender"
SMALL = (HALF, CNN, MNIST, RECOMMENDER)
INPUT_SHAPES: Mapping[str, tuple[int, ...]] = {
    HALF: (1, 1),
    CNN: (1, 8, 8, 1),
    MNIST: (1, 28, 28, 1),
    RESNET: (8, 224, 224, 3),
    LARGE: (32, 224, 224, 3),
}
# Two convolutions and two layers: the shapes of their weights.
_WEIGHTS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    CNN: ((3, 3, 1, 32), (3, 3, 32, 64), (1024, 64), (64, 10)),
    MNIST: ((3, 3, 1, 16), (3, 3, 16, 32), (1568, 64), (64, 10)),
}
NETWORK = Path(__file__).parents[3] / "config" / "recipes" / "recommender" / "network.py"
CLASSES = ("no click", "click")


@dataclass(frozen=True)
class Question:
    """
    What a model is asked.

    Attributes:
        signature: Name of the signature.
        inputs: Input alias -> array, [rows, …].
        method: `predict` or `classify`.
    """

    signature: str
    inputs: Mapping[str, np.ndarray[Any, Any]]
    method: PostVerb = "predict"

    def payload(self, model: str) -> Payload:
        """Write it for both protocols; *model*: its name."""
        if self.method == "classify":
            (examples,) = self.inputs.values()
            message = inference.encode_request(model, list(examples), signature_name=self.signature)
        else:
            name = "" if self.signature == "serving_default" else self.signature
            message = predict.encode_request(model, self.inputs, signature_name=name)
        return payloads.of_message(message, None, self.method)


def questions(model: str, alias: str = "x") -> dict[str, Question]:
    """
    Say what *model* is asked; one row, but of the large ones.

    The recommender gets one visit as a serialized tf.Example: as a string for Predict, and for Classify.

    Args:
        model: Its name.
        alias: Of the input of a model of numbers; Keras names it as it likes.
    """
    if model != RECOMMENDER:
        return {"Predict": Question("serving_default", {alias: images(model)})}
    row = example(age=0.31, price=0.22, gender=b"f", weekday=b"sat", cities=[b"oslo", b"lima"])
    rows = inference.examples_tensor([row])
    return {
        "Predict": Question("predict", {"examples": rows}),
        "Classify": Question("classification", {"inputs": rows}, "classify"),
    }


def example(**features: float | bytes | list[bytes]) -> bytes:
    """Serialize a tf.Example of *features*: a number as floats, words as bytes."""
    made = messages.Example()
    for name, value in features.items():
        if isinstance(value, float):
            made.features.feature[name].float_list.value.append(value)
        else:
            made.features.feature[name].bytes_list.value.extend(value if isinstance(value, list) else [value])
    written: bytes = made.SerializeToString(deterministic=True)
    return written


def images(name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Make an input of *name*: pixels, k / 255, so that JSON is as long as it is in practice."""
    pixels = np.random.default_rng(0).integers(0, 256, INPUT_SHAPES[name])
    return (pixels / 255).astype(np.float32)


def export(name: str, directory: Path) -> None:
    """Write SavedModel *name* with random weights, in a process of its own."""
    import tensorflow as tf  # noqa: PLC0415

    tf.random.set_seed(0)
    if name == RESNET:
        import keras  # noqa: PLC0415

        keras.applications.ResNet50(weights=None, name="resnet").export(str(directory), verbose=False)
    elif name == RECOMMENDER:
        _export_recommender(directory)
    else:
        _export_plain(name, directory)


def _export_plain(name: str, directory: Path) -> None:
    import tensorflow as tf  # noqa: PLC0415

    class Model(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            self.weights = [tf.Variable(tf.random.normal(shape, stddev=0.05)) for shape in _WEIGHTS.get(name, ())]

        @tf.function(input_signature=[tf.TensorSpec((None, *INPUT_SHAPES[name][1:]), tf.float32, "x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            if name == HALF:
                return {"y": x / 2 + 2}
            if name == LARGE:
                # Little to compute, all of the input to move.
                return {"y": tf.reduce_max(x, axis=(1, 2, 3))}
            first, second, hidden, out = self.weights
            x = tf.nn.relu(tf.nn.conv2d(x, first, 1, "SAME"))
            if name == MNIST:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, second, 1, "SAME")), 2, 2, "VALID")
            x = tf.reshape(x, (-1, hidden.shape[0]))
            return {"y": tf.nn.relu(x @ hidden) @ out}

    model = Model()
    tf.saved_model.save(model, str(directory), signatures={"serving_default": model.__call__})


def _export_recommender(directory: Path) -> None:
    """Write the recipe's DeepFM, with the signatures of its contract; untrained, for a click's odds cost the same."""
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location("network", NETWORK)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{NETWORK} is not there: run this from a checkout of the repository")
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    model = network.build()

    def scored(examples: Any) -> tuple[Any, Any]:
        logistic = tf.sigmoid(model(examples))
        return logistic, tf.concat([1 - logistic, logistic], axis=1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "examples")])  # type: ignore[untyped-decorator]
    def told(examples: Any) -> Any:
        logistic, probabilities = scored(examples)
        return {"logistic": logistic, "probabilities": probabilities}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "inputs")])  # type: ignore[untyped-decorator]
    def classified(inputs: Any) -> Any:
        _, probabilities = scored(inputs)
        rows = tf.shape(inputs)[0]
        return {"classes": tf.tile(tf.constant([CLASSES]), [rows, 1]), "scores": probabilities}

    signatures = {"serving_default": classified, "classification": classified, "predict": told}
    tf.saved_model.save(model, str(directory), signatures=signatures)
    # `save` calls every signature a Predict signature; Classify answers for those that say so.
    path = directory / "saved_model.pb"
    found = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for name in ("serving_default", "classification"):
        found.meta_graphs[0].signature_def[name].method_name = "tensorflow/serving/classify"
    path.write_bytes(found.SerializeToString(deterministic=True))


def call_in_process(
    directory: Path,
    asked: Question,
    seconds: float,
    callers: int,
    rows: int,
    *,
    count: int = 0,
    is_frozen: bool = False,
) -> None:
    """
    Ask the model of *directory* as the server does, for *seconds* a line of standard input; print a record of each.

    Prints a line as soon as it is warm.

    Args:
        directory: Of one version.
        asked: What.
        seconds: For how long.
        callers: Threads.
        rows: If it is given, the one row of *asked* is repeated so often, and an op has one thread: what batch threads do at
            their best. `per_s` and `cpu_us` are then those of a row.
        count: If it is given, each caller makes so many calls instead, and *seconds* do not count.
        is_frozen: Whether variables become constants.
    """
    from slipway_server.backends.saved_model import SavedModelLoader  # noqa: PLC0415
    from slipway_server.load_options import from_settings  # noqa: PLC0415
    from slipway_server.servables.loader import Call  # noqa: PLC0415
    from slipway_server.settings import Settings  # noqa: PLC0415

    servable = SavedModelLoader(
        directory,
        from_settings(Settings(tensorflow_intra_op_parallelism=1 if rows else 0, freeze_variables=is_frozen)),
    ).load()
    signature = servable.signatures[asked.signature]
    arrays = [np.repeat(array, max(rows, 1), axis=0) for array in asked.inputs.values()]
    # Keras names a model's input and outputs as it likes.
    call = Call(asked.signature, dict(zip(signature.inputs, arrays, strict=True)), tuple(signature.outputs))

    def repeat(until: float) -> int:
        calls = 0
        while calls < count if count else time.monotonic() < until:
            servable.run(call)
            calls += 1
        return calls

    if count:
        servable.run(call)
    else:
        repeat(time.monotonic() + min(seconds, 1.0))
    print("ready", flush=True)  # noqa: T201
    for line in sys.stdin:
        if not line.strip():
            break
        began, used = time.monotonic(), time.process_time()
        with ThreadPoolExecutor(callers) as pool:
            calls = sum(pool.map(repeat, [began + seconds] * callers)) * max(rows, 1)
        took, used = time.monotonic() - began, time.process_time() - used
        print(json.dumps({"per_s": calls / took, "cpu_us": 1e6 * used / calls}), flush=True)  # noqa: T201
    servable.close()
