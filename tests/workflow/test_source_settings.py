from typing import ClassVar

import pytest
from pydantic import TypeAdapter, ValidationError

from slipway.source_settings import Source, full_name, latest_checkpoint, located, training_of

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


URL = "https://models.example/ner/model.tar.gz?x=1"


def test_a_url_is_kept_apart_from_what_the_file_is_called():
    source = parse(NER | {"path": URL, "sha256": "0" * 64, "inside": "ner/ner.ckpt-100"})

    assert (source.url, source.path.name, source.is_archive) == (URL, "model.tar.gz", True)
    assert source.files() == []  # nothing that Snakemake could wait for
    assert TypeAdapter(Source).validate_json(source.model_dump_json()) == source


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"path": URL}, r"sha256: the SHA-256 of the file is needed where it is fetched \(https://"),
        ({"path": URL, "sha256": {"model.tar.gz": "0" * 64}}, "sha256: the SHA-256 of the file is needed"),
        ({"path": "ftp://a/b.zip", "sha256": "0" * 64}, "ftp:// is not fetched; there are: https://, http://, s3://, gs://"),
        ({"path": "file:///etc/passwd", "sha256": "0" * 64}, "file:// is not fetched"),
        ({"path": "https://a/", "sha256": "0" * 64}, "names no file"),
        ({"path": URL, "sha256": "0" * 64, "train": {"script": "t.py"}}, "train: makes the files that `path` names, but"),
        ({"sha256": "0" * 63}, "String should match pattern"),
        ({"inside": "a/b"}, "inside: ner.ckpt-100 is no archive; archives end in .tar, "),
        ({"path": "a.zip", "inside": "/etc/passwd"}, "String should match pattern"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched_or_unpacked_is_refused(more, expected):
    with pytest.raises(ValidationError, match=expected) as caught:
        parse(NER | more)
    assert len(caught.value.errors()) == 1


def test_an_archive_is_waited_for_as_the_one_file_it_is():
    assert parse(NER | {"path": "a/b.tar.zst"}).files() == ["a/b.tar.zst"]
    assert parse(NER | {"path": "a/b.zip", "sha256": "0" * 64}).digests == {"b.zip": "0" * 64}


class TestTraining:
    """A source that a script makes: what it is made from before, and where it lies after."""

    TRAINED: ClassVar = {
        "kind": "keras",
        "path": "m.keras",
        "golden": "g.npz",
        "train": {"script": "t.py", "inputs": ["rows.csv"]},
    }

    def test_before_it_is_made_from_what_its_script_needs(self):
        assert parse(self.TRAINED).files() == ["t.py", "rows.csv"]

    def test_a_builder_counts_beside_the_script(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "nets.py").touch()

        source = parse(self.TRAINED | {"kind": "weights", "builder": "nets:build"})

        assert source.files() == ["t.py", "rows.csv", "nets.py"]

    def test_after_its_files_are_where_the_training_left_them(self, tmp_path):
        source = located(parse(self.TRAINED), tmp_path)

        assert training_of(source) is None
        assert source.files() == [str(tmp_path / "m.keras"), str(tmp_path / "g.npz")]

    @pytest.mark.parametrize("found", [{"kind": "builtin"}, {"kind": "keras", "path": "m.keras"}])
    def test_a_source_without_training_stays_where_it_is(self, found, tmp_path):
        assert training_of(parse(found)) is None
        assert located(parse(found), tmp_path) == parse(found)
