import argparse

import pytest

from slipway import targets
from slipway.errors import SettingsError
from slipway.targets import Target, parse


@pytest.mark.parametrize(
    ("word", "protocol", "found"),
    [
        ("models", None, [Target("rest", "models", 8501)]),
        ("models:80", None, [Target("rest", "models", 80)]),
        ("models", "grpc", [Target("grpc", "models", 8500)]),
        ("models", "both", [Target("rest", "models", 8501), Target("grpc", "models", 8500)]),
        ("models:9000", "both", [Target("rest", "models", 9000), Target("grpc", "models", 9000)]),
        ("[::1]:9000", "grpc", [Target("grpc", "::1", 9000)]),
        ("http://models", None, [Target("rest", "models", 8501)]),
        ("https://models/gate/", "rest", [Target("rest", "models", 443, tls=True, prefix="/gate")]),
        ("grpc://models:1", None, [Target("grpc", "models", 1)]),
        ("grpcs://models", None, [Target("grpc", "models", 443, tls=True)]),
    ],
)
def test_addresses_as_people_write_them(word, protocol, found):
    assert parse(word, protocol) == found
    assert [parse(str(target), None) for target in found] == [[target] for target in found]


@pytest.mark.parametrize(
    ("word", "protocol", "said"),
    [
        ("", None, "no address; expected HOST"),
        ("models:port", None, "expected HOST"),
        ("models:70000", None, "expected HOST"),
        ("..", None, r"\.\.: no name of a host"),
        ("grpcs://" + 70 * "a", None, "no name of a host: label"),
        ("two words:80", None, "it has blanks"),
        ("ftp://models", None, "unknown scheme ftp"),
        ("models/v1", None, "a path needs a scheme: http://models/v1"),
        ("grpc://models/v1", None, "gRPC has no path /v1"),
        ("http://models", "grpc", "is REST, but --protocol says grpc"),
        ("grpc://models", "both", "is gRPC, but --protocol says both"),
    ],
)
def test_anything_else_is_one_line(word, protocol, said):
    with pytest.raises(SettingsError, match=said) as refused:
        parse(word, protocol)

    assert len(str(refused.value).splitlines()) == 1


def connect(tmp_path, *words, token=None):
    parser = argparse.ArgumentParser()
    targets.add_arguments(parser)
    if token is not None:
        (tmp_path / "token").write_text(token)
        words = (*words, "--token-file", str(tmp_path / "token"))
    return targets.connect(Target("rest", "models", 1, tls=True), "m", parser.parse_args(words))


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(SettingsError, match=r"token: expected one word"):
        connect(tmp_path, token="two words")
    with pytest.raises(SettingsError, match=r"missing: cannot be read"):
        connect(tmp_path, "--token-file", str(tmp_path / "missing"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca\.pem: no certificates in PEM"):
        connect(tmp_path, "--ca-file", str(tmp_path / "ca.pem"))
    connect(tmp_path, token="secret\n").__exit__()
