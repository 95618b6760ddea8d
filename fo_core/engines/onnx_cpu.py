"""Networks in ONNX files, run by onnxruntime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_network(path: str | Path, threads: int = 1, between: int = 1) -> Any:
    """An ``InferenceSession``, silent but for errors.

    Args:
        path: The file.
        threads: Of one operation.
        between: Operations at a time.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, between
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
