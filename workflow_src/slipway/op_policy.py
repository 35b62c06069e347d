"""
Which ops a served graph may hold: none that reach outside the model, unless somebody says by name why it must.

The policy sees a graph's bytes before anything of it is loaded. It judges what signatures and initialisers reach;
what a saver needs for itself is its own affair. Pure: names in, lines out.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from slipway import graph_flow, graph_ops
from slipway.errors import SourceError

# Kinds of ops -> what they do. A pattern must match the whole name.
_REFUSED = {
    r"ReadFile|MatchingFiles|ImmutableConst|GenerateVocabRemapping|LoadAndRemapMatrix|Restore|RestoreV2|RestoreSlice|DTensorRestoreV2"
    r"|(WholeFile|TextLine|FixedLengthRecord|TFRecord|LMDB|Identity)Reader(V2)?"
    r"|Reader(Read|ReadUpTo)(V2)?": "reads files of the machine that serves",
    r"DecodeProtoV2|EncodeProto": "may read a file that describes its messages",
    r"DatasetFromGraph": "runs a graph that is hidden in a string, which nobody has judged",
    r"WriteFile|DumpTensor|Save|SaveV2|SaveSlices|MergeV2Checkpoints|DistributedSave|CalibrationStatisticsSaver"
    r"|SaveDataset(V2)?|DatasetToTFRecord|ExperimentalDatasetToTFRecord": "writes files of the machine that serves",
    r"(Experimental)?(TextLine|TFRecord|FixedLengthRecord|LMDB|CSV|Sql|MatchingFiles)Dataset(V2)?"
    r"|Snapshot.*Dataset.*|ListSnapshotChunksDataset|LoadDataset|CacheDataset(V2)?": (
        "is a dataset on files, a part of training"
    ),
    r"(OneShot|MultiDevice|Anonymous|AnonymousMultiDevice)?Iterator(V2|V3|GetNext|GetNextSync|GetNextAsOptional)?"
    r"|MakeIterator|IteratorFromStringHandle(V2)?|DeserializeIterator": "feeds training data, not a request's",
    r"(FIFO|PaddingFIFO|Priority|RandomShuffle)Queue(V2)?|QueueDequeue(Many|UpTo)?(V2)?|Barrier(TakeMany)?"
    r"|(OrderedMap|Map)?(Unstage)(NoKey)?|StagePeek|FakeQueue": "waits for a training queue that nobody fills",
    r"PyFunc|PyFuncStateless|EagerPyFunc": "calls a Python function of the process that exported it",
    r"RemoteCall|RemoteFusedGraphExecute|DistributedFunctionCall|Rpc.*|TryRpc|DataServiceDataset.*"
    r"|_?(Host)?(Send|Recv)|_Nccl.*|Nccl.*|Collective.*|.*BigQuery.*|RegisterDataset(V2)?"
    r"|XlaHostCompute|_XlaHostComputeMlir": "talks to other processes; one replica is one process on one host",
    r"Print|PrintV2": "prints on the server's output",
    r"Debug.*|CopyHost|Copy": "belongs to TensorFlow's debugger",
    r"CreateSummary(File|Db)Writer|SummaryWriter|Write.*Summary|ImportEvent|FlushSummaryWriter|CloseSummaryWriter"
    r"|StatsAggregatorSetSummaryWriter": "writes training summaries",
    r"_?(.*TPU.*|.*Tpu.*)|(Infeed|Outfeed).*": "needs a TPU",
    r"Abort": "ends the process that runs it",
    r"FileSystemSetConfiguration": "configures the file systems of the machine that serves",
}
# What only loading may do: a signature that does it answers the next caller otherwise.
_CHANGES_STATE = re.compile(
    r"Assign(Add|Sub)?(VariableOp)?|AssignVariableXlaConcatND|(Resource)?(Sparse)?Apply.*|(Resource)?Scatter(Nd)?"
    r"(Add|Sub|Mul|Div|Min|Max|Update)|LookupTable(Insert|Remove|Import)(V2)?|InitializeTable.*|.*AccumulatorApply.*"
    r"|QueueEnqueue.*|(OrderedMap|Map)?Stage|BarrierInsertMany|(Resource)?CountUpTo|(Resource)?StridedSliceAssign"
    r"|GetSessionHandle(V2)?|BoostedTrees(CreateEnsemble|DeserializeEnsemble|UpdateEnsemble(V2)?|CenterBias)"
    r"|BoostedTreesQuantileStreamResource(AddSummaries|Deserialize|Flush)"
)
_CHANGES = "changes the model while it serves: answers would depend on earlier requests"
# Of what is refused, what TensorFlow takes for a function of its inputs alone: it may run it to infer shapes, as soon as
# it sees the graph. A test holds this against the op registry.
RUN_BY_IMPORT = re.compile(
    r"ReadFile|MatchingFiles|ImmutableConst|PyFuncStateless|Copy|CopyHost|Debug.*|GenerateVocabRemapping|(Decode|Encode)Proto(V2)?"
)
_RULES = tuple((re.compile(pattern), does) for pattern, does in _REFUSED.items())
# How TPU rewriting marks what runs on a CPU as well; these alone are harmless.
_HARMLESS = frozenset({"TPUCompilationResult", "TPUOrdinalSelector"})
# What a saver needs to load variables: no harm where nothing else runs it.
OF_THE_SAVER = ("Restore", "RestoreSlice", "RestoreV2")
_JOB = "/job:"


def refusals(ops: Mapping[str, str], allowed: Collection[str], where: str) -> list[str]:
    """
    Say, one line each, which of *ops* are refused; [] if none is.

    Args:
        ops: Kind of op -> name of a node of that kind, as `graph_ops` finds them; `/job:worker` is a kind, too.
        allowed: Kinds that are allowed nevertheless.
        where: What the lines begin with, such as `signature serving_default`.
    """
    judged = ((op, node, why_refused(op)) for op, node in sorted(ops.items()) if op not in allowed)
    return [f"{where}: {_name(op)} (node {node}) {does}; {_advice(op)}" for op, node, does in judged if does]


def check(ops: Mapping[str, str], allowed: Collection[str], where: str) -> None:
    """Raise SourceError, one line per fault, if `refusals` has anything to say."""
    if lines := refusals(ops, allowed, where):
        raise SourceError("\n".join(lines))


def meta_graph_refusals(meta_graph: Any, allowed: Collection[str], signatures: Collection[str]) -> dict[str, list[str]]:
    """
    Judge a MetaGraphDef: what its *signatures* reach, and what TensorFlow runs when it loads it.

    Returns:
        `init`, `restore` and each signature -> lines, as `refusals` gives them.
    """
    return run_refusals(meta_graph, graph_ops.run_ops(meta_graph, signatures), allowed)


def run_refusals(
    meta_graph: Any, run: Mapping[str, Mapping[str, str]], allowed: Collection[str]
) -> dict[str, list[str]]:
    """Say the same of what `graph_ops.run_ops` has found."""
    found = {
        graph_ops.INIT: refusals(run[graph_ops.INIT], allowed, "initialiser"),
        graph_ops.RESTORE: refusals(run[graph_ops.RESTORE], {*allowed, *OF_THE_SAVER}, "restoring of variables"),
    }
    found[graph_ops.INIT] += _too_large(meta_graph.graph_def, "graph")
    found[graph_ops.INIT] += [
        f"initialiser: {op} (node {node}) reads a file that is no asset of the model; export it with the file as an asset"
        for op, node in graph_flow.foreign_tables(meta_graph).items()
        if op not in allowed
    ]
    found |= {
        name: signature_refusals(ops, allowed, f"signature {name}") for name, ops in run.items() if name not in found
    }
    reached = {op for ops in run.values() for op in ops}
    imported = graph_flow.run_by_import(meta_graph.graph_def, RUN_BY_IMPORT)
    hidden = {op: node for op, node in imported.items() if op not in reached}
    found[graph_ops.INIT] += refusals(hidden, allowed, "graph, of which importing runs a part")
    return found


def import_refusals(graph_def: Any, where: str) -> list[str]:
    """Judge a GraphDef by what TensorFlow does when it is shown it, and runs nothing of it."""
    return [*refusals(graph_flow.run_by_import(graph_def, RUN_BY_IMPORT), (), where), *_too_large(graph_def, where)]


def graph_refusals(graph_def: Any, allowed: Collection[str], where: str) -> list[str]:
    """Judge a GraphDef without signatures by all that is in it, its functions included: any of it may become a model."""
    return [*refusals(graph_ops.all_ops(graph_def), allowed, where), *_too_large(graph_def, where)]


def _too_large(graph_def: Any, where: str) -> list[str]:
    return [
        f"{where}: constant {node} expands to {size / 2**30:.3g} GiB; keep large tables as variables"
        for node, size in graph_ops.large_constants(graph_def).items()
    ]


def refused_in(op: str, places: Collection[str]) -> str | None:
    """
    Say what is wrong with *op* where it is run, as the end of a sentence that begins with its name; None if nothing.

    Args:
        op: Its kind.
        places: What runs it: names of signatures, `init`, `restore`; if nothing does, nothing is wrong.
    """
    if not places or (op in OF_THE_SAVER and set(places) == {graph_ops.RESTORE}):
        return None
    by_caller = set(places) - {graph_ops.INIT, graph_ops.RESTORE}
    changes = _CHANGES if by_caller and _CHANGES_STATE.fullmatch(op) else None
    return why_refused(op) or changes


def signature_refusals(ops: Mapping[str, str], allowed: Collection[str], where: str) -> list[str]:
    """Say what `refusals` says, and which of *ops* change the model while it serves."""
    return refusals(ops, allowed, where) + [
        f"{where}: op {op} (node {node}) {_CHANGES}; {_advice(op)}"
        for op, node in sorted(ops.items())
        if op not in allowed and _CHANGES_STATE.fullmatch(op)
    ]


def why_refused(op: str) -> str | None:
    """Say what kind of harm *op* does, as the end of a sentence that begins with its name; None if it may be there."""
    if op.startswith(_JOB):
        return "is where it runs, in another process; models that span processes are not served"
    if op in _HARMLESS:
        return None
    for pattern, does in _RULES:
        if pattern.fullmatch(op):
            return does
    if op not in known_ops():
        return "is no op of this TensorFlow; a server would need its custom library"
    return None


@lru_cache(maxsize=1)
def known_ops() -> frozenset[str]:
    """Name the ops that the locked TensorFlow registers; a test keeps the file in step with it."""
    text = resources.files("slipway").joinpath("tensorflow_ops.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def _name(op: str) -> str:
    return f"device {op}" if op.startswith(_JOB) else f"op {op}"


def _advice(op: str) -> str:
    if op.startswith(_JOB):
        return "export it with clear_devices=True, or from a program without a cluster"
    return f"take it out of the graph, or say in the contract why it must be there: allow_ops: {{{op}: …}}"
