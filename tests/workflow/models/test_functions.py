import numpy as np

from slipway.contract.expressions import FUNCTIONS


def agree_on_random_tensors(words):
    """Both evaluations of every function on the same tensors; runs where TensorFlow is."""
    from pathlib import Path

    import tensorflow as tf
    from hypothesis import given, settings
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays

    from slipway import answers
    from slipway.contract import OutputContract
    from slipway.models.functions import functions
    from slipway.models.tables import Tables

    tables = Tables(Path(words))
    in_graph = functions(tables)
    seen = set()
    # Few distinct values: ties are what two ways to the same answer disagree on.
    floats = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    sizes = st.integers(1, 4)

    def output(dtype, classes=None):
        return OutputContract.model_construct(dtype=dtype, shape=("N",), from_=None, classes=classes)

    def check(name, dtype, *given, classes=None, exact=True):
        seen.add(name)
        kept = output(dtype, classes)
        expected = answers.FUNCTIONS[name](answers.Place(kept, given[0]), *given)
        tensors = [tf.constant(one) if isinstance(one, np.ndarray) else one for one in given]
        found = in_graph[name](answers.Place(kept, tensors[0]), *tensors).numpy()
        assert found.shape == expected.shape, (name, found.shape, expected.shape)
        assert found.dtype == expected.dtype, (name, found.dtype, expected.dtype)
        if exact:
            assert found.tolist() == expected.tolist(), (name, given)
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)

    def tensor(shape, values=floats, dtype=np.float32):
        return arrays.arrays(dtype, shape, elements=values)

    @settings(max_examples=25, deadline=None, database=None)
    @given(st.data())
    def of_scores(data):
        shape = data.draw(st.tuples(st.integers(0, 3), sizes))
        x = data.draw(tensor(shape))
        k = data.draw(st.integers(1, shape[1]))
        integer = data.draw(st.sampled_from(["int32", "int64"]))
        classes = ("a", "b")
        check("softmax", "float32", x, exact=False)
        check("sigmoid", "float32", x, exact=False)
        check("argmax", integer, x)
        check("top_k_scores", "float32", x, k)
        check("top_k_ids", integer, x, k)
        check("top_k_classes", "string", x, k, classes=classes)
        check("tile", "float32", x)
        check("binary", "float32", x[:, 0])
        check("binary", "float32", x[:, :1])
        cube = data.draw(tensor((*shape, 2)))
        check("flatten", "float32", cube)
        ids = data.draw(tensor(shape, st.integers(-1, 3), np.dtype(integer)))
        check("lookup", "string", ids, classes=classes)
        check("lengths", integer, ids, data.draw(st.integers(0, 1)))

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.data())
    def of_sequences(data):
        rows, steps, tags = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 4), sizes))
        states = tags + data.draw(st.integers(0, 1))
        each = data.draw(st.sampled_from([(), (rows,)]))
        logits = data.draw(tensor((rows, steps, tags)))
        transitions = data.draw(tensor((*each, states, states)))
        lengths = data.draw(tensor(rows, st.integers(0, steps), np.int32))
        check("viterbi", "int32", logits, transitions)
        check("viterbi", "int64", logits, transitions, lengths)

    of_scores()
    of_sequences()
    return seen


def test_numpy_and_tensorflow_agree(fresh, tmp_path):
    """Golden answers are made by one, the graph by the other."""
    assert fresh.test_function(agree_on_random_tensors, str(tmp_path)) == FUNCTIONS.keys()
