"""Install a wheel as a user does, outside of the checkout, and talk: ``python smoke.py DIST``.

One command installs it into an environment of its own (pip, or uv), one answers the question that
ships. The cache is empty, so the embedded LLM is fetched, too. No other step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TALK = ["fo", "chat", "file", "example", "--json"]


def run(command: list[str], env: dict[str, str], folder: Path) -> str:
    begun = time.monotonic()
    done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True)
    said = " ".join(Path(word).name if os.sep in word else word for word in command)
    sys.stdout.write(f"{time.monotonic() - begun:5.0f} s  {said}\n")
    if done.returncode:
        sys.exit(f"exit status {done.returncode}: {said}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dist", type=Path, help="folder with one wheel")
    parser.add_argument("--with", dest="tool", choices=("pip", "uv"), default="pip")
    given = parser.parse_args()
    (wheel,) = given.dist.resolve().glob("*.whl")
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    constraints = str(ROOT / "constraints.txt")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        env = keep | {"FO_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        if given.tool == "uv":
            if links := env.get("PIP_FIND_LINKS"):
                env.setdefault("UV_FIND_LINKS", links)
            how = ["--python", sys.executable, "--constraints", constraints, "--from", str(wheel)]
            said = run(["uvx", *how, *TALK], env, folder)
        else:
            venv.create(folder / "env", with_pip=True)
            programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
            pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--quiet"]
            run([*pip, "--constraint", constraints, str(wheel)], env, folder)
            said = run([str(programs / TALK[0]), *TALK[1:]], env, folder)
        answer = json.loads(said)
        reply = folder / answer["out"]
        sys.stdout.write(
            f"{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB): {answer['text']}"
            f" {reply.stat().st_size:,} bytes of sound\n"
        )
        if "Paris" not in answer["text"] or reply.stat().st_size < 20_000:
            sys.exit("the answer is not the one that this model gives")


if __name__ == "__main__":
    main()
