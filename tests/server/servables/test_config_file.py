import threading

import pytest
from google.protobuf import text_format

from slipway_server.config_files import read_model_server_config
from slipway_server.servables.config_file import ConfigFile
from slipway_server.servables.configuration import Configuration, remove_model, set_model
from slipway_server.servables.manager import Manager
from slipway_server.servables.storage import LocalStorage
from slipway_wire import messages
from slipway_wire.status import FailedPrecondition, InvalidArgument

WAIT_S = 90.0


def listing(*names):
    models = "".join(
        f'config {{ name: "{name}" base_path: "/{name}" model_platform: "tensorflow" }} ' for name in names
    )
    return f"model_config_list {{ {models}}}"


class World:
    """A file, and a configuration whose models nobody looks for."""

    def __init__(self, fakes, path):
        self.path = path
        self.fakes = fakes
        manager = Manager(
            lambda *_: fakes.FakeLoader(), load_on=fakes.AtOnce(), unload_on=fakes.AtOnce(), later=fakes.Timers()
        )
        self.configuration = Configuration(manager, fakes.NothingToSee(), lambda _: LocalStorage())
        self.changes = threading.Semaphore(0)
        self.files = []

    def open(self, *names, **options):
        self.path.write_text(listing(*names))
        config = read_model_server_config(self.path)
        self.configuration.start(config, with_what_is_there=True)
        self.fakes.wait_for(lambda: self.configuration.current.revision, "the first configuration")
        self.files.append(ConfigFile(self.path, self.configuration, **options))
        self.files[-1].start()
        return self.files[-1]

    @property
    def names(self):
        return list(self.configuration.current.models)

    def becomes(self, *names):
        self.fakes.wait_for(lambda: self.names == list(names), names)


@pytest.fixture
def world(fakes, tmp_path):
    world = World(fakes, tmp_path / "models.config")
    yield world
    for file in world.files:
        file.stop()
    world.configuration.stop()


def test_the_file_is_followed(world):
    world.open("a", period_s=0.01)
    world.path.write_text(listing("b", "c"))

    world.becomes("b", "c")


def test_a_bad_file_is_told_once_and_the_old_configuration_stays(world, caplog):
    """Also an emptied one: half of a save must not unload everything."""
    world.open("a", period_s=0.01)
    for text, told in (
        ("model_config_list {", "Invalid protobuf file"),
        ("", "Cannot transition to requested config"),
        (listing("b", "b"), "Illegal to list model b multiple times"),
    ):
        world.path.write_text(text)
        world.fakes.wait_for(lambda told=told: told in caplog.text, told)
        world.path.write_text(listing("a"))
    world.path.unlink()
    world.fakes.wait_for(lambda: "No such file" in caplog.text, "the missing file to be told")

    assert world.names == ["a"]
    world.path.write_text(listing("c"))
    world.becomes("c")
    assert caplog.text.count("No such file") == 1


def test_a_file_that_does_not_parse_is_parsed_once(world, capsys):
    """Protobuf's line on stderr, which TF Serving's clients look for, would fill the log otherwise."""
    file = world.open("a", period_s=0.001)
    looks = []
    state = file._state
    file._state = lambda: looks.append(1) or state()
    world.path.write_text("model_config_list {")
    seen = len(looks)
    world.fakes.wait_for(lambda: len(looks) > seen + 20, "some polls")

    assert capsys.readouterr().err.count("Error parsing text-format") in {
        1,
        2,
    }  # 2: the file while it was being written
    world.path.write_text(listing("b"))
    world.becomes("b")


def test_without_a_period_the_file_is_read_when_told(world):
    file = world.open("a")
    world.path.write_text(listing("a", "b"))
    assert file.reload(dry_run=True).result(WAIT_S).added == ("b",)
    assert world.names == ["a"]
    file.reload()

    world.becomes("a", "b")
    world.path.write_text("model_config_list {")
    with pytest.raises(InvalidArgument):
        file.reload()
    world.path.write_text("")
    with pytest.raises(FailedPrecondition):
        file.reload().result(WAIT_S)


def test_changes_are_written_back_if_that_is_wanted(world):
    world.open("a", "b", persists=True)
    before = world.path.read_text()
    model = messages.ModelConfig(name="c", base_path="/c", model_platform="tensorflow")
    world.configuration.change(set_model(model), waits=False).result(WAIT_S)
    world.configuration.change(remove_model("a"), waits=False).result(WAIT_S)

    written = text_format.Parse(world.path.read_text(), messages.ModelServerConfig())
    assert world.path.read_text() != before
    assert [one.name for one in written.model_config_list.config] == ["b", "c"]
    assert list(world.path.parent.iterdir()) == [world.path]


def test_what_came_from_the_file_is_not_written(world):
    file = world.open("a", persists=True)
    text = f"# A comment is worth keeping.\n{listing('b')}"
    world.path.write_text(text)
    file.reload()
    world.becomes("b")

    assert world.path.read_text() == text


def test_a_file_that_cannot_be_written_is_told(world, caplog):
    world.open("a", "b", persists=True)
    world.path.with_name("models.config.partial").mkdir()
    world.configuration.change(remove_model("a"), waits=False).result(WAIT_S)

    assert "--persist_model_config" in caplog.text
    assert world.names == ["b"]


def test_by_default_nothing_is_written(world):
    world.open("a", "b")
    before = world.path.read_text()
    world.configuration.change(remove_model("a"), waits=False).result(WAIT_S)

    assert world.path.read_text() == before
