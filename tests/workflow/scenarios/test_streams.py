from slipway.scenarios.streams import interleaved


def test_every_step_comes_once_in_each_repetition_in_an_order_of_its_own():
    steps = list(range(6))
    found = interleaved(steps, 4, "seed")

    orders = [[step for index, step in found if index == wanted] for wanted in range(4)]
    assert all(sorted(order) == steps for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert found == interleaved(steps, 4, "seed")
