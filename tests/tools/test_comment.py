"""The comment on a pull request, with a forge of real sockets that knows no more than the calls that are made."""

import http.server
import importlib.util
import json
import re
import threading
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "comment.py"
SPEC = importlib.util.spec_from_file_location("deploy_comment", SCRIPT)
comment = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(comment)

BOT, SOMEBODY = {"login": "github-actions[bot]", "id": 7}, {"login": "somebody", "id": 8}
MARKER = "<!-- slipway:comparison -->"


class Forge(http.server.ThreadingHTTPServer):
    """Comments of one pull request, as GitHub and GitLab keep them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments, self.calls, self.tokens = [], [], set()
        # Method -> what is answered instead, the last one for ever.
        self.refusals = {}
        # How many bytes each refusal lacks, for the connection is lost in its middle.
        self.lost = 0

    def add(self, body, author=BOT):
        self.comments.append({"id": 100 + len(self.comments), "body": body, "user": author, "author": author})
        return self.comments[-1]


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code, content, **headers):
        body = json.dumps(content).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + (self.server.lost if code >= 400 else 0)))
        self.end_headers()
        self.wfile.write(body)

    def handle_call(self):
        forge, sent = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        forge.calls.append(f"{self.command} {self.path}")
        forge.tokens.add(self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN"))
        if refusals := forge.refusals.get(self.command):
            code = refusals.pop(0) if len(refusals) > 1 else refusals[0]
            where = {"Location": f"http://127.0.0.1:{forge.server_address[1]}/elsewhere"} if code == 302 else {}
            if code:
                return self.answer(code, {"message": "Resource not accessible by integration"}, **where)
        if self.path == "/api/user":
            return self.answer(200, BOT)
        if self.command == "GET":
            assert re.fullmatch(
                r"/api/(repos/o/r/issues/41/comments|projects/5/merge_requests/41/notes)\?.*", self.path
            )
            size, page = map(int, re.search(r"per_page=(\d+)&page=(\d+)", self.path).groups())
            return self.answer(200, forge.comments[(page - 1) * size : page * size])
        body = json.loads(sent)["body"]
        if self.command == "POST":
            return self.answer(201, forge.add(body))
        assert re.fullmatch(r"/api/(repos/o/r/issues/comments|projects/5/merge_requests/41/notes)/\d+", self.path)
        [found] = [one for one in forge.comments if self.path.endswith(f"/{one['id']}")]
        found["body"] = body
        return self.answer(200, found)

    do_GET = do_POST = do_PATCH = do_PUT = handle_call  # noqa: N815 - the base class names them so

    def log_message(self, *_):
        pass


@pytest.fixture
def forge():
    with Forge() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def github(forge, tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 41, "head": {"sha": "9f3c2ab" + "0" * 33}}}))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": f"http://127.0.0.1:{forge.server_address[1]}/api",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "77",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_TOKEN": "secret",
    }


@pytest.fixture
def gitlab(forge):
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"http://127.0.0.1:{forge.server_address[1]}/api",
        "CI_PROJECT_ID": "5",
        "CI_MERGE_REQUEST_IID": "41",
        "CI_COMMIT_SHA": "9f3c2ab" + "0" * 33,
        "CI_JOB_URL": "https://gitlab.example/o/r/-/jobs/77",
        "GITLAB_TOKEN": "secret",
    }


@pytest.fixture
def summary(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("### ❌ FAIL: digits\n- worse\n\n| metric | base |\n|---|--:|\n| p99 | 1 ms |\n")
    return path


@pytest.mark.parametrize(("which", "method"), [("github", "PATCH"), ("gitlab", "PUT")])
def test_it_is_written_once_and_then_replaced(which, method, forge, summary, request, capsys):
    environment = request.getfixturevalue(which)
    forge.add("Looks good")

    assert comment.main([str(summary), "--link", "https://forge.example/artifact"], environment) == 0
    summary.write_text("### ✅ PASS: digits\n")
    assert comment.main([str(summary)], environment) == 0

    assert [call.partition(" ")[0] for call in forge.calls if "user" not in call] == ["GET", "POST", "GET", method]
    assert len(forge.comments) == 2
    assert forge.comments[1]["body"].startswith(
        f"{MARKER}\n### ✅ PASS: digits\n\n<sub>commit 9f3c2ab00000 · [the job]("
    )
    assert forge.tokens <= {"Bearer secret", "secret"}
    told = capsys.readouterr().out
    assert told.splitlines() == [f"{what} request 41." for what in written(which)]


def written(which):
    kind = {"github": "pull", "gitlab": "merge"}[which]
    return [f"Wrote a comment on {kind}", f"Replaced the comment on {kind}"]


def test_it_begins_with_the_verdict_and_links_the_artifact_and_the_job(forge, github, summary):
    comment.main([str(summary), "--link", "https://forge.example/artifact"], github)

    lines = forge.comments[0]["body"].splitlines()
    assert lines[:3] == [MARKER, "### ❌ FAIL: digits", "- worse"]
    assert "[the page and every window](https://forge.example/artifact)" in lines[-1]
    assert "[the job](https://github.example/o/r/actions/runs/77)" in lines[-1]


def test_ours_is_found_on_a_later_page_and_nobody_elses_is_touched(forge, github, summary):
    """Anybody may paste our marker."""
    theirs = forge.add(f"{MARKER} is what it begins with", SOMEBODY)["body"]
    for number in range(120):
        forge.add(f"{number}", SOMEBODY)
    ours = forge.add(f"{MARKER}\nof an earlier commit")

    comment.main([str(summary)], github)

    assert [call for call in forge.calls if "GET" not in call] == [f"PATCH /api/repos/o/r/issues/comments/{ours['id']}"]
    assert "FAIL" in ours["body"]
    assert forge.comments[0]["body"] == theirs


def test_two_comparisons_on_one_pull_request_have_a_comment_each(forge, github, summary):
    for key in ("digits", "ads --> x", "digits"):
        comment.main([str(summary), "--key", key], github)

    assert [one["body"].splitlines()[0] for one in forge.comments] == [
        "<!-- slipway:digits -->",
        "<!-- slipway:ads-----x -->",
    ]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_token_that_may_not_write_is_told_in_a_line_and_fails_nothing(method, code, forge, github, summary, capsys):
    forge.refusals[method] = [code]

    assert comment.main([str(summary)], github) == 0

    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("::notice title=slipway::No comment, the summary is with the job alone: ")
    assert f": {code} Resource not accessible by integration. The job needs `permissions: {{pull-requests" in line
    assert "a pull request from a fork never gets" in line
    assert "secret" not in line


def test_gitlab_without_a_token_says_which_one_it_needs(forge, gitlab, summary, capsys):
    assert comment.main([str(summary)], gitlab | {"GITLAB_TOKEN": ""}) == 0

    assert (
        "GITLAB_TOKEN is not set. The masked variable GITLAB_TOKEN must hold a project access"
        in capsys.readouterr().out
    )
    assert not forge.calls


def test_what_falters_is_asked_again_but_nothing_is_written_twice(forge, github, summary, capsys, monkeypatch):
    monkeypatch.setattr(comment, "_PAUSE_S", 0.0)
    forge.refusals["GET"] = [502, 503, 0]
    assert comment.main([str(summary)], github) == 0
    assert len(forge.comments) == 1

    forge.comments.clear()
    forge.refusals["POST"] = [502]
    assert comment.main([str(summary)], github) == 1
    assert [call.partition(" ")[0] for call in forge.calls].count("POST") == 2
    assert "deploy/comment.py: error: POST http://" in capsys.readouterr().err


def test_a_refusal_that_is_cut_off_is_a_refusal(forge, github, summary, capsys):
    forge.lost, forge.refusals["GET"] = 10, [403]

    assert comment.main([str(summary)], github) == 0
    assert ": 403. The job needs" in capsys.readouterr().out


def test_a_redirect_does_not_get_the_token(forge, github, summary, capsys):
    forge.refusals["GET"] = [302]

    assert comment.main([str(summary)], github) == 1
    assert not [call for call in forge.calls if "elsewhere" in call]
    assert ": 302" in capsys.readouterr().err


def test_a_forge_that_is_not_there_is_a_fault(github, summary, capsys, monkeypatch):
    monkeypatch.setattr(comment, "_PAUSE_S", 0.0)

    assert comment.main([str(summary)], github | {"GITHUB_API_URL": "http://127.0.0.1:1"}) == 1
    assert "Connection refused" in capsys.readouterr().err


def test_a_push_has_nothing_to_comment_on(forge, github, gitlab, summary, tmp_path, capsys):
    (tmp_path / "event.json").write_text(json.dumps({"ref": "refs/heads/main"}))

    assert comment.main([str(summary)], github) == 0
    assert comment.main([str(summary)], gitlab | {"CI_MERGE_REQUEST_IID": ""}) == 0
    assert comment.main([str(summary)], {}) == 0
    assert capsys.readouterr().out.count("about no pull request") == 3
    assert not forge.calls


def test_without_a_summary_the_comment_of_an_earlier_commit_does_not_stay(forge, github, tmp_path):
    ours = forge.add(f"{MARKER}\n### ✅ PASS: digits")

    assert comment.main([str(tmp_path / "none.md")], github) == 0
    assert "PASS" not in ours["body"]
    assert "Nothing was compared" in ours["body"]


def test_what_is_too_long_for_a_comment_ends_at_a_line(forge, github, summary):
    summary.write_text("### ❔\n" + "| a row of a table |\n" * 5000)

    comment.main([str(summary)], github)
    body = forge.comments[0]["body"]
    assert len(body) < 65_536
    assert "| a row of a table |\n\n*The rest is in the artifact.*\n" in body
