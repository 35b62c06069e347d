"""A library of ops as users have them, against TensorFlow's C interface; it compiles in a fraction of a second."""

import subprocess
import sys

import numpy as np
import pytest

from slipway_server.backends import ops
from slipway_server.backends.saved_model import SavedModelLoader
from slipway_server.load_options import LoadOptions
from slipway_server.servables.loader import Call
from slipway_wire import messages
from slipway_wire.status import InvalidArgument, NotFound

# The headers are C++ in disguise; these are their declarations as C has them.
SOURCE = r"""
#include <stdint.h>
#include <stddef.h>
typedef void* Any;
Any TF_NewStatus(void);
void TF_DeleteStatus(Any), TF_DeleteTensor(Any), TF_GetInput(Any, int, Any*, Any);
int TF_NumDims(Any);
int64_t TF_Dim(Any, int);
size_t TF_TensorByteSize(Any);
Any TF_TensorData(Any), TF_AllocateOutput(Any, int, int, const int64_t*, int, size_t, Any);
Any TF_NewOpDefinitionBuilder(const char*);
void TF_OpDefinitionBuilderAddInput(Any, const char*), TF_OpDefinitionBuilderAddOutput(Any, const char*);
void TF_RegisterOpDefinition(Any, Any), TF_RegisterKernelBuilder(const char*, Any, Any);
Any TF_NewKernelBuilder(const char*, const char*, Any, void (*)(Any, Any), Any);
enum { TF_FLOAT = 1 };

static void twice(Any kernel, Any context) {
  Any status = TF_NewStatus();
  Any x = NULL;
  TF_GetInput(context, 0, &x, status);
  int64_t dims[8];
  for (int i = 0; i < TF_NumDims(x); ++i) dims[i] = TF_Dim(x, i);
  Any y = TF_AllocateOutput(context, 0, TF_FLOAT, dims, TF_NumDims(x), TF_TensorByteSize(x), status);
  for (size_t i = 0; i < TF_TensorByteSize(x) / sizeof(float); ++i)
    ((float*)TF_TensorData(y))[i] = 2 * ((float*)TF_TensorData(x))[i];
  TF_DeleteTensor(x);
  TF_DeleteTensor(y);
  TF_DeleteStatus(status);
}

__attribute__((constructor)) static void enroll(void) {
  Any status = TF_NewStatus();
  Any op = TF_NewOpDefinitionBuilder(NAME);
  TF_OpDefinitionBuilderAddInput(op, "x: float");
  TF_OpDefinitionBuilderAddOutput(op, "y: float");
  TF_RegisterOpDefinition(op, status);
  TF_RegisterKernelBuilder(NAME, TF_NewKernelBuilder(NAME, "CPU", NULL, &twice, NULL), status);
  TF_DeleteStatus(status);
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """`library(op)` compiles a library that registers an op of that name: y = 2 x."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("ops")
    (directory / "op.c").write_text(SOURCE)

    def compiled(op):
        path = directory / f"{op}.so"
        command = ["cc", "-shared", "-fPIC", f'-DNAME="{op}"', "op.c", "-o", path]
        subprocess.run([*command, *tf.sysconfig.get_link_flags()], cwd=directory, check=True)
        return path

    return compiled


def model(directory, made, op):
    nodes = [made.placeholder("x"), made.node("twice", op, "x"), made.node("y", "Identity", "twice", T="float")]
    return made.save(directory, nodes, outputs=("y",))


def test_a_model_with_an_op_nobody_registered_is_refused_until_its_library_is_loaded(tmp_path, made, library):
    loader = SavedModelLoader(model(tmp_path / "1", made, "SlipwayTwice"))
    with pytest.raises(
        NotFound,
        match=r"^Op type not registered 'SlipwayTwice' \(node 'twice'\); load the library that has it with --op_library=",
    ):
        loader.load()

    ops.register(LoadOptions(op_libraries=(str(library("SlipwayTwice")),)))

    servable = loader.load()
    assert servable.run(Call("serving_default", {"x": np.float32([1.0, 2.5])}, ("y",)))["y"].tolist() == [2.0, 5.0]
    servable.close()


def test_a_module_that_registers_ops_is_imported(tmp_path, made, library, monkeypatch):
    (tmp_path / "ops_of_ours.py").write_text(
        f"import tensorflow as tf\ntf.load_op_library({str(library('SlipwayImported'))!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    ops.register(LoadOptions(modules=("ops_of_ours",)))

    servable = SavedModelLoader(model(tmp_path / "1", made, "SlipwayImported")).load()
    assert servable.run(Call("serving_default", {"x": np.float32([4.0])}, ("y",)))["y"].tolist() == [8.0]
    servable.close()
    sys.modules.pop("ops_of_ours")


@pytest.mark.parametrize(
    ("op", "module"),
    [
        ("SentencepieceTokenizeOp", "tensorflow_text"),
        ("Addons>Resampler", "tensorflow_addons"),
        ("SimpleMLInferenceOpWithHandle", "tensorflow_decision_forests"),
    ],
)
def test_ops_in_the_field_are_told_with_where_they_come_from(tmp_path, made, op, module):
    with pytest.raises(NotFound, match=f"install {module} and start with --import_module={module}$"):
        SavedModelLoader(model(tmp_path / "1", made, op)).load()


def test_an_op_within_a_function_is_found_too():
    graph = messages.GraphDef()
    function = graph.library.function.add()
    function.signature.name = "f"
    function.node_def.add(name="inner", op="NobodyHasThis")
    graph.node.add(name="call", op="f")

    with pytest.raises(NotFound, match=r"'NobodyHasThis' \(node 'inner'\)"):
        ops.check_registered(graph)


def test_libraries_and_modules_that_cannot_be_loaded_are_told_in_one_line(tmp_path, monkeypatch):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF, or not")
    (tmp_path / "raises_when_imported.py").write_text("raise RuntimeError('no licence\\nfound')")
    monkeypatch.syspath_prepend(tmp_path)
    for options, error, message in (
        (LoadOptions(op_libraries=("/nowhere/x.so",)), NotFound, "^--op_library=/nowhere/x.so: no such file$"),
        (LoadOptions(op_libraries=(str(broken),)), InvalidArgument, f"^--op_library={broken}: .*file too short$"),
        (LoadOptions(modules=("no_such_module",)), NotFound, "there is no module no_such_module; install it"),
        (LoadOptions(modules=("raises_when_imported",)), InvalidArgument, "RuntimeError: no licence found$"),
    ):
        with pytest.raises(error, match=message):
            ops.register(options)


@pytest.mark.parametrize(
    "message",
    [
        "assertion failed: [x]\n\t [[{{node Assert}}]]\n\nOriginal stack trace for 'Assert':\n  File a.py",
        (
            "Graph execution error:\n\nDetected at node 'Assert' defined at (most recent call last):\n  File a.py\n"
            "Node: 'Assert'\nassertion failed: [x]\n\t [[{{node Assert}}]]\n\nOriginal stack trace for 'Assert':\n  File a.py"
        ),
        "assertion failed: [x]\n\t [[{{node Assert}}]]",
    ],
)
def test_tensorflows_stacks_are_cut_off(message):
    assert ops.first_line(message) == "assertion failed: [x] [[{{node Assert}}]]"
