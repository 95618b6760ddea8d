"""Work in child processes: progress and errors come back, memory is measured, no orphans."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from fo_core.devices.memory import peak_memory
from fo_core.errors import FoError

Progress = Callable[[str, int, int], None]  # (what, done, total)
Work = Callable[..., None]  # work(progress, **arguments)


class ChildError(FoError):
    """A child process ended with an error that the user can fix, or died."""


def run_side_by_side(
    jobs: Mapping[str, tuple[Work, dict[str, Any]]], threads: int, progress: Progress
) -> None:
    """Run every job in a process of its own, all at the same time; the first error ends all.

    Args:
        jobs: Name to a module-level function and its keyword arguments (picklable).
        threads: Compute threads of each process.
        progress: Called here with what the jobs report.

    Raises:
        ChildError: A job failed; the message is the job's own.
    """
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
    said: Any = context.Queue()
    children = {
        name: context.Process(
            target=_child, args=(name, work, arguments, threads, said, os.getpid()), name=name
        )
        for name, (work, arguments) in jobs.items()
    }
    for child in children.values():
        child.start()
    try:
        open_jobs = set(children)
        while open_jobs:
            try:
                kind, name, payload = said.get(timeout=0.25)
            except queue.Empty:
                dead = [n for n in open_jobs if not children[n].is_alive()]
                if dead and said.empty():
                    code = children[dead[0]].exitcode
                    raise ChildError(
                        f"{dead[0]} was killed (exit {code})",
                        do="check the memory, then run the same command again",
                    ) from None
                continue
            if kind == "progress":
                progress(*payload)
            elif kind == "done":
                open_jobs.discard(name)
            else:
                raise ChildError(payload)
        for child in children.values():
            child.join(10.0)  # it gives back what it holds: ended at once, Python would warn of it
    finally:
        for child in children.values():
            if child.is_alive():
                child.terminate()
        for child in children.values():
            child.join()


def peak_memory_mb() -> float:
    """Largest resident memory of this process and its finished children, MB."""
    return round(peak_memory(children=True) / 2**20, 1)


def _child(
    name: str, work: Work, arguments: dict[str, Any], threads: int, said: Any, parent: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends us
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    last = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > 0.2:
            last = time.monotonic()
            said.put(("progress", name, (what, done, total)))

    try:
        import torch

        torch.set_num_threads(threads)
        work(report, **arguments)
        said.put(("done", name, None))
    except FoError as error:
        said.put(("error", name, str(error)))
    except BaseException:
        text = traceback.format_exc()
        said.put(("error", name, f"{name} failed: {text.strip().splitlines()[-1]} ({text})"))
        raise


def _follow(parent: int) -> None:
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
