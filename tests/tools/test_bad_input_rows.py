"""What the manual says of each thing that can be wrong is shown by tests: this is which."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH, BENCHMARK = "tests/workflow/test_bench.py", "tests/workflow/test_benchmark.py"
SPOKEN, LOADS = "tests/workflow/bench/test_spoken.py", "tests/loadtests/test_main.py"
SESSION, SUBJECTS, STORED, IMAGES, METRICS, PLAN = (
    f"tests/workflow/compare/test_{name}.py" for name in ("session", "subjects", "stored", "images", "metrics", "plan")
)
CLI = "tests/workflow/test_cli.py"
RECORDS, UNFINISHED = "tests/workflow/test_records.py", "tests/workflow/report/test_unfinished.py"

# The first words of the row -> where it is shown.
SHOWN = {
    "the target is down": [
        (SPOKEN, "test_what_is_no_model_server_is_told_by_what_it_says"),
        (LOADS, "test_a_server_that_is_not_there_is_an_error_not_a_crash"),
    ],
    "no such model": [(BENCH, "test_wrong_names_are_told_with_what_there_is")],
    "TLS on a port without it": [
        (SPOKEN, "test_plain_where_tls_is_meant_and_tls_where_it_is_not_are_one_line_each"),
        (SPOKEN, "test_certificates_that_are_not_believed_say_what_to_name"),
    ],
    "wrong from the first answer on": [(BENCH, "test_what_is_bad_from_the_start_is_told_before_any_load")],
    "a wrong answer": [
        (BENCH, "test_a_server_that_turns_bad_under_load_leaves_a_partial_report"),
        (BENCHMARK, "test_wrong_answers_under_load_fail_the_stage_as_a_broken_contract"),
        (UNFINISHED, "test_wrong_answers_are_told_before_that_it_was_cut_short"),
        (SESSION, "test_a_wrong_answer_ends_it_and_what_there_is_is_kept"),
        ("tests/loadtests/test_answers.py", "test_an_error_in_the_place_of_an_answer_is_told_in_one_line"),
    ],
    "half an answer": [
        (BENCH, "test_a_server_that_turns_bad_under_load_leaves_a_partial_report"),
        (BENCHMARK, "test_failed_requests_under_load_fail_the_stage"),
    ],
    "the server dies in mid-window": [
        (BENCH, "test_a_server_that_turns_bad_under_load_leaves_a_partial_report"),
        (BENCHMARK, "test_a_server_that_dies_under_load_is_told_with_its_last_words"),
        (SESSION, "test_a_server_that_dies_cuts_it_short_and_what_there_is_is_kept"),
    ],
    "it is stopped": [
        (BENCHMARK, "test_a_benchmark_that_is_stopped_keeps_what_it_measured_until_then"),
        (UNFINISHED, "test_a_benchmark_that_was_cut_short_has_a_report_that_says_so"),
        (SESSION, "test_one_that_is_stopped_keeps_what_there_is_and_leaves_no_server"),
    ],
    "slower than the schedule": [
        (BENCH, "test_a_server_slower_than_the_schedule_is_an_invalid_measurement"),
        (METRICS, "test_a_head_that_falls_behind_a_rate_that_base_keeps_is_worse_and_no_excuse"),
    ],
    "a result that is cut off": [(STORED, "test_a_result_that_cannot_be_read_is_one_line")],
    "a result of a newer Slipway": [
        (STORED, "test_a_result_that_cannot_be_read_is_one_line"),
        (RECORDS, "test_a_result_that_cannot_be_read_says_in_a_line_whether_it_is_newer"),
    ],
    "a result of a run that was cut short": [
        (STORED, "test_results_of_another_machine_settings_or_model_are_refused_with_the_fact_and_both_values")
    ],
    "results of other machines": [
        (STORED, "test_results_of_another_machine_settings_or_model_are_refused_with_the_fact_and_both_values")
    ],
    "base and head of another model": [
        (SUBJECTS, "test_both_sides_must_be_asked_the_same"),
        (IMAGES, "test_an_image_of_something_else_is_refused_with_both_values"),
    ],
    "a base that was not built": [
        (SUBJECTS, "test_a_project_whose_image_was_not_made_says_how_to_make_it"),
        (SUBJECTS, "test_a_revision_with_other_packages_is_not_built_with_these"),
    ],
    "an option of `compare` that cannot be": [
        (PLAN, "test_every_option_that_cannot_be_is_told_at_once"),
        (CLI, "test_an_option_that_cannot_be_is_told_before_anything_is_built"),
    ],
    "a fault of Slipway itself": [
        (CLI, "test_a_bug_keeps_its_traceback_and_never_reads_like_something_that_got_worse"),
        (SESSION, "test_a_bug_leaves_its_traceback_and_what_was_measured"),
    ],
    "a result measured with uncommitted changes": [(SUBJECTS, "test_a_result_that_cannot_be_made_again_says_why")],
}


def rows():
    manual = (ROOT / "docs/benchmarking.md").read_text()
    _, _, section = manual.partition("## When something is wrong\n")
    return re.findall(r"^\| (?!what |---)(.*?) \| ", section.partition("\n## ")[0], re.MULTILINE)


def test_every_row_of_the_manual_is_shown_and_nothing_else():
    unshown = [row for row in rows() if not any(row.startswith(words) for words in SHOWN)]
    assert unshown == []
    assert len(rows()) == len(SHOWN)


@pytest.mark.parametrize("words", SHOWN)
def test_what_shows_it_is_there(words):
    for path, name in SHOWN[words]:
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path} has no {name}"
