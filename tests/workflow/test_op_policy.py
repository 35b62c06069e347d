import re
from pathlib import Path

import pytest

from slipway import op_policy
from slipway.errors import SourceError
from slipway_wire import messages, signatures

TESTDATA = Path(__file__).parents[1] / "testdata"


@pytest.mark.parametrize("op", [
    "ReadFile", "WriteFile", "MatchingFiles", "SaveV2", "RestoreV2", "ImmutableConst", "TextLineReaderV2",
    "LoadAndRemapMatrix", "GenerateVocabRemapping", "DumpTensor", "DecodeProtoV2", "DatasetFromGraph",
    "PyFunc", "PyFuncStateless", "EagerPyFunc",
    "RemoteCall", "RpcCall", "CollectiveReduceV2", "_Send", "Recv", "DataServiceDatasetV4", "DistributedFunctionCall",
    "Print", "PrintV2", "DebugIdentityV3",
    "WriteScalarSummary", "CreateSummaryFileWriter",
    "TFRecordDatasetV2", "IteratorV2", "OneShotIterator", "CSVDataset", "LoadDataset", "SnapshotDatasetV2",
    "FIFOQueueV2", "QueueDequeueManyV2",
    "TPUPartitionedCall", "ConfigureDistributedTPU", "InfeedDequeue",
    "Abort", "NobodysOp", "Addons>ImageConnectedComponents", "/job:ps",
])  # fmt: skip
def test_what_reaches_outside_the_model_is_refused(op):
    assert op_policy.why_refused(op)


@pytest.mark.parametrize("op", [
    "MatMul", "Conv2D", "ParseExampleV2", "DecodeJpeg", "HashTableV2", "LookupTableFindV2",
    "InitializeTableFromTextFileV2", "While", "If", "TensorListReserve", "ReduceDataset", "TensorSliceDataset", "MapDataset",
    "CheckNumerics", "Assert", "StringSplitV2", "CropAndResize", "NonMaxSuppressionV5", "ScalarSummary", "VarHandleOp",
    "_FusedMatMul", "XlaLaunch", "Placeholder",
])  # fmt: skip
def test_what_models_are_made_of_is_not(op):
    assert op_policy.why_refused(op) is None


def test_a_refusal_names_place_op_node_harm_and_way_out():
    ops = {"ReadFile": "load/contents", "Add": "sum", "PrintV2": "note", "/job:worker": "w"}

    device, read = op_policy.refusals(ops, ["PrintV2"], "signature f")

    assert device.startswith("signature f: device /job:worker (node w) is where it runs, in another process; ")
    assert device.endswith("; export it with clear_devices=True, or from a program without a cluster")
    assert read == (
        "signature f: op ReadFile (node load/contents) reads files of the machine that serves; take it out of the graph, "
        "or say in the contract why it must be there: allow_ops: {ReadFile: …}"
    )
    with pytest.raises(SourceError, match=r"^frozen.pb: op PrintV2 \(node note\) prints"):
        op_policy.check({"PrintV2": "note"}, [], "frozen.pb")
    op_policy.check({"PrintV2": "note"}, ["PrintV2"], "frozen.pb")


@pytest.mark.parametrize("op", [
    "AssignAddVariableOp", "ResourceScatterNdAdd", "ResourceApplyAdam", "LookupTableInsertV2", "QueueEnqueueV2", "CountUpTo",
    "ResourceStridedSliceAssign", "BarrierInsertMany", "GetSessionHandleV2", "BoostedTreesUpdateEnsembleV2",
])  # fmt: skip
def test_a_signature_may_not_change_the_model_but_an_initialiser_may(op):
    assert op_policy.refusals({op: "a"}, [], "initialiser") == []
    (line,) = op_policy.signature_refusals({op: "a"}, [], "signature f")
    assert f"op {op} (node a) changes the model while it serves" in line
    assert op_policy.signature_refusals({op: "a"}, [op], "signature f") == []


def test_a_saver_may_restore_and_nobody_else():
    meta = messages.MetaGraphDef()
    meta.saver_def.restore_op_name = "bring"
    meta.graph_def.node.add(name="bring", op="RestoreV2")
    assert not any(op_policy.meta_graph_refusals(meta, [], []).values())

    meta.graph_def.node.add(name="leak", op="WriteFile")
    meta.graph_def.node[0].input.append("^leak")
    assert op_policy.meta_graph_refusals(meta, [], [])["restore"][0].startswith(
        "restoring of variables: op WriteFile (node leak) writes files"
    )

    meta.collection_def["legacy_init_op"].node_list.value.append("bring")
    assert op_policy.meta_graph_refusals(meta, ["WriteFile"], [])["init"][0].startswith(
        "initialiser: op RestoreV2 (node bring) reads files"
    )


def test_models_of_tensorflow_serving_pass_but_for_the_one_that_counts():
    judged = {}
    for path in sorted(TESTDATA.rglob("saved_model.pb")):
        for meta in signatures.read_saved_model(path.parent).meta_graphs:
            names = [name for name in meta.signature_def if not name.startswith("__")]
            judged[path.parts[-3]] = any(op_policy.meta_graph_refusals(meta, [], names).values())

    assert len(judged) > 5
    assert [model for model, refused in judged.items() if refused] == ["saved_model_counter"]


def _registered():
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session as session

    ops = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList())).op
    return {op.name: op.is_stateful or not op.output_arg for op in ops}


def test_the_known_ops_are_those_that_tensorflow_registers(fresh):
    """After an update of TensorFlow: write what `_registered` gives, sorted, into tensorflow_ops.txt."""
    registered = fresh.test_function(_registered)
    assert sorted(op_policy.known_ops()) == sorted(registered)
    # What is refused and may be run by importing: the others that are no state take what only state or a TPU gives.
    run = {op for op, is_left_alone in registered.items() if not is_left_alone and op_policy.why_refused(op)}
    assert {op for op in run if not op_policy.RUN_BY_IMPORT.fullmatch(op)} == {
        op for op in run if re.search("Dataset|Queue|Barrier|Reader(Read|ReadUpTo)|T[Pp][Uu]|Infeed", op)
    }
