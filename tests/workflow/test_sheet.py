import pytest

from slipway.errors import SettingsError
from slipway.settings import of_its_own_models, parse_settings
from slipway.sheet import check_files, with_sheet

CSV = """\
model,version,kind,path,contract,source.epochs,source.tags,source.freeze_inputs.Dropout
a,1,builtin,,config/contracts/digits.yaml,3,,
a,2,builtin,,,,,

b-2,7,saved_model,models/b,,,"[serve, gpu]",1.0
"""
YAML = """\
- {model: a, version: 1, kind: builtin, contract: config/contracts/digits.yaml, source: {epochs: 3}}
- model: a
  version: 2
  source: {kind: builtin}

- model: b-2
  version: 7
  kind: saved_model
  path: models/b
  source.tags: [serve, gpu]
  source.freeze_inputs: {Dropout: 1.0}
"""


@pytest.fixture
def sheet(tmp_path, monkeypatch):
    """Write a sheet and give the config with it."""
    monkeypatch.chdir(tmp_path)

    def make(text, name="models.csv", **config):
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return with_sheet({"format": 1, "sheet": name, **config})

    return make


def faults(caught):
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CSV, "m.csv"),
        (CSV.replace('"[serve, gpu]"', "<>").replace(",", "\t").replace("<>", '"[serve, gpu]"'), "m.tsv"),
        ("\ufeff" + CSV.replace("\n", "\r\n"), "m.csv"),
        (YAML, "m.yaml"),
    ],
    ids=["csv", "tsv", "as a spreadsheet writes it", "yaml"],
)
def test_each_row_is_a_version(sheet, text, name):
    settings = parse_settings(sheet(text, name))

    assert {model: settings.versions(model) for model in settings.models} == {"a": [1, 2], "b-2": [7]}
    assert settings.models["a"].versions[1].source.epochs == 3
    assert settings.models["a"].versions[2].source.epochs == 15
    b = settings.models["b-2"]
    assert b.versions[7].source.tags == ["serve", "gpu"]
    assert b.versions[7].source.freeze_inputs == {"Dropout": 1.0}
    assert (str(settings.models["a"].contract), str(b.contract)) == (
        "config/contracts/digits.yaml",
        "config/contracts/b-2.yaml",
    )


def test_a_model_may_be_in_the_config_as_well(sheet):
    config = {"a": {"serving": {"policy": "latest"}, "versions": {9: {"source": {"kind": "builtin"}}}}}
    settings = parse_settings(sheet(CSV, models=config))

    assert settings.versions("a") == [1, 2, 9]
    assert settings.served("a") == [9]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("a,1,builtin", "A,1,builtin", "models.csv: line 2, column model: String should match pattern"),
        ("a,2,builtin", "a,two,builtin", "models.csv: line 3, column version: should be a valid integer"),
        ("a,2,builtin", "a,0,builtin", "models.csv: line 3, column version: should be greater than or equal to 1"),
        ("a,2,builtin", "a,1,builtin", "models.csv: line 3, column version: version 1 of a stands in line 2 already"),
        ("a,2,builtin", "a,2,magic", "models.csv: line 3, column kind: tag 'magic' found"),
        ("a,2,builtin", "a,2,", "models.csv: line 3, column kind: Unable to extract tag"),
        ("yaml,3,", "yaml,x,", "models.csv: line 2, column source.epochs: should be a valid integer"),
        ("saved_model,models/b", "saved_model,", "models.csv: line 5, column path: Field required"),
        ("saved_model", "keras", "models.csv: line 5, column source.tags: unknown key"),
        (
            "a,2,builtin,,",
            "a,2,builtin,,c.yaml",
            "models.csv: line 3, column contract: a has one contract; line 2 says",
        ),
        ("[serve, gpu]", "[serve", "models.csv: line 5, column source.tags: not YAML"),
        (",1.0", ",1.0,more", "models.csv: line 5, column 9: 'more' has no heading"),
        ("source.tags", "tags", "models.csv: line 1, column 7: there is no column 'tags'"),
        ("source.tags", "source.epochs", "models.csv: line 1, column source.epochs: stands there twice"),
        ("model,version", "models,version", "models.csv: line 1, column model: missing"),
        ('"[serve, gpu]"', '"[serve, gpu]', "models.csv: line 5: no such table"),
    ],
)
def test_a_fault_names_file_line_and_column(sheet, old, new, told):
    assert CSV.count(old) == 1
    with pytest.raises(SettingsError) as caught:
        sheet(CSV.replace(old, new))

    assert any(line.startswith(told) for line in faults(caught)), faults(caught)


def test_every_fault_is_told_at_once(sheet):
    with pytest.raises(SettingsError) as caught:
        sheet("model,version,kind\na,x,builtin\nb,1,magic\nc,1,builtin\nc,1,builtin\n")

    assert [line.split(",")[0] for line in faults(caught)] == [f"models.csv: line {n}" for n in (2, 3, 5)]


def test_a_version_that_the_config_has_is_refused(sheet):
    with pytest.raises(SettingsError, match=r"models\.csv: line 3, column version: version 2 of a stands in config"):
        sheet(CSV, models={"a": {"versions": {2: {"source": {"kind": "builtin"}}}}})


def test_another_contract_than_the_configs_is_refused(sheet):
    with pytest.raises(SettingsError, match=r"line 2, column contract: config says c\.yaml for a"):
        sheet(CSV, models={"a": {"contract": "c.yaml"}})


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("- 1\n", "m.yaml", "m.yaml: line 1: expected a mapping, found 1"),
        ("a: 1\n", "m.yaml", "m.yaml: expected a list"),
        ("- {model: a, foo: 1}\n", "m.yaml", "m.yaml: line 1, column 2: there is no column 'foo'"),
        ("[", "m.yaml", "m.yaml: not YAML"),
        ("", "m.csv", "m.csv: empty"),
        ("x", "m.xlsx", "m.xlsx: expected a sheet in .csv"),
        (b"model,version\n\xff,1\n", "m.csv", "m.csv: line 2: not UTF-8 text"),
    ],
)
def test_what_is_no_sheet_is_told(sheet, text, name, told):
    with pytest.raises(SettingsError) as caught:
        sheet(text, name)

    assert faults(caught)[0].startswith(told)


def test_a_sheet_that_is_not_there_is_told():
    with pytest.raises(SettingsError, match=r"gone\.csv: no sheet there"):
        with_sheet({"sheet": "gone.csv"})


def test_a_missing_file_is_told_with_the_line_that_names_it(sheet, tmp_path):
    (tmp_path / "config/contracts").mkdir(parents=True)
    (tmp_path / "config/contracts/digits.yaml").touch()
    settings = parse_settings(sheet(CSV))

    with pytest.raises(SettingsError) as caught:
        check_files(settings)

    assert [line.split(";")[0] for line in faults(caught)] == [
        "models.csv: line 5, column contract: no file config/contracts/b-2.yaml",
        "models.csv: line 5, column path: no file models/b",
    ]


def test_a_sheet_on_the_command_line_takes_the_place_of_the_configs_models():
    config = {"format": 1, "models": {"digits": {}}, "sheet": "mine.csv"}

    assert of_its_own_models(config, {"sheet": "mine.csv"}) == {"format": 1, "sheet": "mine.csv"}
    assert of_its_own_models(config, {"models": {"a": {}}}) == {"format": 1, "models": {"a": {}}}
