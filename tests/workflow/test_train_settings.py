import pytest
from pydantic import ValidationError

from slipway.train_settings import TrainSettings


def test_it_is_made_from_the_script_what_that_imports_and_its_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/train.py").write_text("import network\n")
    (tmp_path / "recipe/network.py").write_text("")

    train = TrainSettings(script="recipe/train.py", inputs=["data/rows.csv"])

    assert train.files() == ["recipe/train.py", "recipe/network.py", "data/rows.csv"]


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="epochs"):
        TrainSettings(script="t.py", epochs=3)
