"""The real TensorFlow, on TF Serving's own test models."""

import shutil
import threading

import numpy as np
import pytest

from slipway_server.load_options import LoadOptions
from slipway_server.servables.loader import Call
from slipway_wire import messages
from slipway_wire.signatures import CLASSIFY, REGRESS
from slipway_wire.status import DataLoss, InvalidArgument, NotFound, WireError


@pytest.fixture(scope="module")
def saved_model():
    from slipway_server.backends import saved_model as module

    return module


@pytest.fixture(scope="module")
def load(saved_model, testdata):
    """`load(name)` gives the servable of one of the test models, closed at the end."""
    loaded = {}

    def by_name(name):
        if name not in loaded:
            (directory,) = (testdata / name).iterdir()
            loaded[name] = saved_model.SavedModelLoader(directory).load()
        return loaded[name]

    yield by_name
    for servable in loaded.values():
        servable.close()


def half(servable, x, **options):
    return servable.run(Call("serving_default", {"x": x}, ("y",)), **options)["y"]


@pytest.mark.parametrize("name", ["saved_model_half_plus_two_cpu", "saved_model_half_plus_two_tf2_cpu"])
def test_models_of_both_versions_of_tensorflow_run(load, name):
    y = half(load(name), np.float32([[1.0], [2.0], [-3.5]]))

    assert y.dtype == np.float32
    assert y.tolist() == [[2.5], [3.0], [0.25]]


@pytest.mark.parametrize("x", [np.float32([1.0, 2.0]), np.float32([[[3.0]]]), np.float32(4.0)])
def test_shapes_are_the_graphs_to_judge(load, x):
    """The signature says [?, 1]; TF Serving's own suite feeds [?], and session.run would refuse it."""
    y = half(load("saved_model_half_plus_two_cpu"), x)

    np.testing.assert_array_equal(y, x / 2 + 2)


def test_a_signature_that_lies_about_its_shape_is_served(load):
    """tf.saved_model.load refuses this model."""
    y = half(load("saved_model_half_plus_three"), np.float32([1.0, 2.0]))

    assert y.tolist() == [3.5, 4.0]


def test_a_model_with_state_keeps_it(load):
    """It has reference variables, which tf.saved_model.load refuses, and signatures without inputs."""
    counter = load("saved_model_counter")

    def count(signature, **inputs):
        return float(counter.run(Call(signature, inputs, ("output",)))["output"])

    assert count("reset_counter") == 0.0
    assert count("incr_counter") == 1.0
    assert count("incr_counter_by", delta=np.float32(41.0)) == 42.0
    assert count("get_counter") == 42.0


def test_examples_are_parsed_by_the_graph(load):
    example = messages.Example()
    example.features.feature["x"].float_list.value.append(3.0)
    serialized = np.array([example.SerializeToString()] * 2, object)

    answer = load("saved_model_half_plus_two_cpu").run(Call("regress_x_to_y", {"inputs": serialized}, ("outputs",)))

    assert answer["outputs"].tolist() == [[3.5], [3.5]]


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("serving_default", {"x": np.float64([1.0])}),
        ("serving_default", {"x": np.array([b"one"], object)}),
        ("regress_x_to_y", {"inputs": np.array([b"no example"], object)}),
    ],
)
def test_what_the_graph_refuses_keeps_tensorflows_code(load, signature, inputs):
    servable = load("saved_model_half_plus_two_cpu")

    with pytest.raises(InvalidArgument):
        servable.run(Call(signature, inputs, tuple(servable.signatures[signature].outputs)))


def test_two_aliases_of_one_tensor_are_fetched_once_and_told_twice(saved_model, testdata):
    directory = testdata / "saved_model_half_plus_two_cpu" / "00000123"
    servable = saved_model.SavedModelLoader(directory).load()
    signature = servable.signatures["serving_default"]
    signature.outputs["again"] = signature.outputs["y"]

    answer = servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("again", "y")))

    assert answer["y"].tolist() == answer["again"].tolist() == [2.5]
    servable.close()


@pytest.fixture(scope="module")
def drawing(saved_model, tmp_path_factory):
    """A model whose signatures show what one run draws: a number per example, and, fed elsewhere, its length."""
    tf = saved_model.tf.compat.v1
    directory = tmp_path_factory.mktemp("drawing") / "1"
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, others = tf.placeholder(tf.string, [None]), tf.placeholder(tf.string, [None])
        drawn = tf.random_uniform(tf.shape(inputs))
        lengths = tf.cast(tf.strings.length(others), tf.float32)

        def signature(fed, outputs, method):
            def infos(tensors):
                return {alias: tf.saved_model.build_tensor_info(tensor) for alias, tensor in tensors.items()}

            return tf.saved_model.build_signature_def(infos({"inputs": fed}), infos(outputs), method)

        builder = tf.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "draw": signature(inputs, {"outputs": drawn}, REGRESS),
                "draw_too": signature(inputs, {"scores": drawn[:, None]}, CLASSIFY),
                "measure": signature(others, {"outputs": lengths}, REGRESS),
            },
        )
        builder.save()
    servable = saved_model.SavedModelLoader(directory).load()
    yield servable
    servable.close()


@pytest.mark.behaviour("5.5-one-run")
def test_several_signatures_are_answered_by_one_run(drawing):
    """Two runs would draw two different numbers."""
    examples = np.array([b"a", b"bc"], object)
    outputs = {"draw": ("outputs",), "draw_too": ("scores",), "measure": ("outputs",)}

    draw, draw_too, measure = drawing.run_together(
        [Call(signature, {"inputs": examples}, aliases) for signature, aliases in outputs.items()]
    )

    assert draw["outputs"].shape == (2,)
    assert draw_too["scores"].tolist() == draw["outputs"][:, None].tolist()
    assert measure["outputs"].tolist() == [1.0, 2.0]


def test_what_callers_choose_does_not_pile_up(saved_model, drawing, monkeypatch):
    """Each choice of signatures and outputs is a callable that TensorFlow prepares and keeps."""
    monkeypatch.setattr(saved_model, "_MAX_RUNNERS", 2)
    examples = {"inputs": np.array([b"a"], object)}

    for _ in range(2):
        for choice in (["draw"], ["measure"], ["draw", "measure"], ["measure", "draw"]):
            found = drawing.run_together([Call(signature, examples, ("outputs",)) for signature in choice])
            assert len(found) == len(choice)

    assert len(drawing._runners) <= 2


def test_a_scalar_string_keeps_its_zero_bytes(saved_model):
    array = saved_model._as_array(b"a\x00")

    assert array.shape == ()
    assert array.item() == b"a\x00"


def test_threads_share_a_servable(load):
    servable, wrong = load("matrix_half_plus_two"), []

    def ask(number):
        for step in range(50):
            x = np.full((1 + step % 3, 3, 3), number + step, np.float32)
            if not np.array_equal(half(servable, x), x / 2 + 2):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_versions_are_independent(saved_model, testdata):
    """Unloading one must not take anything from another of the same model."""
    directory = testdata / "saved_model_half_plus_two_cpu" / "00000123"
    one, other = (saved_model.SavedModelLoader(directory).load() for _ in range(2))
    assert half(one, np.float32([1.0])).tolist() == [2.5]
    one.close()

    assert half(other, np.float32([1.0])).tolist() == [2.5]
    other.close()


def test_tags_that_are_not_there_are_told_with_those_that_are(saved_model, testdata):
    directory = testdata / "saved_model_half_plus_two_cpu" / "00000123"

    with pytest.raises(NotFound, match=r"no meta graph with tags \{gpu,serve\} in the SavedModel; it has \{serve\}"):
        saved_model.SavedModelLoader(directory, LoadOptions(tags=("serve", "gpu"))).load()


@pytest.fixture
def copy(testdata, tmp_path):
    return shutil.copytree(testdata / "saved_model_half_plus_two_cpu" / "00000123", tmp_path / "1")


def test_a_directory_without_a_model_is_told(saved_model, tmp_path):
    with pytest.raises(NotFound, match=r"saved_model\.pb: not there"):
        saved_model.SavedModelLoader(tmp_path).load()


def test_a_truncated_model_is_told(saved_model, copy):
    graph = copy / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:1000])

    with pytest.raises(DataLoss, match=r"saved_model\.pb: not a SavedModel, or damaged"):
        saved_model.SavedModelLoader(copy).load()


def test_missing_variables_are_told_with_the_directory(saved_model, copy):
    shutil.rmtree(copy / "variables")

    with pytest.raises(WireError, match=str(copy)):
        saved_model.SavedModelLoader(copy).load()


def test_damaged_variables_are_told_with_the_directory(saved_model, copy):
    for index in copy.glob("variables/*.index"):
        index.write_bytes(b"\x00" * index.stat().st_size)

    with pytest.raises(WireError, match=str(copy)):
        saved_model.SavedModelLoader(copy).load()
