import pytest

from slipway.contract.expressions import FUNCTIONS, Call, Name, names_in, needs_classes, parse

X = Name("x")
READ = {
    "x": X,
    " softmax( x ) ": Call("softmax", (X,), ()),
    "top_k_scores(softmax(x), 5)": Call("top_k_scores", (Call("softmax", (X,), ()),), (5,)),
    "lengths(x)": Call("lengths", (X,), (0,)),
    "lengths(x, 3)": Call("lengths", (X,), (3,)),
    "viterbi(x, t, lengths(ids))": Call("viterbi", (X, Name("t"), Call("lengths", (Name("ids"),), (0,))), ()),
}
REFUSED = {
    "": "expected a name or function(…), got ''",
    "x +": "expected a name or function(…), got 'x +'",
    "x + 1": "expected a name or function(…), got 'x + 1'",
    "x.y(z)": "expected a name or function(…), got 'x.y(z)'",
    "dense_1/Softmax:0": "expected a name or function(…), got 'dense_1/Softmax:0'",
    "softmax(x=1)": "expected a name or function(…), got 'softmax(x=1)'",
    "softmax(*x)": "expected a name or function(…), got '*x'",
    "softmax('x')": "expected a name or function(…), got \"'x'\"",
    "__import__(os)": "there is no function __import__; there are: softmax, ",
    "softmax()": "softmax is called as softmax(x), got softmax()",
    "softmax(x, y)": "softmax is called as softmax(x), got softmax(x, y)",
    "top_k_ids(x)": "top_k_ids is called as top_k_ids(x, k), got top_k_ids(x)",
    "top_k_ids(5, x)": "top_k_ids is called as top_k_ids(x, k), got top_k_ids(5, x)",
    "top_k_ids(x, 0)": "top_k_ids: expected a number from 1 on, got 0",
    "top_k_ids(x, True)": "top_k_ids is called as top_k_ids(x, k), got top_k_ids(x, True)",
    "lengths(x, 1, 2)": "lengths is called as lengths(ids) or lengths(ids, padding), got lengths(x, 1, 2)",
    "(" * 400: "expected a name or function(…), got ",
    "x" * 501: "an expression has at most 500 characters, got 501",
    "x\0": "expected a name or function(…), got ",
}


@pytest.mark.parametrize(("text", "expected"), READ.items(), ids=READ)
def test_expressions_are_trees(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(("text", "expected"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_is_no_expression_is_one_line(text, expected):
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse(text)

    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_names_are_found_at_any_depth():
    assert list(names_in(parse("viterbi(a, tile(b), lengths(c))"))) == ["a", "b", "c"]


def test_classes_are_needed_at_any_depth():
    assert needs_classes(parse("tile(lookup(x))"))
    assert not needs_classes(parse("softmax(x)"))


def test_every_function_says_how_it_is_called():
    assert all(function.usage.startswith(f"{name}(") for name, function in FUNCTIONS.items())
