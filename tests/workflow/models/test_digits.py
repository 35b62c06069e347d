def split():
    from slipway.models import digits

    (images, labels), (held_out, known) = digits.split()
    return [(a.shape, a.dtype.name, float(a.min()), float(a.max())) for a in (images, labels, held_out, known)]


def parameters():
    from slipway.models import digits

    return digits.build().count_params()


def test_rows_are_split_in_the_order_of_the_writers(fresh):
    sides = fresh.test_function(split)

    assert sides == [
        ((1437, 8, 8, 1), "float32", 0, 1),
        ((1437,), "int64", 0, 9),
        ((360, 8, 8, 1), "float32", 0, 1),
        ((360,), "int64", 0, 9),
    ]


def test_the_network_is_small(fresh):
    assert fresh.test_function(parameters) == 85_066
