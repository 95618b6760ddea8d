"""What the documents promise is there: commands parse, make targets exist, imports go one way."""

import ast
import contextlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer.main
from typer.core import TyperGroup

from fo_cli.main import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("fo_cli", "fo_core", "data_prep", "eval")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_lines(page):
    """Lines of the shell blocks of a page, continued lines joined, comments cut."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line and not line.startswith("#"):
                yield shlex.join(shlex.split(line, comments=True))


def commands(word):
    found = [line for page in PAGES for line in code_lines(page)]
    return sorted({line for line in found if line.startswith(word + " ")})


def parse(command, name, args):
    """Parse all the way down to the last sub-command without running any; fails on usage errors."""
    with contextlib.suppress(typer.Exit):
        context = command.make_context(name, list(args))
        if isinstance(command, TyperGroup):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                return
            name, below, rest = command.resolve_command(context, rest)
            parse(below, name, rest)


@pytest.mark.parametrize("line", commands("fo"))
def test_every_fo_line_parses(line):
    words = shlex.split(line.split(" | ")[0].split(" > ")[0])
    parse(typer.main.get_command(app), "fo", words[1:])


def test_a_wrong_line_would_be_caught():
    with pytest.raises(Exception, match="No such command"):
        parse(typer.main.get_command(app), "fo", ["dance"])
    with pytest.raises(Exception, match="No such option"):
        parse(typer.main.get_command(app), "fo", ["prepare-data", "all", "--oops"])


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^|\n)make ([a-z][\w-]*)", text))
    assert {"demo", "test", "setup", "check"} <= named
    assert named <= targets


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for name in typer.main.get_command(app).commands:
        assert f"fo {name}" in readme


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_what_a_page_outside_the_site_links_to_is_there(name):
    """Links within the site are checked by its strict build."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert name == "CONTRIBUTING.md" or len(links) > 20


def test_help_is_light():
    """`fo --help` must not wait for torch, lhotse or anything else that is heavy."""
    code = (
        "import sys; from typer.testing import CliRunner; from fo_cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'lhotse', 'transformers', 'numpy', 'matplotlib', 'pydantic'}\n"
        "found = heavy & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_files_are_one_idea():
    long = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            lines = len(file.read_text().splitlines())
            if lines > 400 or file.name == "utils.py":
                long[str(file.relative_to(ROOT))] = lines
    assert not long


def messages():
    """Every text in the code, what is filled in as an ellipsis."""

    def text(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(text(value) for value in node.values)
        return "…"

    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant | ast.JoinedStr):
                    found.add(text(node))
    return "\n".join(found)


def test_every_error_of_the_troubleshooting_page_is_one_of_the_program():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    lines = [line for cell in cells for line in re.findall(r"`([^`]+ [^`]+)`", cell)]
    code, missing = messages(), []
    for line in lines:
        parts = [part.strip(" '") for part in line.split("…")]
        if not re.search(".*".join(map(re.escape, parts)), code):
            missing.append(line)
    assert len(lines) > 50 and not missing


def leaves(command, name):
    """Every command that does something, with its whole name."""
    if not isinstance(command, TyperGroup):
        return {name: command}
    below = command.commands.items()
    return {k: v for word, each in below for k, v in leaves(each, f"{name} {word}").items()}


def test_the_command_reference_has_every_command_and_option():
    spec = importlib.util.spec_from_file_location("hook", ROOT / "docs/hooks/cli_reference.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    sections = dict(re.findall(r"^#+ (fo .*)\n((?:(?!^#).*\n)*)", hook.reference(), re.MULTILINE))
    found = leaves(typer.main.get_command(app), "fo")
    assert len(found) > 30 and set(found) <= set(sections)
    for name, command in found.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(f"`{flag}`" in sections[name] for flag in parameter.opts), name


def test_the_picture_names_what_is_in_the_code():
    text = (ROOT / "docs/images/architecture.svg").read_text()
    drawn = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    names = [each.text for each in drawn if each.get("class") == "code"]
    code = "".join(file.read_text() for file in (ROOT / "fo_core/dialogue").rglob("*.py"))
    assert len(names) >= 4 and all(re.search(rf"^class {n}\b", code, re.MULTILINE) for n in names)


def test_the_files_that_the_pages_name_are_there():
    named = {f for page in PAGES for f in re.findall(r"`([\w/]+/\w+\.py)`", page.read_text())}
    missing = [f for f in named if not re.search("[A-Z]{3}|^runs/", f) and not (
        (ROOT / f).is_file() or (ROOT / "fo_core" / f).is_file())]  # fmt: skip
    assert len(named) > 20 and missing == []


def test_the_voice_and_the_set_of_the_extending_page_work(tmp_path):
    text = (ROOT / "docs/extending.md").read_text()
    voice, questions = ({} for _ in range(2))
    for block, names in zip(
        re.findall(r"```python\n(.*?)```", text, re.DOTALL), (voice, questions), strict=True
    ):
        exec(compile(block, "extending.md", "exec"), names)
    engine = voice["Engine"]()
    sound = engine.synthesize("hello", engine.voices("en")[0])
    assert sound.dtype == "float32" and 0.1 < abs(sound).max() < 1 and len(sound) == 5 * 1280
    file = tmp_path / "my_questions_1.json"
    file.write_text('[{"question": "Who?", "answers": ["me"], "wav": "a.wav"}]')
    (found,) = questions["read"](file)
    assert (found.text, list(found.answers)) == ("Who?", ["me"])


def test_every_renamed_setting_is_in_the_changelogs_table() -> None:
    from fo_core.config import RENAMED

    rows = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if "|" in line]
    for old, new in RENAMED.items():
        assert any(re.search(rf"\b{old}\b.*\|.*\b{new}\b", row) for row in rows), old
