import pytest

from slipway_server.transports.known_heads import KnownHeads

HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"


@pytest.fixture
def heads():
    known = KnownHeads()
    known.remember(HEAD + b"abc", "POST", "/a", {b"host": b"x", b"content-length": b"3"}, 3)
    return known


def test_a_request_with_the_same_head_is_known(heads):
    found = heads.find(HEAD + b"xyz")

    assert (found.method, found.target, found.size, found.body_bytes) == ("POST", "/a", len(HEAD), 3)


@pytest.mark.parametrize(
    "data",
    [HEAD + b"ab", HEAD + b"abcd", HEAD, HEAD[:-1], HEAD.replace(b"/a", b"/b") + b"abc", b"", b"\r\n\r\n"],
    ids=["less", "more", "head only", "half a head", "another", "nothing", "no head"],
)
def test_whatever_is_not_just_that_is_left_to_the_parser(heads, data):
    assert heads.find(data) is None


@pytest.mark.parametrize("name", [b"transfer-encoding", b"expect", b"upgrade", b"x-request-id", b"traceparent"])
def test_what_needs_more_than_an_answer_is_not_remembered(name):
    heads = KnownHeads()
    heads.remember(HEAD + b"abc", "POST", "/a", {name: b"x"}, 3)

    assert heads.find(HEAD + b"abc") is None


def test_heads_take_bounded_memory():
    heads = KnownHeads()
    requests = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(5000)]
    for request in requests:
        heads.remember(request, "GET", "/", {}, 0)
    long = b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n"
    heads.remember(long, "GET", "/", {}, 0)

    assert sum(heads.find(request) is not None for request in requests) < 1000
    assert heads.find(long) is None
