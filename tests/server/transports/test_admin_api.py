import contextlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from slipway_server.batching.scheduler import DirectScheduler
from slipway_server.bearer import BearerToken
from slipway_server.metrics import Metrics
from slipway_server.servables.configuration import Configuration
from slipway_server.servables.manager import Manager, RetryPolicy
from slipway_server.servables.source import Polling, Source
from slipway_server.servables.storage import LocalStorage
from slipway_server.serving import Serving
from slipway_server.transports import ports
from slipway_server.transports.admin_api import AdminApi
from slipway_server.transports.http import HttpServer
from slipway_server.transports.rest_api import error_response
from slipway_wire import messages

WAIT_S = 90.0


class SlowLoader:
    def __init__(self, gate, loader):
        self.gate, self.loader = gate, loader

    def load(self):
        assert self.gate.wait(WAIT_S)
        return self.loader.load()


class BrokenLoader:
    def load(self):
        raise OSError("disk on fire")


@pytest.fixture
def admin(loop_thread, fakes, testdata, tmp_path):
    """`admin(**parameters)` manages half, versions 1 and 2, over a real socket; more base paths are in its `directory`."""
    for name in ("half", "other", "broken", "slow"):
        for version in ("1", "2"):
            shutil.copytree(testdata / "saved_model_half_plus_two_2_versions" / "00000123", tmp_path / name / version)
    with contextlib.ExitStack() as cleanup:

        def start(*, token=None, config_file="", metrics_path=None):
            loads = cleanup.enter_context(ThreadPoolExecutor(2))
            gate = threading.Event()
            cleanup.callback(gate.set)
            loaders = {"broken": BrokenLoader, "slow": lambda: SlowLoader(gate, fakes.FakeLoader())}
            manager = Manager(
                lambda model, _version, _path: loaders.get(model, fakes.FakeLoader)(),
                load_on=loads,
                unload_on=loads,
                later=fakes.Timers(),
                retry=RetryPolicy(0, 0.0),
            )
            source = Source(manager, lambda _: LocalStorage(), Polling(0.01, 0.0))
            configuration = Configuration(manager, source, lambda _: LocalStorage())
            cleanup.callback(configuration.stop)
            config = messages.ModelServerConfig()
            model = config.model_config_list.config.add(
                name="half", base_path=str(tmp_path / "half"), model_platform="tensorflow", version_labels={"stable": 1}
            )
            model.model_version_policy.all.SetInParent()
            configuration.start(config).result(WAIT_S)
            metrics = Metrics()
            serving = Serving(manager, DirectScheduler(2, metrics), metrics, configuration)
            server = HttpServer(
                AdminApi(serving, token=token, config_file=config_file, metrics_path=metrics_path).handle,
                error_response,
            )
            bound = ports.bind("127.0.0.1", "auto", flag="admin_port")
            loop_thread.run(server.start(bound))

            async def stop():
                server.stop()

            cleanup.callback(lambda: loop_thread.run(stop()))
            client = cleanup.enter_context(
                httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", trust_env=False, timeout=WAIT_S)
            )
            client.serving, client.directory, client.gate = serving, tmp_path, gate
            return client

        yield start


def listed(client):
    return {model["name"]: model for model in client.get("/v1/admin/models").json()["models"]}


def test_models_are_listed_with_all_that_one_asks_about_them(admin):
    client = admin()

    assert client.get("/v1/admin/models").json()["revision"] == 1
    assert listed(client) == {
        "half": {
            "name": "half",
            "base_path": str(client.directory / "half"),
            "serving_version": 2,
            "labels": {"stable": 1},
            "versions": [
                {"version": version, "state": "AVAILABLE", "error_code": "OK", "error_message": ""}
                for version in (2, 1)
            ],
            "problem": None,
        }
    }


def test_the_configuration_is_read_as_it_would_be_written(admin):
    client = admin()
    read = client.get("/v1/admin/config").json()
    (model,) = read["config"]["model_config_list"]["config"]
    assert (model["name"], model["version_labels"]) == ("half", {"stable": "1"})

    assert client.put("/v1/admin/config", json=read["config"]).json() == {
        "revision": 1,
        "added": [],
        "removed": [],
        "changed": [],
        "dry_run": False,
    }


def test_a_model_is_added_and_removed(admin):
    client = admin()
    added = client.put("/v1/admin/models/other", json={"base_path": str(client.directory / "other")})
    assert (added.status_code, added.json()["added"]) == (200, ["other"])
    assert listed(client)["other"]["serving_version"] == 2

    removed = client.delete("/v1/admin/models/other")
    assert (removed.status_code, removed.json()["removed"]) == (200, ["other"])
    assert set(listed(client)) == {"half"}


def test_a_label_moves_and_goes(admin):
    client = admin()
    assert client.put("/v1/admin/models/half/labels/stable", json={"version": 2}).json()["changed"] == ["half"]
    assert client.put("/v1/admin/models/half/labels/canary", json={"version": "2"}).status_code == 200
    assert listed(client)["half"]["labels"] == {"canary": 2, "stable": 2}

    assert client.delete("/v1/admin/models/half/labels/canary").status_code == 200
    assert listed(client)["half"]["labels"] == {"stable": 2}
    refused = client.put("/v1/admin/models/half/labels/stable", json={"version": 9})
    assert (refused.status_code, listed(client)["half"]["labels"]) == (400, {"stable": 2})
    assert "9" in refused.json()["error"]


def test_a_dry_run_changes_nothing(admin):
    client = admin()
    model = {"base_path": str(client.directory / "other")}
    would = client.put("/v1/admin/models/other?dry_run=true", json=model).json()

    assert would == {"revision": 2, "added": ["other"], "removed": [], "changed": [], "dry_run": True}
    assert set(listed(client)) == {"half"}


@pytest.mark.parametrize("how", ["query", "header"])
def test_of_two_who_change_the_same_the_second_is_told(admin, how):
    client = admin()

    def put(model, revision):
        query = f"?revision={revision}" if how == "query" else ""
        headers = {} if how == "query" else {"If-Match": f'"{revision}"'}
        content = {"base_path": str(client.directory / "other")}
        return client.put(f"/v1/admin/models/{model}{query}", json=content, headers=headers)

    assert put("other", 1).json()["revision"] == 2
    late = put("third", 1)
    assert (late.status_code, set(listed(client))) == (409, {"half", "other"})
    assert "revision 2, not 1" in late.json()["error"]
    assert put("third", 2).status_code == 200


def test_a_model_that_cannot_be_served_is_told_and_stays_configured(admin):
    client = admin()
    answer = client.put("/v1/admin/models/broken", json={"base_path": str(client.directory / "broken")})

    assert answer.status_code == 500
    assert "1 model(s) did not become available" in answer.json()["error"]
    assert "disk on fire" in listed(client)["broken"]["problem"]
    health = client.get("/v1/health/ready")
    assert (health.status_code, list(health.json()["models"])) == (503, ["broken"])
    assert client.delete("/v1/admin/models/broken").status_code == 200
    assert client.get("/v1/health/ready").status_code == 200


def test_the_file_is_reloaded(admin, tmp_path):
    file = tmp_path / "models.config"
    client = admin(config_file=str(file))
    file.write_text(
        f'model_config_list {{ config {{ name: "other" base_path: "{tmp_path}/other" model_platform: "tensorflow" }} }}'
    )
    change = client.post("/v1/admin/config:reload").json()
    assert (change["added"], change["removed"]) == (["other"], ["half"])

    file.write_text("nonsense")
    answer = client.post("/v1/admin/config:reload")
    assert (answer.status_code, answer.json()["error"]) == (400, f"Invalid protobuf file: '{file}'")
    assert set(listed(client)) == {"other"}
    assert admin().post("/v1/admin/config:reload").json()["error"] == "There is no --model_config_file to reload"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "message"),
    [
        ("PUT", "/v1/admin/models/m", b"{", 400, "The body is not JSON"),
        ("PUT", "/v1/admin/models/m", b"[" * 100_000, 400, "The body is not JSON"),
        ("PUT", "/v1/admin/models/m", b"[]", 400, "must be a JSON object, got list"),
        (
            "PUT",
            "/v1/admin/models/m",
            b'{"base_path": "/m", "title": 1}',
            400,
            "no tensorflow.serving.ModelConfig in JSON",
        ),
        ("PUT", "/v1/admin/models/m", b'{"base_path": "/m", "name": "n"}', 400, "The path names model m, the body n"),
        ("PUT", "/v1/admin/models/m", b'{"base_path": "m"}', 400, "to have an absolute path or URI"),
        (
            "PUT",
            "/v1/admin/config",
            b'{"model_config_list": 1}',
            400,
            "no tensorflow.serving.ModelServerConfig in JSON",
        ),
        ("PUT", "/v1/admin/models/half/labels/x", b'{"version": true}', 400, 'Expected {"version": NUMBER}'),
        ("PUT", "/v1/admin/models/half/labels/x", b'{"version": -1}', 400, 'Expected {"version": NUMBER}'),
        ("DELETE", "/v1/admin/models/nope", b"", 404, "Model nope is not configured; there are ['half']"),
        ("DELETE", "/v1/admin/models/half/labels/nope", b"", 404, "has no label nope; it has ['stable']"),
        ("DELETE", "/v1/admin/models/half?revision=x", b"", 400, "A query parameter is no number"),
        ("DELETE", "/v1/admin/models/half?dry_run=perhaps", b"", 400, "dry_run: expected true or false"),
        ("DELETE", "/v1/admin/models/half?dryrun=true", b"", 400, "Unknown query parameters: ['dryrun']"),
        ("POST", "/v1/admin/models", b"", 404, "there are GET /v1/admin/models,"),
        ("GET", "/v1/models/half", b"", 404, "Nothing is answered to GET /v1/models/half"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_changes_nothing(admin, method, path, content, status, message):
    client = admin()
    answer = client.request(method, path, content=content)

    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert client.get("/v1/admin/models").json()["revision"] == 1


def test_who_does_not_know_the_token_is_told_nothing(admin, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    client = admin(token=BearerToken(tmp_path / "token", "admin_token_file"), metrics_path="/metrics")
    for path in ("/v1/admin/models", "/nowhere", "/metrics"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert "half" not in answer.text
    known = {"Authorization": "Bearer s3cret"}

    assert client.get("/v1/admin/models", headers=known).status_code == 200
    assert "slipway_in_flight" in client.get("/metrics", headers=known).text
    # A probe knows no secrets.
    assert client.get("/v1/health/live").status_code == 200


def test_a_web_page_cannot_manage_models(admin):
    """A page in a browser on this machine reaches the loopback port, too."""
    client = admin()
    answer = client.delete("/v1/admin/models/half", headers={"Origin": "http://evil.example"})

    assert answer.status_code == 403
    assert set(listed(client)) == {"half"}


def test_the_waiting_has_an_end_and_the_change_is_in_force(admin):
    client = admin()
    content = {"base_path": str(client.directory / "slow")}
    answer = client.put("/v1/admin/models/slow?timeout_s=0.05", json=content)

    assert answer.status_code == 504
    assert "not every model is available after 0.05 s" in answer.json()["error"]
    assert listed(client)["slow"]["serving_version"] is None
    assert client.delete("/v1/admin/models/slow?wait=false").json()["removed"] == ["slow"]
    assert client.put("/v1/admin/models/slow?wait=false", json=content).json()["added"] == ["slow"]
    client.gate.set()
