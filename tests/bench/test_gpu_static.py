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


@pytest.mark.slow
def test_no_register_spills_around_other_optimizers():
    import gpu_static

    for names in (("changes", "measure"), ("linear rules", "amend_changes")):  # the largest
        found = gpu_static.needs_around(names[1], 80, **gpu_static.AROUND[names])
        assert found.spilt_bytes == 0, (names, found)
