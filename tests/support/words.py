"""Words that only this project would use: none of them in code and documents (``make check``).

The glossary in CONTRIBUTING.md has one word for each thing. A word that an engineer of the field
would have to ask about belongs here, with what to say in its place.

    python tests/support/words.py [FILE ...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHERE = ("fo_core", "fo_cli", "data_prep", "eval", "docs", "recipes", "README.md")
KINDS = {".py", ".md", ".yaml", ".js", ".html", ".sh"}
SAY = {  # regular expression -> what to say
    r"the rest st(ood|ands?) still": "frozen weights are unchanged",
    r"never a changed bit": "weights are immutable",
    r"\bLanes?\b(?!\))": "TaskScheduler, Task",
    r"\bnotice what happened with time\b": "poll playback position and time-outs",
    r"\bleave_turn\b": "defer_reply",
    r"\btake_up\b": "resume_pending_turn",
    r"\bpatience_ms\b": "end_of_turn_timeout_ms",
    r"\bplaces are taken\b": "server at capacity",
    r"\bwaits? to be heard\b": "input buffer overflow",
    r"\blockstep\b": "sharded",
    r"\bLeanBackbone\b": "LlamaBackbone",
    r"\bmake_ready\b": "pack_for_inference",
    r"\bSight\b": "AttentionMask",
    r"\brun_row\b": "run_packed",
    r"\bno (bf16|fp16|int8) products\b": "no native matmul",
    r"\bkeep_books\b|\bbook-keeping\b": "log_and_checkpoint, logging and checkpoints",
    r"\bdone_before\b": "completed_result",
    r"\bHOPELESS\b": "MAX_WORKER_CRASHES",
    r"\bturnstiles?\b": "semaphore",
    r"\bof the chances\b": "sampling seed",
    r"\bmore_room\b": "retry_length_factor",
    r"\blistening side\b": "input branch",
    r"\bWeightMean\b": "ExponentialMovingAverage",
    r"\bdo=\"mend\b": "fix",
    r"proven not to move": "checked to be unchanged",
    r"\bfound done\b": "not repeated",
    r"\btalk's story\b": "log of the talk",
    r"\bpretended device\b": "simulated device",
    r"\bquiet to busy\b": "idle and loaded",
}


def faults(path: str, lines: Iterable[str]) -> Iterator[str]:
    """One line for each private word in the lines of a file."""
    for number, line in enumerate(lines, 1):
        for pattern, say in SAY.items():
            found = re.search(pattern, line)
            if found and line[found.end() : found.end() + 1] != '"':  # a quoted one is an old name
                yield f"{path}:{number}: {found.group()!r}: say {say}"


def main(names: list[str]) -> int:
    """Look at the files named, or at all of the repository's; 1 if a word was found."""
    if not names:
        listed = subprocess.run(
            ["git", "ls-files", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True
        )
        names = listed.stdout.splitlines()
    paths = [ROOT / name for name in names if Path(name).suffix in KINDS]
    found = [
        fault
        for path in paths
        for fault in faults(str(path.relative_to(ROOT)), path.read_text("utf-8").splitlines())
    ]
    print("\n".join(found) if found else f"{len(paths)} files without a private word")  # noqa: T201
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
