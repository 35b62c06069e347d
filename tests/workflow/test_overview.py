import pytest
from tests.workflow.result_factory import digest, tree

from slipway import overview
from slipway.errors import SourceError
from slipway.overview import BEGIN, END, Made, between, cells, gather, markdown
from slipway.records import CheckpointRecord, Environment, ExportRecord, Parity, ValidationRecord

MADE = Made("ner", 1, "tf1_checkpoint", ("serving_default",), 3.7e-8, 32, None, 842_000, 395_000, 4.21, 3.5)


@pytest.fixture
def results(tmp_path):
    """Records of two versions of one model and one of another, as the line leaves them."""

    def parity(output, max_abs, **more):
        ends = {"path": "checkpoint→SavedModel", "signature": "serving_default", "output": output, "rows": 9}
        return Parity(**ends, max_abs=max_abs, max_rel=0, atol=1, rtol=1, ok=True, **more)

    for model, version in (("ner", 2), ("ner", 10), ("frozen", 1)):
        common = {"model": model, "version": version}
        CheckpointRecord(
            **common,
            kind="keras",
            description="A model.",
            tree=tree("source", {"a": 3, "b": 4}),
            golden_digest=digest("golden"),
            golden_rows=9,
            metrics={},
            tools={},
        ).write(tmp_path / f"checkpoints/{model}/{version}/checkpoint.json")
        ExportRecord(
            **common, tree=tree("export", {"saved_model.pb": 5}), signatures=["serving_default", "classify"], tools={}
        ).write(tmp_path / f"exports/{model}/{version}.json")
        ValidationRecord(
            **common,
            contract_digest=digest("contract"),
            signatures=[],
            checks=[],
            parity=[
                parity("logits", 1e-7),
                parity("label", 0.0),
                parity("by chance", 9, why_not="deterministic: false"),
            ]
            if version != 10
            else [],
            accuracy=0.5,
        ).write(tmp_path / f"validation/{model}/{version}.json")
    (tmp_path / "validation/ner/3.failed.json").write_text("{}")
    (tmp_path / "usage/export/ner").mkdir(parents=True)
    (tmp_path / "usage/export/ner/2.tsv").write_text("s\th:m:s\tcpu_time\n2.5\t0:00:02\t1.25\n")
    return tmp_path


def test_every_version_that_was_validated_is_told_in_order(results):
    found = list(gather(results))

    assert [(made.model, made.version) for made in found] == [("frozen", 1), ("ner", 2), ("ner", 10)]
    assert found[1] == Made("ner", 2, "keras", ("serving_default", "classify"), 1e-7, 9, 0.5, 7, 5, 2.5, 1.25)
    assert found[2].max_abs is None
    assert found[0].export_s is None


def test_models_that_are_named_are_told_alone_and_others_are_missed(results):
    assert [made.model for made in gather(results, ["frozen"])] == ["frozen"]
    with pytest.raises(SourceError, match="nothing was made of cats; there are: frozen, ner"):
        list(gather(results, ["cats"]))


def test_an_empty_directory_says_what_to_run(tmp_path):
    with pytest.raises(SourceError, match=r"nothing was made yet\. Run `snakemake"):
        list(gather(tmp_path))


def test_a_line_has_units_and_a_dash_for_what_is_not_known():
    line = [
        "ner 1",
        "tf1_checkpoint",
        "serving_default",
        "3.7e−8 on 32 rows",
        "–",
        "842 kB",
        "395 kB",
        "4.21 s",
        "3.5 s",
    ]

    assert cells(MADE) == line


def test_markdown_names_the_machine():
    where = Environment(
        cpu="Some CPU",
        logical_cpus=2,
        memory_bytes=1,
        kernel="Linux 6",
        python="3.11",
        gpus=[],
        packages={"tensorflow-cpu": "2.21.0"},
        commit=None,
        dirty=None,
        slipway="1",
    )

    text = markdown([MADE], where)

    assert text.splitlines()[2].startswith("| ner 1 | tf1_checkpoint | serving_default |")
    assert "(Some CPU, 2 logical CPUs, TensorFlow 2.21.0)" in text


def test_only_what_is_between_the_marks_is_replaced_and_twice_is_once():
    text = f"# Recipes\n\n{BEGIN}\nold\n{END}\n\nMore.\n"

    once = between(text, "new", "r.md")

    assert once == f"# Recipes\n\n{BEGIN}\n\nnew\n\n{END}\n\nMore.\n"
    assert between(once, "new", "r.md") == once


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_file_without_marks_is_left_alone(text):
    with pytest.raises(SourceError, match=r"r.md: expected the lines <!-- slipway overview -->"):
        between(text, "new", "r.md")


def test_the_command_prints_or_writes(results, tmp_path, capsys):
    import argparse

    parser = argparse.ArgumentParser()
    overview.add_arguments(parser)
    (tmp_path / "r.md").write_text(f"{BEGIN}{END}\n")

    overview.run(parser.parse_args(["ner", "--records", str(results)]))
    overview.run(parser.parse_args(["--records", str(results), "--write", str(tmp_path / "r.md")]))

    printed = capsys.readouterr().out
    assert "ner 10" in printed
    assert "frozen" not in printed
    assert "| frozen 1 |" in (tmp_path / "r.md").read_text()
