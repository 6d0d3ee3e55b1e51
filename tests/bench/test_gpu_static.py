"""The Triton kernels compile for GPUs, on a machine that has none."""

import pytest

pytest.importorskip("triton")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_no_register_spills(architecture):
    import gpu_static

    for kernel in ("guess", "advance", "judge", "amend"):
        found = gpu_static.needs(kernel, gpu_static.FORMS["AdamP float32"], architecture)
        assert found.spilt_bytes == 0, (kernel, found)
