"""What goes wrong with the files and the graph of a model: what loads here and not there, and what reaches outside."""

import shutil

import numpy as np
from tests.workflow.checks.broken_registry import AT_LOAD, POLICY, broken
from tests.workflow.checks.sound_models import (
    FLOAT,
    copy_sound,
    default_of,
    edited,
    make,
    node_of,
    put_behind,
    variables_of,
)

# What loads here and not there.


@broken("v1.loader: expected loads, found ")
def missing_index(directory, _):
    """The index of the weights was not copied."""
    (variables_of(directory).parent / "variables.index").unlink()


@broken("v1.loader: expected loads, found ")
def missing_shard(directory, _):
    """The weights are said to be in two files, and one is there."""
    path = variables_of(directory)
    path.rename(path.with_name("variables.data-00000-of-00002"))


@broken("tf.saved_model.load: expected loads, found ValueError: Received incompatible tensor with shape (12,)")
def weights_of_another_model(directory, _):
    """The weights of a model with other sizes were copied beside the graph."""
    other = directory.with_name("other")
    make(other, given=lambda: (np.zeros((64, 12), np.float32), np.zeros(12, np.float32)))
    copy_sound(directory)
    shutil.rmtree(directory / "variables")
    shutil.move(other / "variables", directory / "variables")
    shutil.rmtree(other)


@broken("saved_model: expected a SavedModel with tags {serve}, found ")
def truncated_graph(directory, _):
    """The copy ended too early."""
    copy_sound(directory)
    path = directory / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-100])


@broken("v1.loader: expected loads, found ")
def newer_tensorflow(directory, _):
    """Made by a TensorFlow whose graphs this one does not read."""
    with edited(directory) as meta:
        meta.graph_def.versions.min_consumer = 1_000_000


@broken("functions: expected all that are called, found not in the library: __inference_signature_wrapper_predict_")
def missing_function(directory, _):
    """The library lacks a function that the graph calls, as after a tool that does not know it."""
    with edited(directory) as meta:
        library = meta.graph_def.library.function
        called = node_of(meta, default_of(meta).outputs["logits"].name).attr["f"].func.name
        kept = [function for function in library if function.signature.name != called]
        del library[:]
        library.extend(kept)


UNSOUND = (
    "graph: expected names of their own for all nodes, and an end, found saved_model.pb: damaged, or made to do harm:"
)


@broken(f"{UNSOUND} 2 of the nodes are called StatefulPartitionedCall_1")
def node_twice(directory, _):
    """Two nodes of one name: one would be judged, and the other one run."""
    with edited(directory) as meta:
        meta.graph_def.node.add().CopyFrom(node_of(meta, default_of(meta).outputs["logits"].name))


@broken(f"{UNSOUND} function __inference_signature_wrapper_predict_")
def calls_itself(directory, _):
    """A function that calls itself: small in the file, and without end in memory."""
    with edited(directory) as meta:
        called = node_of(meta, default_of(meta).outputs["logits"].name).attr["f"].func.name
        wrapper = next(f for f in meta.graph_def.library.function if f.signature.name == called)
        next(node for node in wrapper.node_def if "f" in node.attr).attr["f"].func.name = called


@broken("serving_default.inputs.image.tensor: expected a tensor of the graph, found no node image_1")
def lost_input(directory, _):
    """The signature names a placeholder that the graph has no more."""
    with edited(directory) as meta:
        default_of(meta).inputs["image"].name = "image_1:0"


@broken("serving_default.outputs.logits.tensor: expected a tensor of the graph, found no node dense_1/BiasAdd")
def lost_output(directory, _):
    """The signature names a tensor that the graph has no more."""
    with edited(directory) as meta:
        default_of(meta).outputs["logits"].name = "dense_1/BiasAdd:0"


@broken("serving_default.outputs.logits.computed: expected computed from an input, found ")
def frozen_answer(directory, _):
    """An answer was folded into the graph: it is the same whatever is sent."""
    with edited(directory) as meta:
        constant = meta.graph_def.node.add(name="folded", op="Const")
        constant.attr["dtype"].type = FLOAT
        tensor = constant.attr["value"].tensor
        tensor.dtype = FLOAT
        for size in (1, 10):
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.append(0.1)
        default_of(meta).outputs["logits"].name = "folded:0"


@broken("serving_default.placeholders: expected none beside the inputs, found needs keep_prob, which no caller sends")
def unfed_placeholder(directory, _):
    """A rate of dropout that only the training feeds."""
    with edited(directory) as meta:
        keep = meta.graph_def.node.add(name="keep_prob", op="Placeholder")
        keep.attr["dtype"].type = FLOAT
        keep.attr["shape"].shape.SetInParent()
        node = put_behind(meta, "serving_default", "logits", "Mul")
        node.attr["T"].type = FLOAT
        node.input.append("keep_prob")


@broken("serving_default.inputs.mask.used: expected an output that depends on it, found none")
def unused_input(directory, promised):
    """An input that callers must send, and nothing looks at: a feature was lost on the way."""
    promised["signatures"]["serving_default"]["inputs"]["mask"] = {"shape": ["N"], "range": [0, 1]}
    make(directory, more={"mask": "float32"}, after=lambda o, _: o)


@broken("serving_default.outputs.logits.tensor: expected one dense tensor, found a sparse or composite one")
def sparse_output(directory, _):
    """An output in parts: no request to a server gets it."""
    with edited(directory) as meta:
        logits = default_of(meta).outputs["logits"]
        name = logits.name
        logits.ClearField("name")
        logits.coo_sparse.values_tensor_name = name
        logits.coo_sparse.indices_tensor_name = name
        logits.coo_sparse.dense_shape_tensor_name = name


@broken("serving_default.batch_size.1: expected answers, found InvalidArgumentError: No OpKernel was registered")
def kernel_of_a_gpu(directory, _):
    """An op that only a GPU has a kernel for."""
    import tensorflow as tf

    def sized(x, w, b):
        size = tf.raw_ops.CudnnRNNParamsSize(num_layers=1, num_units=1, input_size=1, T=tf.float32, S=tf.int32)
        return tf.matmul(x, w) + b + 0 * tf.cast(size, tf.float32)

    make(directory, logits=sized)


@broken("serving_default.batch_size.1: expected answers, found ResourceExhaustedError: OOM when allocating tensor")
def too_much_memory(directory, _):
    """It takes more memory than there is, for any request."""
    import tensorflow as tf

    def wasteful(o):
        return o | {"logits": o["logits"] + tf.reduce_sum(tf.fill([tf.shape(o["logits"])[1] * 2**20, 2**24], 0.0))}

    make(directory, after=wasteful)


@broken("running the model took more than 2 s and was stopped: a graph that never ends? ", limit_s=2)
def never_ends(directory, _):
    """A loop whose condition always holds."""
    import tensorflow as tf

    make(directory, before=lambda x: tf.while_loop(lambda _: True, lambda y: (tf.sin(y),), (x,))[0])


@broken("running the model crashed TensorFlow (SIGABRT): ", limit_s=100)
def crashes(directory, promised):
    """An op that ends the process, as a kernel with a bug does."""
    import tensorflow as tf

    promised["allow_ops"] = {"Abort": "as if its kernel had a bug"}

    def fatal(x):
        with tf.control_dependencies([tf.raw_ops.Abort(error_msg="bug")]):
            return tf.identity(x)

    make(directory, before=fatal)


# What reaches outside the model.


def _behind_logits(directory, op, **attributes):
    with edited(directory) as meta:
        node = put_behind(meta, "serving_default", "logits", op)
        for key, value in attributes.items():
            node.attr[key].CopyFrom(value)


@broken(f"{POLICY} op ReadFile (node while/body/read) reads files of the machine that serves; ")
def file_read_deep_inside(directory, _):
    """A file is read in the branch of a loop of a function: three libraries down."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def deep(x):
        read = tf.io.read_file("/etc/hostname", name="while/body/read")
        return x + tf.cast(tf.strings.length(read), tf.float32)

    def looped(x):
        step = lambda i, y: (i + 1, tf.cond(i > 100, lambda: deep(y), lambda: y))  # noqa: E731
        return tf.while_loop(lambda i, _: i < 2, step, (0, x))[1]

    make(directory, before=looped)


@broken(f"{POLICY} op WriteFile (node WriteFile) writes files of the machine that serves; ")
def file_written(directory, _):
    """Every request is kept in a file."""
    import tensorflow as tf

    def kept(x):
        with tf.control_dependencies([tf.io.write_file("/tmp/request", tf.io.serialize_tensor(x))]):
            return tf.identity(x)

    make(directory, before=kept)


@broken(f"{POLICY} op PrintV2 (node PrintV2) prints on the server's output; ")
def print_left_in(directory, _):
    """A line of debugging for every request."""
    import tensorflow as tf

    def told(x):
        with tf.control_dependencies([tf.print(tf.shape(x))]):
            return tf.identity(x)

    make(directory, before=told)


@broken(f"{POLICY} device /job:worker (node behind_logits) is where it runs, in another process; ")
def placed_elsewhere(directory, _):
    """A node is placed on a worker of the cluster that trained it."""
    with edited(directory) as meta:
        node = put_behind(meta, "serving_default", "logits", "Identity")
        node.attr["T"].type = FLOAT
        node.device = "/job:worker/task:0"


@broken(f"{POLICY} op RpcCall (node behind_logits) talks to other processes; ")
def remote_call(directory, _):
    """It asks another service while it serves."""
    _behind_logits(directory, "RpcCall")


@broken(f"{POLICY} op Addons>GroupNorm (node behind_logits) is no op of this TensorFlow; ")
def custom_op(directory, _):
    """An op of a library that the server has not."""
    _behind_logits(directory, "Addons>GroupNorm")


@broken(f"{AT_LOAD} graph: constant bomb expands to 4.16e+03 GiB; keep large tables as variables")
def bomb(directory, _):
    """Forty bytes that become four terabytes while the graph is loaded."""
    with edited(directory) as meta:
        constant = meta.graph_def.node.add(name="bomb", op="Const")
        constant.attr["dtype"].type = FLOAT
        tensor = constant.attr["value"].tensor
        tensor.dtype = FLOAT
        for _ in range(2):
            tensor.tensor_shape.dim.add(size=2**20 + 2**13)
        tensor.float_val.append(0)
