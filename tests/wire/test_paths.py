import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_wire import messages, paths
from slipway_wire.paths import RestPath
from slipway_wire.status import InvalidArgument


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", "/v1/models/m:predict", RestPath("predict", "m")),
        ("POST", "/v1/models/m/versions/7:classify", RestPath("classify", "m", version=7)),
        ("POST", "/v1/models/m/labels/stable:regress", RestPath("regress", "m", label="stable")),
        ("POST", "/V1/Models/M:predict", RestPath("predict", "M")),
        ("POST", "/v1/models/a%2Fb%3Ac:predict", RestPath("predict", "a/b:c")),
        ("POST", "/v1/models/m/versions/007:predict", RestPath("predict", "m", version=7)),
        ("POST", "/v1/models/m/versions/9223372036854775807:predict", RestPath("predict", "m", version=2**63 - 1)),
        ("GET", "/v1/models/m", RestPath("status", "m")),
        ("GET", "/v1/models/m/versions/0", RestPath("status", "m", version=0)),
        ("GET", "/v1/models/m/labels/l", RestPath("status", "m", label="l")),
        ("GET", "/v1/models/m/metadata", RestPath("metadata", "m")),
        ("GET", "/v1/models/m/versions/1/metadata", RestPath("metadata", "m", version=1)),
        ("GET", "/v1/models/versions", RestPath("status", "versions")),
    ],
)
def test_a_path_of_the_api_is_understood(method, target, expected):
    assert paths.is_rest_path(target)
    assert paths.parse_rest(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/models/m:predict"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m/metadata"),
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:train"),
        ("POST", "/v1/models/m/version/1:predict"),
        ("POST", "/v1/models/m/versions/x:predict"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/1/labels/l:predict"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m:predict\n"),
        ("POST", "/v1/models/:predict"),
        ("PUT", "/v1/models/m:predict"),
        ("HEAD", "/v1/models/m"),
        ("DELETE", "/v1/models/m"),
        ("GET", "/v1/"),
    ],
)
def test_anything_else_is_a_malformed_request(method, target):
    assert paths.is_rest_path(target)
    with pytest.raises(InvalidArgument) as caught:
        paths.parse_rest(method, target)

    assert caught.value.message == f"Malformed request: {method} {target}"


@pytest.mark.parametrize("target", ["/", "/v1", "/v2/models/m", "/monitoring/prometheus/metrics", "", "x/v1/models/m"])
def test_what_lies_outside_is_not_ours_to_answer(target):
    assert not paths.is_rest_path(target)


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/versions/1"])
def test_a_path_without_a_model_says_so(target):
    with pytest.raises(InvalidArgument, match=r"^Missing model name in request\.$"):
        paths.parse_rest("GET", target)


@pytest.mark.parametrize("digits", ["9223372036854775808", "1" * 5000])
def test_a_version_that_is_no_int64_is_refused(digits):
    with pytest.raises(InvalidArgument) as caught:
        paths.parse_rest("POST", f"/v1/models/m/versions/{digits}:predict")

    assert caught.value.message == f"Failed to convert version: {digits} to numeric."


@given(
    st.text(min_size=1),
    st.sampled_from(["predict", "classify", "regress", "status", "metadata"]),
    st.none() | st.integers(0, 2**63 - 1),
    st.none() | st.text(min_size=1),
)
def test_a_path_we_write_is_read_as_it_was_meant(model, verb, version, label):
    if version is not None:
        label = None
    target = paths.rest_path(model, verb, version=version, label=label)
    method = "GET" if verb in ("status", "metadata") else "POST"

    assert paths.parse_rest(method, target) == RestPath(verb, model, version, label)


@given(st.sampled_from(["GET", "POST"]), st.text(alphabet=":/vV1modelslab%2Fpredict\n", max_size=60))
def test_any_target_gives_a_path_or_an_invalid_argument(method, rest):
    with contextlib.suppress(InvalidArgument):
        paths.parse_rest(method, f"/v1/models{rest}")


def test_grpc_methods_exist():
    for method in (
        paths.GRPC_PREDICT,
        paths.GRPC_CLASSIFY,
        paths.GRPC_REGRESS,
        paths.GRPC_MULTI_INFERENCE,
        paths.GRPC_GET_MODEL_METADATA,
        paths.GRPC_GET_MODEL_STATUS,
        paths.GRPC_RELOAD_CONFIG,
        paths.GRPC_HEALTH_CHECK,
        paths.GRPC_HEALTH_WATCH,
    ):
        _, service, name = method.split("/")
        assert name in messages.POOL.FindServiceByName(service).methods_by_name


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("00000123", 123),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("1_0", None),
        ("١", None),
        ("1.0", None),
        ("v1", None),
        ("tmp", None),
        (".DS_Store", None),
        ("", None),
    ],
)
def test_a_directory_is_a_version_if_its_whole_name_is_a_number(name, version):
    assert paths.directory_version(name) == version
