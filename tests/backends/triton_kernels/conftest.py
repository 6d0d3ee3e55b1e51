"""These tests run Triton's kernels in its interpreter, on weights on the CPU.

Triton chooses it when it is imported. So they run in a process of their own: `test_interpreted.py`
starts it.
"""

import os

import numpy as np
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if INTERPRETED else ["test_step.py"]


def rounded_to_bfloat16(convert):
    """Rounds to nearest even, as a GPU does: the interpreter cuts off the last bits."""

    def converted(x, source, target, mode):
        if (str(source), str(target)) != ("fp32", "bf16"):
            return convert(x, source, target, mode)
        narrow = torch.tensor(np.asarray(x, np.float32)).bfloat16()
        return narrow.view(torch.int16).numpy().view(np.uint16)

    return converted


if INTERPRETED:
    from triton.runtime import interpreter

    interpreter._convert_float = rounded_to_bfloat16(interpreter._convert_float)
