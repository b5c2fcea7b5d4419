import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lightmatch.errors import InvalidValueError
from lightmatch.runtime.devices import (
    fast_dtype,
    keep_few_primitives,
    keep_freed_memory,
    multiplies_bfloat16,
    pick_device,
)

SCRIPT = """
import resource, numpy
from lightmatch.runtime.devices import keep_freed_memory
{call}
numpy.ones(5_000_000)  # 40 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    numpy.ones(5_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_used_again() -> None:
    """A block that comes from the system anew is touched page by page; one that was kept is not."""
    if not keep_freed_memory():
        pytest.skip("another C library")
    assert page_faults("assert keep_freed_memory()") < 0.1 * page_faults("")


@pytest.mark.parametrize(("largest", "kept"), [(64 << 20, True), (32 << 20, True), (0, False)])
def test_a_library_that_takes_less_is_given_less(largest: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """mallopt gives 0 where it refuses, as glibc before 2.35 does above 32 MiB."""
    asked = []

    def mallopt(_: int, value: int) -> int:
        asked.append(value)
        return int(value <= largest or (largest > 0 and value == 2**31 - 1))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory() == kept
    assert not kept or asked[-2:] == [largest, 2**31 - 1]


PRIMITIVES = """
from pathlib import Path
import torch
from lightmatch.runtime.devices import keep_few_primitives
{call}
def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])
weight = torch.ones(256, 256, dtype=torch.bfloat16)
torch.nn.functional.linear(torch.ones(7, 256, dtype=torch.bfloat16), weight)
before = resident_pages()
for rows in range(8, 1000):
    torch.nn.functional.linear(torch.ones(rows, 256, dtype=torch.bfloat16), weight)
print(resident_pages() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_few_compiled_layers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        pytest.skip("this processor's layers are not compiled for a shape each")

    def growth(call: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PRIMITIVES.format(call=call)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    as_is = growth("")
    if as_is < 5000:
        pytest.skip("this processor's layers are not compiled for a shape each")
    assert growth("keep_few_primitives()") < 0.8 * as_is


def test_a_number_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    keep_few_primitives()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


def test_devices_are_those_of_this_machine() -> None:
    assert [pick_device(name) for name in ("cpu", "cpu:0")] == ["cpu", "cpu:0"]
    for name in ("cpu:", "cpu:1", "cpu:a", "gpu", ""):
        with pytest.raises(InvalidValueError, match="device: expected auto or one of cpu"):
            pick_device(name)


@pytest.mark.parametrize(
    ("has_avx512_bf16", "has_amx", "dtype"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions_for_it(
    has_avx512_bf16: bool, has_amx: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert fast_dtype("cpu") == dtype and multiplies_bfloat16("cpu") == (dtype == torch.bfloat16)
