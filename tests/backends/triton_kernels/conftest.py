"""These tests run Triton's kernels in its interpreter, on weights on the CPU.

Triton chooses it when it is imported. So they run in a process of their own: `test_interpreted.py`
starts it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
INTERPRETER_ONLY = ["test_step.py", "test_captured.py", "test_changes.py"]
collect_ignore_glob = ["test_compiled_once.py"] if INTERPRETED else INTERPRETER_ONLY


def rounded_to_bfloat16(convert):
    """Rounds to nearest even, as a GPU does: the interpreter cuts off the last bits."""

    def converted(x, source, target, mode):
        if (str(source), str(target)) != ("fp32", "bf16"):
            return convert(x, source, target, mode)
        narrow = torch.tensor(np.asarray(x, np.float32)).bfloat16()
        return narrow.view(torch.int16).numpy().view(np.uint16)

    return converted


def only_if_needed(patch):
    """Patches Triton's language once per launch, and not at every call of a function."""

    def patched(function):
        languages = [x for x in function.__globals__.values() if x in (tl, tl.core)]
        if any(tl.core.is_builtin(language.load) for language in languages):
            return patch(function)
        return interpreter._LangPatchScope()

    return patched


if INTERPRETED:
    sys.path.append(str(Path(__file__).parents[3] / "bench"))

    import triton.language as tl
    from triton.runtime import interpreter

    interpreter._convert_float = rounded_to_bfloat16(interpreter._convert_float)
    interpreter._patch_lang = only_if_needed(interpreter._patch_lang)
