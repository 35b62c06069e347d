import os
import time

from slipway_server import process_stats


def test_what_is_told_is_of_this_process():
    before = process_stats.read()
    with open(os.devnull):  # noqa: PTH123
        during = process_stats.read()
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass
    after = process_stats.read()

    assert set(after) == set(process_stats.DESCRIPTIONS)
    assert during["process_open_fds"] == before["process_open_fds"] + 1
    assert after["process_cpu_seconds_total"] > before["process_cpu_seconds_total"]
    assert 1e6 < after["process_resident_memory_bytes"] < after["process_virtual_memory_bytes"]
    assert after["process_start_time_seconds"] == before["process_start_time_seconds"] <= time.time() + 1
    assert after["process_threads"] >= 1
    assert after["process_max_fds"] > after["process_open_fds"]


def test_a_name_with_a_parenthesis_is_no_riddle(tmp_path):
    (tmp_path / "fd").mkdir()
    (tmp_path / "stat").write_text("7 (a) b) (c) S " + " ".join(str(number) for number in range(1, 60)))

    found = process_stats.read(tmp_path)

    assert found["process_threads"] == 17
    assert found["process_virtual_memory_bytes"] == 20


def test_a_system_that_tells_nothing_is_no_error(tmp_path):
    assert set(process_stats.read(tmp_path / "nowhere")) == {"process_max_fds"}
