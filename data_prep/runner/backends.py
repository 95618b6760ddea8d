"""Where the work of a step runs: in this process, in local processes, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from fo_core.errors import EngineError

Job = list[Any]
Function = Callable[[Any, list[Any]], Any]  # (work, job) -> answer; module-level


class WorkerDied(Exception):
    """A worker process ended while it had a job."""


class Backend(Protocol):
    """Jobs go in, answers come out in any order."""

    slots: int  # jobs in flight that keep it busy

    def submit(self, job: Job) -> Any:
        """Start a job; a handle of it."""
        ...

    def wait(self, handles: Sequence[Any]) -> list[Any]:
        """Block until one of the handles is finished; those that are."""
        ...

    def result(self, handle: Any) -> Any:
        """A finished job's answer, or WorkerDied."""
        ...

    def renew(self) -> None:
        """New workers after one has died; what was in flight is lost."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class Inline:
    """This process: one job at a time."""

    slots = 1

    def __init__(self, function: Function, work: Any) -> None:
        self.function, self.work = function, work

    def submit(self, job: Job) -> Any:
        done: Future[Any] = Future()
        done.set_result(self.function(self.work, job))
        return done

    def wait(self, handles: Sequence[Any]) -> list[Any]:
        return list(handles)

    def result(self, handle: Any) -> Any:
        return handle.result()

    def renew(self) -> None:
        raise AssertionError("this process is still here")

    def close(self) -> None:
        return


_MINE: tuple[Function, Any] | None = None  # of a worker process


def _begin(function: Function, work: Any, parent: int) -> None:
    """Set a worker process up: one thread of computation, no Ctrl-C, an end with its parent."""
    global _MINE
    _MINE = (function, work)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends us
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(job: Job) -> Any:
    assert _MINE is not None
    function, work = _MINE
    return function(work, job)


class Processes:
    """Local processes, started afresh (fork is unsafe once torch has threads)."""

    def __init__(self, function: Function, work: Any, workers: int) -> None:
        self.function, self.work, self.workers = function, work, workers
        self.slots = 2 * workers
        self.pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self.function, self.work, os.getpid()),
        )

    def submit(self, job: Job) -> Any:
        try:
            return self.pool.submit(_work, job)
        except BrokenProcessPool:  # it broke between two jobs: this one is lost like the others
            lost: Future[Any] = Future()
            lost.set_exception(BrokenProcessPool())
            return lost

    def wait(self, handles: Sequence[Any]) -> list[Any]:
        return list(wait(handles, return_when=FIRST_COMPLETED).done)

    def result(self, handle: Any) -> Any:
        try:
            return handle.result()
        except BrokenProcessPool as error:
            raise WorkerDied from error

    def renew(self) -> None:
        self.close()
        self.pool = self._start()

    def close(self) -> None:
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(OSError, ValueError):
                process.terminate()


class Ray:
    """Actors of a Ray cluster: that of ``$RAY_ADDRESS``, or one made on this machine.

    Every node must see the data's folder under the same path.

    Raises:
        EngineError: Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(self, function: Function, work: Any, workers: int) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise EngineError(
                "--engine ray needs the package 'ray'",
                possible="--engine local",
                do="pip install 'freeze-omni[ray]'",
            ) from error
        self.ray, self.workers, self.slots = ray, workers, 2 * workers
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            local = {} if address else {"num_cpus": workers, "include_dashboard": False}
            paths = os.pathsep.join(p for p in sys.path if p)
            try:
                ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
                    **local,
                )
            except Exception as error:  # Ray's own kinds are many
                raise EngineError(
                    f"the Ray cluster {address or 'on this machine'} did not answer: "
                    f"{type(error).__name__}: {error}",
                    do="check $RAY_ADDRESS, or use --engine local",
                ) from error
        actor = ray.remote(_Actor)
        gpus = getattr(getattr(work, "function", work), "gpus", 0)
        self._make = lambda: actor.options(num_gpus=gpus).remote(function, work)
        self._load: dict[Any, Any] = {}  # handle -> actor
        self.actors = [self._make() for _ in range(workers)]

    def submit(self, job: Job) -> Any:
        held = list(self._load.values())
        actor = min(self.actors, key=held.count)
        handle = actor.do.remote(job)
        self._load[handle] = actor
        return handle

    def wait(self, handles: Sequence[Any]) -> list[Any]:
        done, _ = self.ray.wait(list(handles), num_returns=1)
        return list(done)

    def result(self, handle: Any) -> Any:
        self._load.pop(handle, None)
        try:
            return self.ray.get(handle)
        except self.ray.exceptions.RayActorError as error:
            raise WorkerDied from error

    def renew(self) -> None:
        self.close()
        self._load = {}
        self.actors = [self._make() for _ in range(self.workers)]

    def close(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)


class _Actor:
    """One worker of the cluster."""

    def __init__(self, function: Function, work: Any) -> None:
        self.function, self.work = function, work

    def do(self, job: Job) -> Any:
        """Answer one job."""
        return self.function(self.work, job)


def open_backend(engine: str, function: Function, work: Any, workers: int) -> Backend:
    """The backend of that name."""
    if engine == "ray":
        return Ray(function, work, max(1, workers))
    return Processes(function, work, workers) if workers > 1 else Inline(function, work)
