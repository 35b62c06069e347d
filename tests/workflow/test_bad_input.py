"""
What is damaged, of another kind, or made to do harm: one line, nothing left behind, and TensorFlow has not seen it.

Every case goes through the stage that reads sources. TensorFlow stands in the way as a module that cannot be imported: a
file that reached it would fail with another line.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from tests.workflow import index_factory
from tests.workflow.graphs.graph_factory import const, graph, node, placeholder

from slipway import checkpoint, local_sources
from slipway.errors import SlipwayError, SourceError
from slipway.graphs import of_source
from slipway_wire import messages

CONTRACT = {
    "format": 1,
    "signatures": {
        "serving_default": {
            "method": "predict",
            "inputs": {"x": {"shape": ["N", 3]}},
            "outputs": {"y": {"shape": ["N", 3]}},
        }
    },
}
ENDS = {"inputs": {"x": "x"}, "outputs": {"y": "y"}}
KERAS_CONFIG = json.dumps({"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}})


# --- one sound source of each kind, of a few bytes ---------------------------------------------------


def whole_h5(path):
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["model_config"] = "3.15.1", KERAS_CONFIG
        file["model_weights/dense/kernel"] = np.ones((3, 3), np.float32)


def weights_h5(path):
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.arange(9, dtype=np.float32).reshape(3, 3)


def keras_zip(path, config=KERAS_CONFIG, **more):
    weights_h5(path.with_suffix(".tmp"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", config)
        file.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        file.writestr("model.weights.h5", path.with_suffix(".tmp").read_bytes())
        for name, content in more.items():
            file.writestr(name, content)
    path.with_suffix(".tmp").unlink()


def frozen(*more, functions=None):
    return graph(
        placeholder("x"), const("c", [1.0, 2.0, 3.0]), *(more or (node("y", "Mul", "x", "c"),)), functions=functions
    )


def trained():
    return graph(placeholder("x"), node("w", "VarHandleOp", dtype="float32", shape=[4]), node("r", "ReadVariableOp", "w", dtype="float32"), node("y", "Mul", "x", "r"))  # fmt: skip


def meta_graph(made):
    found = messages.MetaGraphDef(graph_def=made)
    found.meta_info_def.tags.append("serve")
    return found


def saved_model(made, assets=()):
    found = meta_graph(made)
    signature = found.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for infos, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        infos[name].name, infos[name].dtype = f"{name}:0", 1
    for name in assets:
        asset = found.asset_file_def.add(filename=name)
        asset.tensor_info.name = "c:0"
    return messages.SavedModel(saved_model_schema_version=1, meta_graphs=[found])


def write(directory):
    """Write one of each; give kind -> its source and its files."""
    whole_h5(directory / "whole.h5")
    weights_h5(directory / "alone.weights.h5")
    keras_zip(directory / "whole.keras")
    index_factory.checkpoint(directory / "objects-1", index_factory.OBJECTS)
    index_factory.checkpoint(directory / "tf1-1")
    (directory / "tf1-1.meta").write_bytes(meta_graph(trained()).SerializeToString())
    (directory / "frozen.pb").write_bytes(frozen().SerializeToString())
    index_factory.checkpoint(directory / "sm/variables/variables")
    (directory / "sm/saved_model.pb").write_bytes(saved_model(frozen()).SerializeToString())
    shard = ".data-00000-of-00001"
    built = {"builder": "nowhere:build"}
    return {
        "keras": ({"path": "whole.keras"}, ["whole.keras"]),
        "keras, HDF5": ({"kind": "keras", "path": "whole.h5"}, ["whole.h5"]),
        "weights": ({"path": "alone.weights.h5"} | built, ["alone.weights.h5"]),
        "checkpoint": ({"path": "objects-1"} | built, ["objects-1.index", f"objects-1{shard}"]),
        "tf1_checkpoint": ({"path": "tf1-1"} | ENDS, ["tf1-1.index", f"tf1-1{shard}", "tf1-1.meta"]),
        "frozen_graph": ({"path": "frozen.pb"} | ENDS, ["frozen.pb"]),
        "saved_model": (
            {"path": "sm"},
            ["sm/saved_model.pb", "sm/variables/variables.index", f"sm/variables/variables{shard}"],
        ),
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return tmp_path_factory.mktemp("sound")


@pytest.fixture(scope="module")
def kinds(sound):
    return {name: ({"kind": name} | source, files) for name, (source, files) in write(sound).items()}


@pytest.fixture
def place(sound, kinds, tmp_path, monkeypatch):
    """A working directory with all of them, and no TensorFlow."""
    shutil.copytree(sound, tmp_path / "work")
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT))
    monkeypatch.chdir(tmp_path / "work")
    for name in ("tensorflow", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    return tmp_path / "work"


def stage(source):
    """Run `slipway checkpoint`, and give the line it fails with."""
    above = Path.cwd().parent
    before = sorted(path for path in above.rglob("*"))
    out = above / "out"
    arguments = argparse.Namespace(
        model="m", version=1, source=json.dumps(source), contract=above / "contract.yaml", digest=None, trained=None,
        train_record=None, out_source=out / "source", golden=out / "golden.npz", record=out / "record.json",
    )  # fmt: skip
    with pytest.raises(SlipwayError) as caught:
        checkpoint.run(arguments)
    told = str(caught.value)
    with contextlib.suppress(FileNotFoundError):
        out.rmdir()  # empty
    assert sorted(path for path in above.rglob("*")) == before
    assert told.isprintable()
    assert len(told) < 1000
    return told


def refused(source):
    """Give the line with which *source* is refused before TensorFlow."""
    told = stage(source)
    assert told.startswith("m 1: ")
    assert "ModuleNotFoundError" not in told
    return told


def test_the_sources_are_sound_but_for_what_is_done_to_them(place, kinds):
    for name, (source, files) in kinds.items():
        out = place.parent / name
        out.mkdir()
        local = local_sources.keep(checkpoint.parse_source(json.dumps(source)), out, out, print)
        of_source.check(local, out, ())
        assert len([path for path in out.rglob("*") if path.is_file()]) == len(files)


NAMES = ("keras", "keras, HDF5", "weights", "checkpoint", "tf1_checkpoint", "frozen_graph", "saved_model")


# --- damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_cut_off_is_refused(name, place, kinds):
    source, files = kinds[name]
    for file in files:
        content = (place / file).read_bytes()
        for length in (0, 1, len(content) // 2, len(content) - 1):
            (place / file).write_bytes(content[:length])
            assert Path(file).name.split(".")[0] in refused(source), (file, length)
        (place / file).write_bytes(content)


def take_away(path):
    path.unlink()


def make_a_directory(path):
    path.unlink()
    path.mkdir()


def make_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def make_a_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def make_a_circle(path):
    path.unlink()
    path.symlink_to(path.name)


def make_a_pointer(path):
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def make_noise(path):
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


@pytest.mark.parametrize(
    "harm", [take_away, make_a_directory, make_a_pipe, make_a_device, make_a_circle, make_a_pointer, make_noise]
)
@pytest.mark.parametrize("name", NAMES)
def test_something_else_in_the_place_of_a_file_is_refused(name, harm, place, kinds):
    source, files = kinds[name]
    for file in files:
        if harm is make_noise and ".data-" in file:
            continue  # of its length: its checksums are TensorFlow's to look at
        kept = place / f"{file}.kept"
        shutil.copyfile(place / file, kept)
        harm(place / file)
        told = refused(source)
        assert harm is not make_a_pointer or "Run `git lfs pull`." in told, (file, told)
        if (place / file).is_dir():
            (place / file).rmdir()
        kept.replace(place / file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, who may not read")
@pytest.mark.parametrize("name", NAMES)
def test_what_may_not_be_read_is_refused(name, place, kinds):
    source, files = kinds[name]
    for file in files:
        (place / file).chmod(0)
        for there in (place.parent, place, *(path for path in place.rglob("*") if path.is_dir())):
            there.chmod(0o777)  # somebody else looks here, and makes the output
        above = place.parent
        while above != above.parent:
            above.chmod(above.stat().st_mode | 0o011)
            above = above.parent
        os.seteuid(65534)
        try:
            told = refused(source)
        finally:
            os.seteuid(0)
        assert Path(file).name in told
        assert "cannot be read (Permission denied)" in told, told
        (place / file).chmod(0o644)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_a_line_or_does_not_matter(name, place, kinds):
    """Where no checksum guards a number it is another number: docs/sources.md says which kinds have none."""
    source, files = kinds[name]
    parsed, out = checkpoint.parse_source(json.dumps(source)), place.parent / "copy"
    chance = random.Random(name)
    for file in files:
        content = (place / file).read_bytes()
        for _ in range(25):
            damaged = bytearray(content)
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            (place / file).write_bytes(damaged)
            out.mkdir()
            told = ""
            try:
                of_source.check(local_sources.keep(parsed, out, out, print), out, ())
            except SourceError as error:
                told = str(error)
            assert all(line.isprintable() for line in told.splitlines())
            shutil.rmtree(out)
        (place / file).write_bytes(content)


def test_a_digest_finds_what_no_checksum_of_the_format_does(place, kinds):
    """A weight in HDF5 is four bytes and nothing else."""
    source, _ = kinds["weights"]
    content = (place / "alone.weights.h5").read_bytes()
    at = content.index(np.float32(7).tobytes())

    (place / "alone.weights.h5").write_bytes(content[:at] + np.float32(8).tobytes() + content[at + 4 :])

    assert "expected SHA-256 5555" in refused(source | {"sha256": {"alone.weights.h5": "5" * 64}})
    out = place.parent / "copy"
    out.mkdir()
    local_sources.keep(checkpoint.parse_source(json.dumps(source)), out, out, print)
    assert (out / "alone.weights.h5").read_bytes() != content


# --- the wrong kind ----------------------------------------------------------------------------------

READ_TOO = {("weights", "keras"), ("weights", "keras, HDF5")}  # weights are taken out of a whole model, too


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_says_what_another_kind_is(name, place, kinds):
    source, _ = kinds[name]
    for other, (there, _) in kinds.items():
        if source["kind"] == there["kind"] or (name, other) in READ_TOO:
            continue
        told = refused(source | {"path": there["path"]})
        assert f"this is {'the' if 'Estimator' in told else 'a'}" in told or "this is weights of Keras" in told, told
        assert f"Write kind: {there['kind']}" in told, told


# --- made to do harm: graphs -------------------------------------------------------------------------


def reading(name="read"):
    return [const("path", np.array(b"/etc/passwd", object)), node(name, "ReadFile", "path")]


def hidden():
    """Nothing that is served reaches it; but TensorFlow computes shapes of what depends on constants."""
    return [*frozen().node[2:], *reading(), const("one", 1.0), node("shape", "Fill", "read", "one")]


def huge():
    made = const("c2", [1.0])
    made.attr["value"].tensor.tensor_shape.dim[0].size = 1 << 40
    return made


GRAPHS = {
    "reads a file": ([*reading(), node("y", "Mul", "x", "read")], {}, "ReadFile (node read) reads files of the machine"),
    "calls Python": ([node("p", "PyFunc", "x"), node("y", "Mul", "x", "p")], {}, "PyFunc (node p) calls a Python function"),
    "reads a file in a function": (
        [node("p", "PartitionedCall", "x", f="f"), node("y", "Mul", "x", "p")],
        {"f": reading()},
        "ReadFile (node read) reads files of the machine",
    ),
    "ends the process": ([node("a", "Abort"), node("y", "Mul", "x", "c", "^a")], {}, "Abort (node a) ends the process"),
    "an op of its own": ([node("a", "MineBitcoin", "x"), node("y", "Mul", "x", "a")], {}, "MineBitcoin (node a) is no op"),
    "a constant of four terabytes": ([huge(), node("y", "Mul", "x", "c2")], {}, "constant c2 expands to 4.1e+03 GiB"),
    "a name twice": ([node("y", "Mul", "x", "c"), node("y", "Add", "x", "c")], {}, "2 of the nodes are called y"),
    "a circle": ([node("a", "Neg", "b"), node("b", "Neg", "a"), node("y", "Mul", "x", "b")], {}, "needs its own result"),
    "a function of itself": (
        [node("p", "PartitionedCall", "x", f="f"), node("y", "Mul", "x", "p")],
        {"f": [node("again", "PartitionedCall", f="f")]},
        "function f calls itself",
    ),
    "a line of ours in a name": ([node("a\nslipway: done", "Neg", "x"), node("y", "Mul", "x", "c")], {}, "is no name"),
    "a node that is not there": ([node("y", "Mul", "x", "gone")], {}, "y needs gone, which the graph has not"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["frozen_graph", "tf1_checkpoint", "saved_model"])
@pytest.mark.parametrize(("nodes", "functions", "expected"), GRAPHS.values(), ids=GRAPHS)
def test_a_graph_that_would_do_harm_is_refused(nodes, functions, expected, kind, place, kinds):
    made = frozen(*nodes, functions=functions)
    file = {"frozen_graph": "frozen.pb", "tf1_checkpoint": "tf1-1.meta", "saved_model": "sm/saved_model.pb"}[kind]
    whole = {"frozen_graph": made, "tf1_checkpoint": meta_graph(made), "saved_model": saved_model(made)}[kind]
    (place / file).write_bytes(whole.SerializeToString())

    assert expected in refused(kinds[kind][0])


def test_what_a_saved_model_hides_from_its_signatures_is_judged_where_importing_would_run_it(place, kinds):
    (place / "sm/saved_model.pb").write_bytes(saved_model(frozen(*hidden())).SerializeToString())

    assert "graph, of which importing runs a part: op ReadFile (node read) reads files" in refused(
        kinds["saved_model"][0]
    )


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..", "a/b"])
def test_an_asset_from_elsewhere_is_refused(name, place, kinds):
    """It would be read as a vocabulary, and copied into what is served."""
    (place / "sm/saved_model.pb").write_bytes(saved_model(frozen(), [name]).SerializeToString())

    assert f"asset {name!r} is not a file of assets/" in refused(kinds["saved_model"][0])


def test_text_that_is_nested_beyond_all_measure_is_refused(place, kinds):
    depth = 5000
    text = "node { name: 'a' op: 'Const' attr { key: 'k' value { " + "func { attr { key: 'k' value { " * depth
    (place / "deep.pbtxt").write_text(text + "} } } " * depth + "} } }")

    refused(kinds["frozen_graph"][0] | {"path": "deep.pbtxt"})


# --- made to do harm: checkpoints --------------------------------------------------------------------


def test_a_tensor_of_another_size_than_its_bytes_is_refused(place, kinds):
    """TensorFlow makes room for what the shape says before it looks at the size."""
    for shape, expected in (([1 << 40], "takes 4398046511104 bytes, and is said to have 16"), ([1 << 40] * 2, "shape")):
        (place / "tf1-1.index").write_bytes(index_factory.index({"w": (1, shape, 0, 0, 16)}))
        assert expected in refused(kinds["tf1_checkpoint"][0])


def test_a_block_that_stands_for_many_is_refused(place, kinds):
    """An index of a kilobyte could be read for days."""
    data, trailer = index_factory.block({b"": b"\x08\x01"})
    varint = index_factory.varint
    handle = varint(0) + varint(len(data))
    listed, end = index_factory.block({f"{number:04}".encode(): handle for number in range(1000)})
    content = data + trailer
    footer = handle + varint(len(content)) + varint(len(listed))
    (place / "tf1-1.index").write_bytes(content + listed + end + footer.ljust(40, b"\0") + index_factory.MAGIC)

    assert "its blocks overlap" in refused(kinds["tf1_checkpoint"][0])


def test_two_files_of_one_name_are_refused(place, kinds):
    for name in ("a", "b"):
        (place / name).mkdir()
        (place / name / "vocab.txt").write_text(name)

    told = refused(kinds["frozen_graph"][0] | {"assets": ["a/vocab.txt", "b/vocab.txt"]})

    assert "two files of the source are called vocab.txt" in told


# --- made to do harm: files of Keras -----------------------------------------------------------------


def layer(**keys):
    return json.dumps({"class_name": "Sequential", "config": {"layers": [{"config": {"name": "bad"}} | keys]}})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (layer(class_name="Lambda"), "Lambda layer bad"),
        (layer(class_name="TFSMLayer", module="keras.layers"), "layer bad (TFSMLayer), which loads another model"),
        (
            layer(class_name="StringLookup", config={"name": "bad", "vocabulary": "/etc/passwd"}),
            "layer bad, which reads the file '/etc/passwd'",
        ),
        (layer(class_name="Popen", module="subprocess"), "class subprocess.Popen"),
        ("[" * 100_000, "the model's config is no JSON"),
    ],
)
def test_a_config_that_is_code_is_refused(config, expected, place, kinds):
    keras_zip(place / "whole.keras", config)

    assert expected in refused(kinds["keras"][0])


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "assets/../../x", "a\\..\\x"])
def test_a_member_that_leads_elsewhere_is_refused(name, place, kinds):
    keras_zip(place / "whole.keras", **{name: "1"})

    assert "in it leads elsewhere: refused." in refused(kinds["keras"][0])


def test_a_bomb_in_a_keras_file_is_refused(place, kinds):
    with zipfile.ZipFile(place / "whole.keras", "a", zipfile.ZIP_DEFLATED) as file, file.open("z", "w") as zeros:
        for _ in range(300):
            zeros.write(bytes(1 << 20))

    assert "unpacks to far more than its" in refused(kinds["keras"][0])


def link_out(file):
    file["layers/out"] = h5py.ExternalLink("/etc/passwd", "/")


def lie_outside(file):
    file.create_dataset("outside", (8,), "u1", external=[("/etc/passwd", 0, 8)])


def promise_much(file):
    file.create_dataset("huge", (1 << 40,), "f4", chunks=(1 << 20,))


def grow_an_attribute(file):
    file.attrs.create("large", np.zeros((1 << 22) + 1, np.float32))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (link_out, "/layers/out is a link"),
        (lie_outside, "/outside lies in another file"),
        (promise_much, "/huge is said to have 4398046511104 bytes"),
        (grow_an_attribute, "attribute large of / is said to have 16777220 bytes"),
    ],
)
def test_an_hdf5_file_that_reaches_out_or_grows_is_refused(harm, expected, place, kinds):
    with h5py.File(place / "alone.weights.h5", "w", libver="latest") as file:
        file["layers/dense/vars/0"] = np.zeros(3, np.float32)
        harm(file)

    assert expected in refused(kinds["weights"][0])


# --- archives ----------------------------------------------------------------------------------------


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("hostile", "expected"),
    [
        (member("../x"), "leads out of the archive (..)"),
        (member("/etc/x"), "is an absolute name"),
        (member("sm", tarfile.SYMTYPE, "/etc"), "is a link to '/etc'"),
        (member("sm/saved_model.pb", tarfile.LNKTYPE, "../../../etc/passwd"), "is a link to"),
        (member("pipe", tarfile.FIFOTYPE), "is a device or a pipe"),
    ],
)
def test_an_archive_with_a_way_out_is_refused_whole(hostile, expected, place, kinds):
    with tarfile.open(place / "a.tar.gz", "w:gz") as archive:
        archive.add(place / "sm", "sm")
        archive.addfile(hostile)

    assert expected in refused({"kind": "saved_model", "path": "a.tar.gz"})
