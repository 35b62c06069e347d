import pytest
from pydantic import TypeAdapter, ValidationError

from slipway.source_settings import Source, full_name, latest_checkpoint

NER = {"kind": "tf1_checkpoint", "path": "ck/ner.ckpt-100", "inputs": {"chars": "ChatInputs"}, "outputs": {"y": "z:0"}}


def parse(found):
    return TypeAdapter(Source).validate_python(found)


@pytest.fixture
def checkpoint(tmp_path):
    """Two checkpoints whose names begin alike, and a file that is part of neither."""
    for name in ("m-1.index", "m-1.meta", "m-1.data-00000-of-00001", "m-12.index", "m-1.txt"):
        (tmp_path / name).touch()
    return tmp_path


def names(files):
    return [file.rpartition("/")[2] for file in files]


def test_values_keep_their_types_on_the_way_through_json():
    source = parse(NER | {"freeze_inputs": {"Dropout": 1.0, "training": False, "steps": 3, "shape": [[1, 2]]}})

    again = TypeAdapter(Source).validate_json(source.model_dump_json())

    assert again == source
    assert [type(value) for value in again.freeze_inputs.values()] == [float, bool, int, list]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"freeze_inputs": {"ChatInputs:0": 1}}, "ChatInputs:0 is among the inputs, too"),
        ({"inputs": {"a": "x", "b": "x:0"}}, "inputs: x:0 stands there twice"),
        ({"inputs": {"a": "^x"}}, "String should match pattern"),
        ({"inputs": {"a-b": "x"}}, "String should match pattern"),
    ],
)
def test_what_cannot_be_meant_is_refused(more, expected):
    with pytest.raises(ValidationError, match=expected.replace("^", "")):
        parse(NER | more)


def test_an_op_stands_for_its_first_output():
    assert (full_name("a/b"), full_name("a/b:1")) == ("a/b:0", "a/b:1")


def test_only_the_files_of_one_checkpoint_count(checkpoint):
    found = parse(NER | {"path": checkpoint / "m-1"}).files()

    assert names(found) == ["m-1.data-00000-of-00001", "m-1.index", "m-1.meta"]


@pytest.mark.parametrize("written", ["m-12", "/home/user/train/m-12"])
def test_a_directory_means_its_latest_checkpoint(checkpoint, written):
    """The path that a training wrote is one of its own machine."""
    state = f'model_checkpoint_path: "{written}"\nall_model_checkpoint_paths: "m-1"\n'
    (checkpoint / "checkpoint").write_text(state)

    source = parse(NER | {"path": checkpoint})

    assert source.prefix == checkpoint / "m-12"
    assert names(source.files()) == ["m-12.index", "checkpoint"]


def test_without_a_state_file_there_is_no_latest(checkpoint):
    assert latest_checkpoint(checkpoint) is None
    assert latest_checkpoint(checkpoint / "m-1") is None


def test_a_checkpoint_in_one_file_is_that_file(tmp_path):
    (tmp_path / "m").touch()
    (tmp_path / "m.meta").touch()

    assert names(parse(NER | {"path": tmp_path / "m"}).files()) == ["m", "m.meta"]


def test_a_saved_model_is_its_graph_variables_and_assets(tmp_path):
    parts = (
        "saved_model.pb",
        "variables/variables.index",
        "assets/words.txt",
        "assets.extra/tf_serving_warmup_requests",
    )
    for name in parts:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    source = parse({"kind": "saved_model", "path": tmp_path})

    assert source.files() == [str(tmp_path / name) for name in parts[:3]]
    assert (source.tags, source.signature) == (["serve"], "serving_default")


def test_files_that_are_not_there_are_named_all_the_same(tmp_path):
    """`check_files` looks for each and says which are missing."""
    assert parse({"kind": "saved_model", "path": tmp_path / "none"}).files() == [str(tmp_path / "none")]
    assert parse(NER | {"path": tmp_path / "m"}).files() == [str(tmp_path / "m")]


def test_a_builder_in_the_working_directory_is_one_of_the_files(checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint)
    (checkpoint / "nets.py").touch()

    assert "nets.py" in parse(NER | {"path": "m-12", "builder": "nets:build"}).files()
