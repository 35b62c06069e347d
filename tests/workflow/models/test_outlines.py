import pytest


def write_graphs(directory):
    """A small TF1 network with a Dropout to feed, and a training op beside it: as .pb and as .meta."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, graph.device("/job:worker/task:1"):
        x, keep = v1.placeholder(tf.float32, [None, 4], "x"), v1.placeholder(tf.float32, [], "keep_prob")
        scores = tf.nn.softmax(tf.matmul(x, tf.ones([4, 3])) * keep, name="head/probs")
        tf.argmax(scores, 1, name="label")
        v1.train.export_meta_graph(f"{directory}/net.meta")
        (v1.io).write_graph(graph.as_graph_def(), str(directory), "net.pb", as_text=False)


def outlines(directory):
    """Read files in *directory*, each as its kind is read; an error becomes its text."""
    from pathlib import Path

    from slipway.errors import SourceError
    from slipway.models.outlines import of_graph, of_keras

    found = {}
    for path in sorted(Path(directory).iterdir()):
        try:
            found[path.name] = (of_keras if path.suffix == ".keras" else of_graph)(path)
        except SourceError as error:
            found[path.name] = str(error)
    return found


@pytest.fixture(scope="module")
def found(fresh, user_files, tmp_path_factory):
    directory = tmp_path_factory.mktemp("graphs")
    fresh.test_function(write_graphs, str(directory))
    (directory / "damaged.pb").write_bytes(b"\xff\xff")
    (directory / "empty.pb").write_bytes(b"")
    (directory / "cut.keras").write_bytes((user_files / "flowers.keras").read_bytes()[:500])
    for name in ("flowers.keras", "pair.keras"):
        (directory / name).write_bytes((user_files / name).read_bytes())
    return fresh.test_function(outlines, str(directory))


def shapes(tensors):
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", ["net.pb", "net.meta"])
def test_a_graph_takes_placeholders_and_gives_what_nothing_uses(name, found):
    inputs, outputs = found[name]

    assert shapes(inputs) == {"x": ("float32", (None, 4)), "keep_prob": ("float32", ())}
    assert shapes(outputs) == {"label": ("int64", (None,))}
    assert outputs["label"].op == "ArgMax"


def test_a_keras_file_says_its_inputs_and_outputs(found):
    inputs, outputs = found["pair.keras"]

    assert shapes(inputs) == {"user": ("float32", (None, 2)), "item": ("float32", (None, 3))}
    assert shapes(outputs) == {"rating": ("float32", (None, 1)), "click": ("float32", (None, 1))}
    assert list(shapes(found["flowers.keras"][1]).values()) == [("float32", (None, 3))]


@pytest.mark.parametrize(("name", "said"), [
    ("damaged.pb", "expected a graph, found something else"),
    ("empty.pb", "expected a graph, found none"),
    ("cut.keras", "cannot be read by Keras"),
])  # fmt: skip
def test_a_damaged_file_is_one_line(name, said, found):
    assert said in found[name]
    assert "\n" not in found[name]
