#!/usr/bin/env python3
"""
Put a summary on the pull request that this CI job is about: `deploy/comment.py results/comparison/summary.md [--link URL]`.

The comment is written once and replaced by every later run, which finds it by a hidden marker with --key in it. In GitHub
Actions it needs GITHUB_TOKEN with `pull-requests: write`; in GitLab CI a token with the scope `api` in GITLAB_TOKEN, for the
job's own may not write notes. Where that is not given (a fork's pull request has a token that can only read) it says so and
ends with 0: the summary is in the job's log and artifact as well. A summary that is not there is told in the comment, so that
none of an earlier commit stays and seems to be of this one. The standard library is all it needs.

Exit codes: 0 written, or not allowed, or no pull request; 1 the forge does not answer, or answers with a fault.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# GitHub takes 65,536 characters.
MOST_CHARACTERS = 60_000
_PER_PAGE = 100
# GitHub takes 2,500 comments on a pull request; GitLab 5,000.
_MOST_PAGES = 50
_TIMEOUT_S = 30.0
_TRIES = 3
_PAUSE_S = 2.0
_GITHUB_REMEDY = "The job needs `permissions: {pull-requests: write}`, which a pull request from a fork never gets."
_GITLAB_REMEDY = (
    "The masked variable GITLAB_TOKEN must hold a project access token with the scope `api` and the role Reporter."
)


class Refused(Exception):
    """The token may not do it."""


class Fault(Exception):
    """The forge cannot be talked to."""


@dataclass(frozen=True, slots=True)
class Forge:
    """
    Where comments of one pull request are, and how to write there.

    Attributes:
        name: For what is told.
        comments: URL of all comments: GET lists them by page, POST makes one.
        one: URL of one comment, with {id} in it.
        method: HTTP method that replaces a comment's text.
        headers: With the token.
        is_ours: Says of a comment whether this job's account wrote it: nobody else's is ever replaced.
        commit: That is judged.
        run: Page of this job.
    """

    name: str
    comments: str
    one: str
    method: str
    headers: Mapping[str, str]
    is_ours: Callable[[Mapping[str, Any]], bool]
    commit: str
    run: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def call(forge: Forge, method: str, url: str, content: Mapping[str, Any] | None = None) -> Any:
    """
    Make one call; reading is tried again if the forge falters.

    Raises:
        Refused: 401, 403 or 404, which forges also say of what a token may not see.
        Fault: Anything else.
    """
    data = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "slipway", **forge.headers}
    # Each URL was made of the CI's own variables.
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
    for attempt in range(1, _TRIES + 1):
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            told = f"{method} {url}: {error.code} {_message(error)}".rstrip()
            if error.code in {401, 403, 404}:
                raise Refused(told) from error
            if error.code < 500:
                raise Fault(told) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            told = f"{method} {url}: {getattr(error, 'reason', error)}"
        # What writes is not sent twice: it may have been done.
        if method == "POST" or attempt == _TRIES:
            break
        time.sleep(_PAUSE_S * attempt)
    raise Fault(told)


def _message(error: urllib.error.HTTPError) -> str:
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(json.loads(error.read())["message"])
    return ""


def find(forge: Forge, marker: str) -> Any:
    """Give the id of our own first comment that begins with *marker*; None if there is none."""
    for page in range(1, _MOST_PAGES + 1):
        listed = call(forge, "GET", f"{forge.comments}?per_page={_PER_PAGE}&page={page}")
        if not isinstance(listed, list):
            raise Fault(f"GET {forge.comments}: expected a list of comments")
        for comment in listed:
            if str(comment.get("body", "")).startswith(marker) and forge.is_ours(comment):
                return comment["id"]
        if len(listed) < _PER_PAGE:
            return None
    return None


def write(forge: Forge, marker: str, body: str) -> str:
    """Replace our comment that begins with *marker*, or make one; say which."""
    found = find(forge, marker)
    if found is not None:
        call(forge, forge.method, forge.one.format(id=found), {"body": body})
        return f"Replaced the comment on {forge.name}."
    call(forge, "POST", forge.comments, {"body": body})
    return f"Wrote a comment on {forge.name}."


def text(marker: str, summary: str | None, forge: Forge, link: str) -> str:
    """Make the comment's text of a *summary*, or of the lack of one."""
    if summary is None:
        summary = "### ⚠️ Nothing was compared\nThe job ended before there was a result: its log says why.\n"
    if len(summary) > MOST_CHARACTERS:
        summary = summary[:MOST_CHARACTERS].rpartition("\n")[0] + "\n\n*The rest is in the artifact.*\n"
    places = [f"commit {forge.commit[:12]}" if forge.commit else ""]
    places += [f"[{name}]({url})" for name, url in (("the page and every window", link), ("the job", forge.run)) if url]
    return f"{marker}\n{summary.rstrip()}\n\n<sub>{' · '.join(place for place in places if place)}</sub>\n"


def _need(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise Fault(f"{name} is not set: CI sets it")
    return environment[name]


def github(environment: Mapping[str, str], author: str) -> Forge | None:
    """Read from the variables of GitHub Actions where to write; None if this is no pull request."""
    path = environment.get("GITHUB_EVENT_PATH", "")
    event = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    pull = event.get("pull_request") or {}
    if "number" not in pull:
        return None
    name = _need(environment, "GITHUB_REPOSITORY")
    repository = f"{_need(environment, 'GITHUB_API_URL')}/repos/{name}"
    run = environment.get("GITHUB_RUN_ID", "")
    server = f"{environment.get('GITHUB_SERVER_URL', '')}/{name}"
    return Forge(
        name=f"pull request {pull['number']}",
        comments=f"{repository}/issues/{pull['number']}/comments",
        one=f"{repository}/issues/comments/{{id}}",
        method="PATCH",
        headers={
            "Authorization": f"Bearer {environment.get('GITHUB_TOKEN', '')}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        is_ours=lambda comment: (comment.get("user") or {}).get("login") == author,
        commit=(pull.get("head") or {}).get("sha", ""),
        run=f"{server}/actions/runs/{run}" if run else "",
    )


def gitlab(environment: Mapping[str, str]) -> Forge | None:
    """Read from the variables of GitLab CI where to write; None if this is no merge request."""
    number = environment.get("CI_MERGE_REQUEST_IID")
    if not number:
        return None
    api, project = _need(environment, "CI_API_V4_URL"), _need(environment, "CI_PROJECT_ID")
    notes = f"{api}/projects/{project}/merge_requests/{number}/notes"
    forge = Forge(
        name=f"merge request {number}",
        comments=notes,
        one=f"{notes}/{{id}}",
        method="PUT",
        headers={"PRIVATE-TOKEN": environment.get("GITLAB_TOKEN", "")},
        is_ours=lambda _: False,
        commit=environment.get("CI_COMMIT_SHA", ""),
        run=environment.get("CI_JOB_URL", ""),
    )
    if not environment.get("GITLAB_TOKEN"):
        raise Refused("GITLAB_TOKEN is not set")
    me = call(forge, "GET", f"{api}/user").get("id")
    return replace(forge, is_ours=lambda note: (note.get("author") or {}).get("id") == me)


def main(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Write the comment; say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path, help="Markdown")
    parser.add_argument("--key", default="comparison", help="which of our comments on a pull request it is")
    parser.add_argument("--link", default="", help="URL of the artifact")
    parser.add_argument(
        "--author", default="github-actions[bot]", help="GitHub: login of the token's account; default: the job's own"
    )
    arguments = parser.parse_args(words)
    notice = "::notice title=slipway::" if environment.get("GITHUB_ACTIONS") == "true" else ""
    marker = f"<!-- slipway:{''.join(c if c.isalnum() else '-' for c in arguments.key)} -->"
    summary = arguments.summary.read_text(encoding="utf-8") if arguments.summary.is_file() else None
    is_gitlab = environment.get("GITLAB_CI") == "true"
    try:
        forge = gitlab(environment) if is_gitlab else github(environment, arguments.author)
        if forge is None:
            sys.stdout.write("This run is about no pull request: there is nothing to comment on.\n")
            return 0
        sys.stdout.write(write(forge, marker, text(marker, summary, forge, arguments.link)) + "\n")
    except Refused as error:
        remedy = _GITLAB_REMEDY if is_gitlab else _GITHUB_REMEDY
        sys.stdout.write(f"{notice}No comment, the summary is with the job alone: {error}. {remedy}\n")
    except Fault as error:
        sys.stderr.write(f"deploy/comment.py: error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
