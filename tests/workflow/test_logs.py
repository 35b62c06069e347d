import os

from slipway.logs import errors_since


def test_only_error_lines_of_this_run_are_gathered_oldest_first(tmp_path):
    for name, time, text in [
        ("old.log", 10, "slipway export: error: long ago\n"),
        ("b/later.log", 30, "noise\nslipway launch: error: no engine\nTraceback\nslipway launch: error: no engine\n"),
        ("a/first.log", 20, "slipway image: error: disk full\n"),
        ("a/fine.log", 40, "all is well\n"),
    ]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (time, time))

    assert errors_since(tmp_path, since=15) == [
        f"slipway image: error: disk full  [{tmp_path / 'a/first.log'}]",
        f"slipway launch: error: no engine  [{tmp_path / 'b/later.log'}]",
    ]
