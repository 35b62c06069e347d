"""Versions of a running slipway_server leave and come back; commands that fail are told."""

import shutil
import sys
from pathlib import Path

import pytest
from tests.dropin import processes

from slipway import servers
from slipway.errors import ServerError
from slipway.scenarios.reload import CommandReload, VersionsReload
from slipway_wire import messages, text_config

VERSIONS = Path(__file__).parents[2] / "testdata/saved_model_half_plus_two_2_versions"


def test_other_versions_are_unloaded_and_loaded_again(tmp_path):
    shutil.copytree(VERSIONS, tmp_path / "m")
    text = (
        'model_config_list { config { name: "m" base_path: "PLACE" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "old" value: 123 } } }'
    ).replace("PLACE", str(tmp_path / "m"))
    (tmp_path / "models.config").write_text(text)
    server = processes.Server(
        tmp_path / "server",
        f"--model_config_file={tmp_path}/models.config",
        "--allow_version_labels_for_unavailable_models",
    )
    try:
        server.wait_until_ready()
        host, rest_port = servers.HOST, server.rest_port
        change = VersionsReload(
            host=host,
            rest_port=rest_port,
            grpc_port=server.grpc_port,
            model="m",
            version=124,
            others=(123,),
            config=text_config.parse(messages.ModelServerConfig, text.encode()),
        )
        change.change()
        assert {v: s[:9] for v, s in servers.version_states(host, rest_port, "m").items()} == {
            123: "END",
            124: "AVAILABLE",
        }
        change.back()
        assert servers.version_states(host, rest_port, "m") == {123: "AVAILABLE", 124: "AVAILABLE"}
        # A command of somebody's own has changed something once the server says so.
        copy = f"import shutil; shutil.copytree('{VERSIONS}/00000124', '{tmp_path}/m/125')"
        CommandReload(f'{sys.executable} -c "{copy}"', (host, rest_port), "m").change()
        assert servers.version_states(host, rest_port, "m")[125] == "AVAILABLE"
    finally:
        server.close()


def test_a_command_that_fails_is_told_with_its_last_line():
    CommandReload(f"{sys.executable} -c pass").change()
    with pytest.raises(ServerError, match=r"^--reload-command: exit code 3: no such version$"):
        CommandReload(
            f"""{sys.executable} -c "import sys; sys.stderr.write('x\\nno such version\\n'); sys.exit(3)" """
        ).change()
    with pytest.raises(ServerError, match=r"^--reload-command: .*No such file"):
        CommandReload("/nowhere/at/all").change()
