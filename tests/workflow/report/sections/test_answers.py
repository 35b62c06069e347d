from tests.workflow import result_factory as factory

from slipway.report.sections.answers import answers


def test_accuracy_is_told_by_the_path_that_the_answer_took():
    figure = answers(factory.model_result()).blocks[0]

    assert [[cell.text for cell in row] for row in figure.table.rows[-4:]] == [
        ["2", "checkpoint, offline", "93.06%"],
        ["2", "SavedModel", "93.06%"],
        ["2", "REST", "93.06%"],
        ["2", "gRPC", "93.06%"],
    ]
    assert figure.title == "Version 2 is right on 93.1% of the golden rows, over every path"


def test_paths_that_disagree_are_not_called_equal():
    model = factory.model_result()
    worse = [a.model_copy(update={"accuracy": 0.5}) if a.protocol == "grpc" else a for a in model.launch.answers]
    changed = model.model_copy(update={"launch": model.launch.model_copy(update={"answers": worse})})

    assert answers(changed).blocks[0].title == "Accuracy by path"


def test_every_path_of_every_version_is_compared():
    *_, newest, earlier = answers(factory.model_result(versions=(1, 2, 3))).blocks
    rows = (*newest.rows, *earlier.blocks[0].rows)

    assert [row[1].text for row in rows] == ["3"] * 3 + ["1"] * 3 + ["2"] * 3
    assert [row[0].text for row in newest.rows] == ["checkpoint→SavedModel", "checkpoint→rest", "checkpoint→grpc"]
    assert {row[-1].text for row in rows} == {"✓ pass"}


def test_what_was_not_compared_says_why():
    model = factory.model_result()
    first = model.versions[0]
    parity = factory.parity("a→b", max_abs=0.5).model_copy(update={"why_not": "deterministic: false"})
    validation = first.validation.model_copy(update={"parity": [parity]})
    changed = model.model_copy(update={"versions": [first.model_copy(update={"validation": validation})]})
    row = answers(changed).blocks[-1].rows[0]

    assert [cell.text for cell in row[-2:]] == ["not compared: deterministic: false", "✓ pass"]


def test_a_distance_that_is_too_large_fails():
    model = factory.model_result()
    first = model.versions[0]
    validation = first.validation.model_copy(update={"parity": [factory.parity("a→b", ok=False, max_abs=float("inf"))]})
    changed = model.model_copy(update={"versions": [first.model_copy(update={"validation": validation})]})
    row = answers(changed).blocks[-1].rows[0]

    assert (row[4].text, row[-1].text) == ("∞", "✕ fail")
