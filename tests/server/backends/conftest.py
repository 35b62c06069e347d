"""SavedModels made of a few nodes, so that a test can have exactly the graph it is about."""

import pytest

from slipway_wire import dtypes, messages
from slipway_wire.signatures import PREDICT


def node(name, op, *inputs, **attributes):
    """Make a NodeDef; an attribute is a dtype's name, or an AttrValue's fields as a dict."""
    made = messages.NodeDef(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, str):
            made.attr[key].type = dtypes.from_name(value).number
        else:
            made.attr[key].CopyFrom(messages.AttrValue(**value))
    return made


def placeholder(name, dtype="float"):
    return node(name, "Placeholder", dtype=dtype, shape={"shape": messages.TensorShapeProto(unknown_rank=True)})


def constant(name, dtype, **values):
    tensor = messages.TensorProto(
        dtype=dtypes.from_name(dtype).number, tensor_shape=messages.TensorShapeProto(), **values
    )
    return node(name, "Const", dtype=dtype, value={"tensor": tensor})


class Made:
    """Writes SavedModels without TensorFlow."""

    node = staticmethod(node)
    placeholder = staticmethod(placeholder)
    constant = staticmethod(constant)

    @staticmethod
    def save(directory, nodes, *, outputs, inputs=("x",), tags=("serve",), init_op=None, producer=2000, more=()):
        """Write one meta graph with the signature serving_default; *more* are further (tags, nodes, outputs)."""
        saved_model = messages.SavedModel(saved_model_schema_version=1)
        for one_tags, one_nodes, one_outputs in [(tags, nodes, outputs), *more]:
            graph = saved_model.meta_graphs.add()
            graph.meta_info_def.tags.extend(one_tags)
            graph.graph_def.versions.producer = producer
            graph.graph_def.node.extend(one_nodes)
            signature = graph.signature_def["serving_default"]
            signature.method_name = PREDICT
            types = {one.name: one for one in one_nodes}
            for field, names in ((signature.inputs, inputs), (signature.outputs, one_outputs)):
                for name in names:
                    attributes = types[name].attr
                    dtype = (attributes["dtype"] if "dtype" in attributes else attributes["T"]).type
                    field[name].CopyFrom(messages.TensorInfo(name=f"{name}:0", dtype=dtype or 1))
                    field[name].tensor_shape.unknown_rank = True
            if init_op:
                graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = init_op
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())
        return directory


@pytest.fixture(scope="session")
def made():
    return Made
