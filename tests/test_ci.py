"""Files for the public's CI and containers: they parse, each command in them exists and is ours.

What .ci/run runs on one machine and the workflows run on many must not drift apart.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from test_docs import parse

from fo_cli.main import app

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OTHERS = [
    *sorted((ROOT / ".github").glob("*.yml")),
    *sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "compose.yaml",
    *sorted((ROOT / "deploy").glob("**/*.y*ml")),
]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.cuda"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
# Commands of the workflows that .ci/run has no use for: another system's package manager, container
# engines, and uv, which stands in for make where there is none (macOS, Windows).
ELSEWHERE = {"sudo", "docker", "uv", "uvx"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def commands(path: Path) -> list[list[str]]:
    """Every simple command of a workflow, in words."""
    lines: list[str] = []
    for job in load(path)["jobs"].values():
        for step in job["steps"]:
            lines += step.get("run", "").splitlines()
    return [shlex.split(part) for line in lines for part in re.split(r"&&|\|\|", line) if part]


def made_by_ci_run() -> set[str]:
    """The make targets that .ci/run reaches."""
    found = set(re.findall(r"^make --no-print-directory ([\w-]+)", _ci_run(), re.MULTILINE))
    while True:
        deeper = set(found)
        for target in found:
            rule = re.search(rf"^{target}:(.*)\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
            assert rule, target
            deeper |= set(rule[1].split()) & TARGETS
            deeper |= set(re.findall(r"\$\(MAKE\)[\w -]* ([\w-]+) \|\|", rule[2])) & TARGETS
        if deeper == found:
            return found
        found = deeper


def _ci_run() -> str:
    return (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", [*WORKFLOWS, *OTHERS], ids=lambda p: p.name)
def test_every_file_parses(path: Path) -> None:
    assert isinstance(load(path), dict)


def test_every_command_of_the_workflows_exists_and_is_run_here_too() -> None:
    ours, seen = made_by_ci_run(), set()
    for path in WORKFLOWS:
        for words in commands(path):
            seen.add(words[0])
            if words[0] == "make":
                target = words[1]
                assert target in TARGETS, f"{path.name}: make {target}"
                assert target in ours, f"{path.name}: make {target} is not run by .ci/run"
            else:
                assert words[0] in ELSEWHERE, f"{path.name}: {shlex.join(words)}"
            for word in words[1:]:
                if re.fullmatch(r"(tests|fo_\w+|recipes)/[\w/.]+", word):
                    assert (ROOT / word).exists(), f"{path.name}: {word}"
            if "fo" in words:
                parse(typer.main.get_command(app), "fo", words[words.index("fo") + 1 :])
    assert {"make", "uv", "docker"} <= seen
    assert {"check", "pytest", "test-cpus", "smoke", "clients"} <= ours


def test_extras_named_by_uv_exist() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for path in WORKFLOWS:
        for words in commands(path):
            for flag, extra in zip(words, words[1:], strict=False):
                if flag == "--extra":
                    assert re.search(rf"^{extra} = \[", text, re.MULTILINE), extra


def test_actions_are_pinned_and_only_one_job_may_publish() -> None:
    for path in WORKFLOWS:
        assert load(path)["permissions"] == {"contents": "read"}
        for name, job in load(path)["jobs"].items():
            assert job["timeout-minutes"] <= 60
            rights = job.get("permissions", {})
            assert rights == ({"id-token": "write"} if name == "publish" else {}), name
            for step in job["steps"]:
                assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"]), step
    assert "secrets." not in "".join(path.read_text() for path in WORKFLOWS)  # trusted publishing


def test_the_matrix_covers_the_pythons_that_the_package_names() -> None:
    named = set(re.findall(r'Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()))
    tests = load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    assert set(tests["strategy"]["matrix"]["python"]) == named == {"3.11", "3.12", "3.13"}


def test_hooks_call_the_linters_of_make_check() -> None:
    check = re.search(r"^check: setup\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    hooks = load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert check and programs == set(re.findall(r"\$\(BIN\)/([\w-]+)", check[1]))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_a_container_file_holds_what_it_should(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    steps = [line.split(" ", 1) for line in text.splitlines() if line and line[0].isupper()]
    final = steps[max(i for i, (word, _) in enumerate(steps) if word == "FROM") :]
    words = {word for word, _ in final}
    assert {"HEALTHCHECK", "USER", "EXPOSE", "ENTRYPOINT", "CMD", "STOPSIGNAL"} <= words
    (user,) = [rest for word, rest in final if word == "USER"]
    assert user.isdigit() and int(user) > 0  # not root; hosts may lack a name
    assert ":latest" not in text and sum(word == "FROM" for word, _ in steps) == 2
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from"):
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists() and f"!{name}" in allowed, name
        if word == "RUN":
            for part in rest.split("&&"):
                if part.split()[0] == "fo":
                    parse(typer.main.get_command(app), "fo", shlex.split(part)[1:])
    (cmd,) = [json.loads(rest) for word, rest in final if word == "CMD"]
    parse(typer.main.get_command(app), "fo", cmd)
    torch = re.search(r"torch==([\d.]+)", text)
    assert torch and f"torch=={torch[1]}\n" in (ROOT / "constraints.txt").read_text()


def test_compose_serves_with_a_key_behind_tls() -> None:
    whole = load(ROOT / "compose.yaml")
    server, proxy = whole["services"]["fo"], whole["services"]["proxy"]
    parse(
        typer.main.get_command(app),
        "fo",
        [w.replace("${FO_USERS:-8}", "8") for w in server["command"]],
    )
    assert ":?" in server["environment"]["FO_API_KEY"] and "ports" not in server
    assert proxy["depends_on"]["fo"]["condition"] == "service_healthy"
    for service in whole["services"].values():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        for volume in service["volumes"]:
            place = volume.split(":")[0]
            exists = (
                (ROOT / place).exists() if place.startswith("./") else place in whole["volumes"]
            )
            assert exists, volume
    caddy = (ROOT / "deploy" / "Caddyfile").read_text()
    for wanted in ("Strict-Transport-Security", "reverse_proxy fo:8000", "/healthz/live"):
        assert wanted in caddy
    more = load(ROOT / "deploy" / "compose.cuda.yaml")["services"]["fo"]
    assert (ROOT / more["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_volumes_of_the_server_lie_on_folders_that_its_user_may_write(path: Path) -> None:
    """A new named volume takes the owner of the image's folder; where there is none, root's."""
    final = path.read_text().split("\nFROM ")[-1]
    for volume in load(ROOT / "compose.yaml")["services"]["fo"]["volumes"]:
        place = re.escape(volume.split(":")[1])
        copied = re.search(rf"^COPY .*--chown=fo:fo \S+ {place}$", final, re.MULTILINE)
        made = re.search(rf"^RUN .*install -d -o fo -g fo {place}$", final, re.MULTILINE)
        assert copied or made, volume


def test_the_devcontainer_is_json_and_sets_up_by_make() -> None:
    found = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert found["postCreateCommand"].endswith("make setup") and "setup" in TARGETS
