import json

from slipway_server.transports import model_list


def test_every_model_is_listed_with_what_serves_it(fakes):
    half, third = fakes.HalfPlusTwo(), fakes.HalfPlusTwo()
    serving, manager = fakes.make_serving(
        {("half", 1): half, ("half", 3): half, ("third", 10): third}, labels={"half": {"stable": 1, "none": 9}}
    )
    manager.aspire("third", {})

    answer = model_list.answer(serving)

    fine = {"error_code": "OK", "error_message": ""}
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "models": [
            {
                "name": "half",
                "serves": "3",
                "labels": {"none": "9", "stable": "1"},
                "versions": [
                    {"version": "3", "state": "AVAILABLE", "status": fine},
                    {"version": "1", "state": "AVAILABLE", "status": fine},
                ],
            },
            {
                "name": "third",
                "serves": None,
                "labels": {},
                "versions": [{"version": "10", "state": "END", "status": fine}],
            },
        ]
    }
