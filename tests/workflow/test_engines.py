"""What engines are told (pure), and one real container with the real image: hardened, right, and never left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from slipway import engines, image, servers
from slipway.engines import CANDIDATES, Engine, find_engine, run_argv
from slipway.errors import EngineError
from slipway.oci import probe
from slipway.oci.layout import blob_path, open_layer
from slipway.records import ImageRecord, ServableRecord, TreeManifest
from slipway.settings import ImageSettings, LaunchSettings, ServerSettings, cache_directory

TESTDATA = Path(__file__).parents[1] / "testdata"
PODMAN = Engine("podman", "podman", ("--runtime=runc",), ("--ulimit=nofile=1024:1024",))
DOCKER = Engine("docker", "docker")


def argv(engine, **changed):
    arguments = {"name": "n", "owned_by": "1:2", "settings": LaunchSettings()} | changed
    return run_argv(engine, "abc", **arguments)


def eventually(condition, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


# --- what they are told ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", CANDIDATES, ids=lambda engine: engine.name)
def test_every_engine_is_told_to_give_little(engine):
    words = argv(engine, settings=LaunchSettings(memory="2g", pids=99))

    assert {
        "--rm",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--pids-limit=99",
        "--memory=2g",
        "--memory-swap=2g",
        "--pull=never",
    } <= set(words)


def test_no_engine_is_asked_for_more_files_than_this_host_gives():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked = [option.rpartition(":")[2] for one in CANDIDATES for option in one.run_options if "nofile" in option]

    assert asked
    assert all(hard == resource.RLIM_INFINITY or int(files) <= hard for files in asked)


def test_options_stand_where_the_engine_reads_them():
    words = argv(PODMAN, arguments=("--port=1",), entrypoint="/x", cpus="0,2-3")

    assert words[:3] == ["podman", "--runtime=runc", "run"]
    assert words[-2:] == ["abc", "--port=1"]
    assert {"--ulimit=nofile=1024:1024", "--entrypoint=/x", "--cpuset-cpus=0,2-3"} <= set(words[:-2])


@pytest.mark.parametrize(("engine", "option"), [(DOCKER, "--gpus=all"), (PODMAN, "--device=nvidia.com/gpu=all")])
def test_gpus_are_asked_for_in_each_engines_words(engine, option):
    assert option in argv(engine, settings=LaunchSettings(gpus="all"))
    assert option not in argv(engine)


@pytest.mark.parametrize(
    ("wanted", "programs"), [("auto", {"docker", "podman"}), ("podman", {"podman"}), ("docker", {"docker"})]
)
def test_only_wanted_engines_are_tried(wanted, programs):
    assert {engine.program for engine in engines.candidates(wanted)} == programs


def test_a_process_is_known_again_by_more_than_its_id():
    me = engines.owner()

    assert engines.is_running(me)
    assert not engines.is_running(f"{os.getpid()}:1.00")
    assert not engines.is_running("nonsense")


def record():
    digest = f"sha256:{'0' * 64}"
    return ImageRecord(
        model="m",
        versions=[1],
        reference="slipway/m:1",
        image_id=digest,
        manifest_digest=digest,
        layers=[],
        compression="gzip",
        base="",
        packages={},
        created="",
    )


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "_found", {})
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_any_engine_a_plain_process_is_the_last_resort(nothing_installed, tmp_path):
    engine, found = find_engine(tmp_path, record(), LaunchSettings())

    assert engine is None
    assert (found.name, found.isolated) == ("process", False)
    assert found.rejected == {candidate.name: "not installed" for candidate in CANDIDATES}


def test_an_engine_that_was_asked_for_and_is_missing_is_an_error_in_one_line(nothing_installed, tmp_path):
    with pytest.raises(EngineError, match=r"launch\.engine: podman .*podman: not installed.*slipway doctor") as caught:
        find_engine(tmp_path, record(), LaunchSettings(engine="podman"))

    assert "\n" not in str(caught.value)


def test_an_engine_is_quoted_without_its_warnings():
    script = "import sys; sys.stderr.write('time=x level=warning msg=y\\nError: no such thing\\n'); sys.exit(125)"
    with pytest.raises(EngineError, match=r"^no such thing$"):
        engines.call([sys.executable, "-c", script])


def test_an_engine_that_hangs_is_given_up():
    with pytest.raises(EngineError, match=r"did not end within 0\.2 s"):
        engines.call([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)


# --- a real container ------------------------------------------------------------------------------


needs_engine = pytest.mark.skipif(
    not (shutil.which("podman") or shutil.which("docker")), reason="neither podman nor docker is installed"
)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The real image around a model of a few bytes; its large layers come from the user's cache."""
    place = tmp_path_factory.mktemp("image")
    found = {}
    for version in (1, 2):
        directory = place / f"servables/half/{version}"
        shutil.copytree(TESTDATA / f"saved_model_half_plus_two_2_versions/0000012{version + 2}", directory)
        tree = TreeManifest.of(directory)
        servable = ServableRecord(
            model="half",
            version=version,
            tree=tree,
            checkpoint_digest=tree.digest,
            export_digest=tree.digest,
            warmup_digest=tree.digest,
        )
        found[version] = image.Servable(directory, servable)
    # A name of its own: another run on this machine may be using an image of the same model.
    settings = ImageSettings(repository=f"slipway-test-{os.getpid()}/{{model}}")
    built = image.build(
        model="half",
        settings=settings,
        server=ServerSettings(),
        servables=found,
        cache=cache_directory(os.environ),
        out=place / "layout",
        epoch=1,
    )
    spec = servers.ServerSpec("half", place / "layout", built, place / "servables/half", LaunchSettings())
    yield spec
    engine, _ = find_engine(place / "layout", built, spec.settings)
    if engine is not None:
        engines.forget(engine, built)


@pytest.fixture(scope="session")
def running(built, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with servers.running_server(built, log=log) as server:
        yield server
        assert server.stop()[0] == 0, log.read_text()


def post(server, path, body):
    request = urllib.request.Request(f"http://{server.host}:{server.rest_port}{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.loads(answer.read())


@pytest.mark.container
@needs_engine
def test_all_versions_are_served_from_a_container(running):
    assert running.engine.isolated, running.engine.rejected
    assert running.versions == {1: "AVAILABLE", 2: "AVAILABLE"}
    for version in (1, 2):
        answer = post(running, f"/v1/models/half/versions/{version}:predict", {"instances": [1.0, 2.0]})
        assert answer == {"predictions": [2.5, 3.0]}


@pytest.mark.container
@needs_engine
def test_the_server_is_nobody_in_particular_and_can_do_nothing_special(running):
    """Read from the host: user, capabilities, privileges, system call filter, parent that reaps."""
    assert len(running.pids()) == 2
    for pid in running.pids():
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    assert psutil.Process(running.pids()[0]).name() == "tini"


@pytest.mark.container
@needs_engine
def test_ports_are_open_on_the_loopback_alone(running):
    ports = {running.rest_port, running.grpc_port}
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    }

    assert listening == {("127.0.0.1", port) for port in ports}


@pytest.mark.container
@needs_engine
def test_both_of_tf_servings_programs_can_be_the_entrypoint(built, running):
    engine, _ = find_engine(built.image_layout, built.image, built.settings)
    for program in ("tensorflow_model_server", "/usr/bin/tf_serving_entrypoint.sh"):
        words = argv(engine, entrypoint=program, name=f"slipway-test-{os.getpid()}", owned_by=engines.owner())[:-1]
        said = engines.call([*words, built.image.image_id.removeprefix("sha256:"), "--version"])
        assert said.startswith("TensorFlow ModelServer: ")


@pytest.mark.container
def test_nothing_of_this_machine_is_in_the_real_image_and_no_shell(built):
    leaks = {
        os.uname().nodename.encode(),
        os.fsencode(Path.home()) + b"/",
        os.fsencode(sys.prefix),
        str(TESTDATA).encode(),
    }
    sources = Path("/etc/apt/sources.list")
    mirrors = [word for word in sources.read_text().split() if "://" in word] if sources.exists() else []
    leaks |= {mirror.encode() for mirror in mirrors}
    # What would also be found in any image: a host name of a few letters, root's home in a comment.
    leaks = {leak for leak in leaks if len(leak) > 6 and leak != b"/root/"}
    for layer in built.image.layers:
        if layer.name == "tensorflow":
            continue  # wheels are unpacked as they are; `packages` shows it on 150 MB
        with open_layer(blob_path(built.image_layout, layer.digest), "gzip") as packed:
            for member in packed:
                is_program = member.isfile() and member.mode & 0o111
                assert not (is_program and Path(member.name).name in ("sh", "bash", "dash", "apt", "dpkg", "pip"))
                content = packed.extractfile(member).read() if member.isfile() else b""
                assert not [leak for leak in leaks if leak in content], member.name


@pytest.mark.container
@needs_engine
def test_a_killed_owner_leaves_no_container_behind(built, running, tmp_path):
    """`kill -9` of the process that owns the server: its container must go, though the engine is its parent."""
    script = f"""
        import time
        from pathlib import Path
        from slipway import servers
        from slipway.records import ImageRecord
        from slipway.settings import LaunchSettings
        image = ImageRecord.model_validate_json({built.image.model_dump_json()!r})
        spec = servers.ServerSpec("half", Path({str(built.image_layout)!r}), image, Path("/nowhere"), LaunchSettings())
        with servers.running_server(spec, log=Path({str(tmp_path / "log")!r})) as server:
            print(*server.pids(), flush=True)
            time.sleep(60)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in owner.stdout.readline().split()]
    engine, _ = find_engine(built.image_layout, built.image, built.settings)
    names = engine.command("ps", "--all", f"--filter=label={engines.OWNER_LABEL}", "--format={{.Names}}")
    (other,) = [name for name in engines.call(names).split() if engines.host_pid(engine, name) == pids[0]]

    owner.kill()
    owner.wait()
    owner.stdout.close()

    eventually(lambda: not any(map(psutil.pid_exists, pids)))
    eventually(lambda: other not in engines.call(names).split())
    running.check_alive()


@pytest.mark.container
@needs_engine
def test_what_a_power_cut_left_is_removed_at_the_next_start(built, running):
    engine, _ = find_engine(built.image_layout, built.image, built.settings)
    name = f"slipway-test-orphan-{os.getpid()}"
    words = argv(engine, name=name, owned_by="999999:1.00")
    create = [word for word in words if word not in ("--rm", "abc")]
    create[create.index("run")] = "create"
    engines.call([*create, built.image.image_id.removeprefix("sha256:")])

    assert name in engines.remove_orphans(engine)
    assert engines.host_pid(engine, name) is None
    running.check_alive()


@pytest.mark.container
@needs_engine
def test_an_engine_tries_an_image_of_one_program(tmp_path):
    image = probe.write_probe_image(tmp_path / "layout")
    trial = engines.Trial(probe.ENTRYPOINT, probe.probe_arguments("42"), "42")
    errors = {}
    for engine in CANDIDATES:
        try:
            assert engines.try_engine(engine, tmp_path / "layout", image, LaunchSettings(memory="256m"), trial)
            break
        except EngineError as error:
            errors[engine.name] = str(error)
        finally:
            if shutil.which(engine.program):
                engines.forget(engine, image)
    else:
        pytest.fail(f"no engine works: {errors}")
