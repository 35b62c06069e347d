import pytest

from slipway_server.bearer import BearerToken
from slipway_wire.status import InvalidArgument, Unauthenticated


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    return path


@pytest.mark.parametrize("sent", ["Bearer s3cret", "bearer s3cret", b"BEARER  s3cret "])
def test_the_token_lets_in(path, sent):
    BearerToken(path, "admin_token_file").check(sent)


@pytest.mark.parametrize(
    "sent", [None, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Basic s3cret", b"Bearer \xff"]
)
def test_nothing_else_does(path, sent):
    with pytest.raises(Unauthenticated, match="Authorization: Bearer TOKEN"):
        BearerToken(path, "admin_token_file").check(sent)


def test_a_token_can_be_exchanged_while_the_server_runs(path):
    token = BearerToken(path, "admin_token_file")
    new = path.with_name("new")
    new.write_text("other")
    new.replace(path)

    token.check("Bearer other")
    with pytest.raises(Unauthenticated):
        token.check("Bearer s3cret")


def test_a_file_that_vanishes_or_is_emptied_leaves_the_token_as_it_was(path):
    token = BearerToken(path, "admin_token_file")
    path.write_text("")
    token.check("Bearer s3cret")
    with pytest.raises(Unauthenticated):
        token.check("Bearer ")
    path.unlink()
    token.check("Bearer s3cret")


@pytest.mark.parametrize("content", ["", "\n", "two words", "ünicode"])
def test_a_file_without_a_token_is_told_at_start(path, content):
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=r"--admin_token_file=.*: expected one line"):
        BearerToken(path, "admin_token_file")
    with pytest.raises(InvalidArgument, match="No such file"):
        BearerToken(path.with_name("nowhere"), "admin_token_file")
