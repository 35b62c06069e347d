"""The real TensorFlow, on TF Serving's own test models."""

import contextlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.load_options import LoadOptions, from_settings
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_server.settings import Settings
from slipway_wire import messages
from slipway_wire.signatures import CLASSIFY, REGRESS
from slipway_wire.status import DataLoss, InvalidArgument, NotFound, ResourceExhausted, WireError


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


def test_an_error_that_quotes_bytes_is_told(load):
    """TensorFlow's own exception cannot be made of a message that is no UTF-8."""
    servable = load("saved_model_half_plus_two_cpu")
    examples = np.array([b"\xff no Example"], object)

    with pytest.raises(InvalidArgument, match="Could not parse example input"):
        servable.run(Call("regress_x_to_y", {"inputs": examples}, ("outputs",)))


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


# --- every model, one right answer -----------------------------------------------------------------


def examples(*values):
    serialized = []
    for value in values:
        example = messages.Example()
        example.features.feature["x"].float_list.value.append(value)
        example.features.feature["x2"].float_list.value.append(value)
        serialized.append(example.SerializeToString())
    return np.array(serialized, object)


X = np.float32([[1.0], [-3.5]])
HALF_PLUS_TWO = [
    ("serving_default", {"x": X}, {"y": [[2.5], [0.25]]}),
    ("regress_x_to_y", {"inputs": examples(1.0, -3.5)}, {"outputs": [[2.5], [0.25]]}),
    ("regress_x_to_y2", {"inputs": examples(1.0, -3.5)}, {"outputs": [[3.5], [1.25]]}),
    ("regress_x2_to_y3", {"inputs": X}, {"outputs": [[3.5], [1.25]]}),
    ("classify_x_to_y", {"inputs": examples(1.0, -3.5)}, {"scores": [[2.5], [0.25]]}),
]
ANSWERS = {
    "saved_model_half_plus_two_cpu/00000123": HALF_PLUS_TWO,
    "saved_model_half_plus_two_2_versions/00000123": HALF_PLUS_TWO,
    "saved_model_half_plus_two_2_versions/00000124": HALF_PLUS_TWO,
    "saved_model_half_plus_two_tf2_cpu/00000123": [
        *HALF_PLUS_TWO,
        ("classify_x2_to_y3", {"inputs": X}, {"scores": [[3.5], [1.25]]}),
    ],
    "saved_model_half_plus_three/00000123": [
        ("serving_default", {"x": X}, {"y": [[3.5], [1.25]]}),
        ("tensorflow/serving/regress", {"inputs": examples(1.0, -3.5)}, {"outputs": [[3.5], [1.25]]}),
        ("tensorflow/serving/predict", {"x": X}, {"y": [[3.5], [1.25]]}),
        ("regress_x_to_y", {"inputs": examples(1.0, -3.5)}, {"outputs": [[3.5], [1.25]]}),
    ],
    "matrix_half_plus_two/1": [
        ("serving_default", {"x": np.eye(3, dtype=np.float32)[None]}, {"y": (np.eye(3)[None] / 2 + 2).tolist()})
    ],
    "saved_model_counter/00000123": [
        ("incr_counter_by", {"delta": np.float32(2.0)}, {"output": 2.0}),
        ("get_counter", {}, {"output": 2.0}),
    ],
}


def test_every_saved_model_there_is_has_its_answers(testdata):
    found = {path.parent.relative_to(testdata).as_posix() for path in testdata.glob("*/*/saved_model.pb")}

    assert found == ANSWERS.keys()


@pytest.mark.parametrize("name", ANSWERS)
def test_every_model_answers_rightly(saved_model, testdata, name):
    servable = saved_model.SavedModelLoader(testdata / name).load()

    for signature, inputs, expected in ANSWERS[name]:
        if signature in servable.signatures:
            answer = servable.run(Call(signature, inputs, tuple(expected)))
            assert {alias: array.tolist() for alias, array in answer.items()} == expected
    assert sum(signature in servable.signatures for signature, _, _ in ANSWERS[name]) >= min(2, len(ANSWERS[name]))
    servable.close()


def test_the_meta_graph_with_the_wanted_tags_is_loaded(saved_model, made, tmp_path):
    def graph(value):
        return [
            made.placeholder("x"),
            made.constant("c", "float", float_val=[value]),
            made.node("y", "Mul", "x", "c", T="float"),
        ]

    directory = made.save(tmp_path / "1", graph(2.0), outputs=("y",), more=[(("gpu", "serve"), graph(3.0), ("y",))])

    for tags, y in ((("serve",), 2.0), (("serve", "gpu"), 3.0)):
        servable = saved_model.SavedModelLoader(directory, LoadOptions(tags=tags)).load()
        assert servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("y",)))["y"].tolist() == [y]
        servable.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What TensorFlow 2 writes: `exported(name)` is a version directory."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("exported")
    vocabulary = directory / "words.txt"
    vocabulary.write_text("cat\ndog\n")

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64))
            initializer = tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticVocabularyTable(initializer, 1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def vocabulary(self, word):
            return {"id": self.table.lookup(word)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def ragged(self, text):
            words = tf.strings.split(text)
            return {"words": words.to_tensor(b"?"), "count": words.row_lengths()}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def sparse(self, serialized):
            parsed = tf.io.parse_example(serialized, {"x": tf.io.VarLenFeature(tf.float32)})["x"]
            return {"sum": tf.sparse.reduce_sum(parsed, 1)}

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32)])
        def dense(self, x):
            return {"y": tf.nn.relu(tf.matmul(x, self.kernel) + 1.0)}

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32)], jit_compile=True)
        def compiled(self, x):
            return {"y": tf.nn.relu(tf.matmul(x, self.kernel) + 1.0)}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int64)])
        def large(self, size):
            return {"sum": tf.reduce_sum(tf.fill([size], 1.0))}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32)])
        def scalar(self, x):
            return {"y": x + 1.0}

    module = Module()

    def by_name(name):
        if not (directory / name).exists():
            tf.saved_model.save(module, str(directory / name), signatures=getattr(module, name))
        return directory / name

    return by_name


def answer_of(saved_model, directory, options=None, **inputs):
    servable = saved_model.SavedModelLoader(directory, options).load()
    try:
        outputs = tuple(servable.signatures["serving_default"].outputs)
        answer = servable.run(Call("serving_default", inputs, outputs))
        return {alias: array.tolist() for alias, array in answer.items()}
    finally:
        servable.close()


def test_assets_ragged_sparse_and_scalar_models_answer(saved_model, exported):
    words = np.array([b"dog", b"cat", b"emu"], object)
    text = np.array([b"a b c", b"d"], object)

    assert answer_of(saved_model, exported("vocabulary"), word=words) == {"id": [1, 0, 2]}
    assert answer_of(saved_model, exported("ragged"), text=text) == {
        "words": [[b"a", b"b", b"c"], [b"d", b"?", b"?"]],
        "count": [3, 1],
    }
    assert answer_of(saved_model, exported("sparse"), serialized=examples(1.5, 2.0)) == {"sum": [1.5, 2.0]}
    assert answer_of(saved_model, exported("scalar"), x=np.float32(1.0)) == {"y": 2.0}


def test_a_model_that_wants_xla_gets_it_without_a_flag(saved_model, exported):
    """TF Serving refuses it at its first request."""
    x = np.full((2, 64), 0.1, np.float32)

    compiled = answer_of(saved_model, exported("compiled"), x=x)["y"]

    np.testing.assert_allclose(compiled, answer_of(saved_model, exported("dense"), x=x)["y"], rtol=1e-5)


# --- options that change how a graph runs ----------------------------------------------------------


def executed_ops(saved_model, directory, **flags):
    """Load with these flags, run `dense`, and say which ops TensorFlow made of the graph."""
    from tensorflow.core.protobuf import config_pb2

    servable = saved_model.SavedModelLoader(directory, from_settings(Settings(**flags))).load()
    signature, metadata = servable.signatures["serving_default"], config_pb2.RunMetadata()
    y = servable._session.run(
        signature.outputs["y"].graph_name,
        {signature.inputs["x"].graph_name: np.full((4, 64), 0.1, np.float32)},
        options=config_pb2.RunOptions(output_partition_graphs=True),
        run_metadata=metadata,
    )
    servable.close()
    return {node.op for graph in metadata.partition_graphs for node in graph.node}, y


@pytest.mark.parametrize(
    ("flags", "op"),
    [
        ({"xla_cpu_compilation_enabled": True}, "_XlaRun"),
        ({"xla_gpu_compilation_enabled": True}, "_XlaRun"),
        ({"mixed_precision": "bfloat16"}, "Cast"),
    ],
)
def test_flags_change_what_is_executed(saved_model, exported, flags, op):
    plain, expected = executed_ops(saved_model, exported("dense"))
    changed, found = executed_ops(saved_model, exported("dense"), **flags)

    assert op not in plain
    assert op in changed
    np.testing.assert_allclose(found, expected, rtol=2e-2)


@pytest.mark.parametrize(
    ("flags", "pool"),
    [
        ({}, -1),
        ({"tensorflow_inter_op_parallelism": 1}, -1),
        ({"tensorflow_inter_op_parallelism": 2}, 0),
        ({"tensorflow_session_parallelism": 4}, 0),
    ],
)
def test_ops_run_on_the_callers_thread_unless_threads_between_ops_were_asked_for(saved_model, testdata, flags, pool):
    directory = testdata / "saved_model_half_plus_two_cpu" / "00000123"
    servable = saved_model.SavedModelLoader(directory, from_settings(Settings(**flags))).load()

    assert servable._run_options.inter_op_thread_pool == pool
    assert half(servable, np.float32([1.0])).tolist() == [2.5]
    servable.close()


def test_the_session_config_file_reaches_the_session(saved_model, testdata, tmp_path):
    (tmp_path / "session").write_text("intra_op_parallelism_threads: 3 graph_options { infer_shapes: true }")
    options = from_settings(Settings(tensorflow_session_config_file=str(tmp_path / "session")))

    servable = saved_model.SavedModelLoader(testdata / "matrix_half_plus_two" / "1", options).load()

    assert servable._session._config.intra_op_parallelism_threads == 3
    assert servable._session._config.graph_options.infer_shapes
    servable.close()


def test_overrides_beside_the_model_are_ignored_and_told(saved_model, copy, caplog):
    (copy / "assets.extra").mkdir(exist_ok=True)
    (copy / "assets.extra" / "saved_model_config.pb").write_bytes(b"\x0a\x00")

    with caplog.at_level("WARNING"):
        saved_model.SavedModelLoader(copy).load().close()

    assert "assets.extra/saved_model_config.pb is ignored" in caplog.text


def test_loads_are_counted_under_tensorflows_names(saved_model, copy):
    metrics = Metrics()
    saved_model.SavedModelLoader(copy, metrics=metrics).load().close()
    (copy / "saved_model.pb").write_bytes(b"no")
    with pytest.raises(DataLoss):
        saved_model.SavedModelLoader(copy, metrics=metrics).load()

    assert metrics.sum_of(metrics.saved_model_load_attempts, model_path=str(copy), status="success") == 1
    assert metrics.sum_of(metrics.saved_model_load_attempts, model_path=str(copy), status="fail") == 1
    assert metrics.sum_of(metrics.saved_model_load_latency_us, model_path=str(copy)) > 0


# --- what is broken, or means harm -----------------------------------------------------------------


def refusal(saved_model, directory):
    with pytest.raises(WireError) as refused:
        saved_model.SavedModelLoader(directory).load()
    assert "\n" not in refused.value.message
    assert str(directory) in refused.value.message or "Op type" in refused.value.message
    return refused.value


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_else(saved_model, tmp_path_factory, content):
    directory = tmp_path_factory.mktemp("garbage")
    (directory / "saved_model.pb").write_bytes(content)

    with contextlib.suppress(WireError):
        saved_model.SavedModelLoader(directory).load().close()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_damaged_graph_is_told_in_one_line_or_loads(saved_model, testdata, tmp_path_factory, data):
    """Bytes changed here and there: names, types, edges, attributes."""
    directory = tmp_path_factory.mktemp("damaged") / "1"
    shutil.copytree(testdata / "saved_model_half_plus_two_tf2_cpu" / "00000123", directory)
    content = bytearray((directory / "saved_model.pb").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    (directory / "saved_model.pb").write_bytes(content)

    try:
        saved_model.SavedModelLoader(directory).load().close()
    except WireError as error:
        told = error.message
    else:
        told = ""

    assert "\n" not in told


def test_a_graph_too_large_for_protobuf_is_told_before_it_is_read(saved_model, tmp_path):
    """The file has a length and no content, so it takes no room."""
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.truncate(2**31)

    assert "a protobuf message can have 2147483647 at most" in refusal(saved_model, tmp_path).message


def test_an_asset_that_is_missing_is_told(saved_model, exported, tmp_path):
    directory = shutil.copytree(exported("vocabulary"), tmp_path / "1")
    shutil.rmtree(directory / "assets")

    assert "words.txt" in refusal(saved_model, directory).message


def test_variables_of_no_length_are_told(saved_model, copy):
    for data in copy.glob("variables/*.data*"):
        data.write_bytes(b"")

    assert "variables" in refusal(saved_model, copy).message


def test_an_initialiser_that_fails_is_told_in_one_line(saved_model, made, tmp_path):
    nodes = [
        made.placeholder("x"),
        made.node("y", "Identity", "x", T="float"),
        made.constant("no", "bool", bool_val=[False]),
        made.constant("why", "string", string_val=[b"the licence has run out"]),
        made.node("check", "Assert", "no", "why", T={"list": {"type": [7]}}, summarize={"i": 3}),
        made.node("init", "NoOp", "^check"),
    ]

    error = refusal(saved_model, made.save(tmp_path / "1", nodes, outputs=("y",), init_op="init"))

    assert "the licence has run out" in error.message


def test_a_graph_that_does_not_fit_together_is_told(saved_model, made, tmp_path):
    nodes = [made.placeholder("x"), made.node("y", "Identity", "nobody", T="float")]

    assert "nobody" in refusal(saved_model, made.save(tmp_path / "1", nodes, outputs=("y",))).message


def test_a_graph_of_a_later_tensorflow_is_told(saved_model, made, tmp_path):
    nodes = [made.placeholder("x"), made.node("y", "Identity", "x", T="float")]
    directory = made.save(tmp_path / "1", nodes, outputs=("y",))
    content = messages.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    content.meta_graphs[0].graph_def.versions.min_consumer = 10**6
    (directory / "saved_model.pb").write_bytes(content.SerializeToString())

    assert "min consumer version 1000000 above current version" in refusal(saved_model, directory).message


def test_a_model_that_asks_for_more_memory_than_there_is_harms_no_other(saved_model, exported, testdata):
    """TensorFlow waits ten seconds for memory to come back before it says so; others are answered meanwhile."""
    greedy = saved_model.SavedModelLoader(exported("large")).load()
    other = saved_model.SavedModelLoader(testdata / "matrix_half_plus_two" / "1").load()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(greedy.run, Call("serving_default", {"size": np.int64(2**46)}, ("sum",)))
        assert half(other, np.zeros((1, 3, 3), np.float32)).tolist() == [[[2.0] * 3] * 3]
        with pytest.raises(ResourceExhausted, match="OOM when allocating tensor"):
            asked.result(200.0)

    assert float(greedy.run(Call("serving_default", {"size": np.int64(8)}, ("sum",)))["sum"]) == 8.0
    assert half(other, np.zeros((1, 3, 3), np.float32)).tolist() == [[[2.0] * 3] * 3]
    greedy.close()
    other.close()


def test_a_signature_whose_tensor_is_not_there_is_told_when_it_is_asked(saved_model, made, tmp_path):
    directory = made.save(
        tmp_path / "1", [made.placeholder("x"), made.node("y", "Identity", "x", T="float")], outputs=("y",)
    )
    content = messages.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    content.meta_graphs[0].signature_def["serving_default"].outputs["y"].name = "gone:0"
    (directory / "saved_model.pb").write_bytes(content.SerializeToString())
    servable = saved_model.SavedModelLoader(directory).load()

    with pytest.raises(WireError, match="gone"):
        servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("y",)))
    servable.close()
