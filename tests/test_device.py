"""The torch path on torch's CPU device: the same trials as the compiled path, bit for bit."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from deadtokens.cloud import Cloud
from deadtokens.device import choice
from deadtokens.device.choice import choose_device, pick
from deadtokens.distances import Distances, components
from deadtokens.errors import DeviceError, SelectionError
from deadtokens.formats import FORMATS
from deadtokens.kernels import direct, random
from deadtokens.runs import RunFolder
from deadtokens.sampling import SamplerName
from deadtokens.specification import plan
from deadtokens.sweep import finish, simulate, sweep
from deadtokens.trials import STATISTICS, Simulator, TrialSpec

torch = pytest.importorskip("torch")

from deadtokens.device import checking, distances, doubtful, fused, moments, simulator, words  # noqa: E402
from deadtokens.device.checking import check, same  # noqa: E402
from deadtokens.device.simulator import DeviceSimulator  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which other tests want too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def student(d: int, scale: float) -> npt.NDArray[np.float64]:
    return np.random.default_rng(d).standard_t(4.5, d) * scale


def near_boundaries(d: int) -> npt.NDArray[np.float64]:
    """Numbers between 1 and 2, within three float32 gaps of halfway between bfloat16 numbers."""
    rng = np.random.default_rng(3)
    halfway = 1 + (2 * rng.integers(0, 128, d) + 1) * 2.0**-8
    return np.asarray(halfway + rng.integers(-3, 4, d) * 2.0**-23)


# A cloud, its tokens, and the touching distance if it is not 2 epsilon.
CLOUDS: dict[str, tuple[Cloud, int, float | None]] = {
    "many equal rows": (Cloud(student(30, 2.5e-3), 1e-8), 80, None),
    "few equal rows": (Cloud(student(41, 2.5e-3), 1e-6), 60, None),
    "touching in part": (Cloud(student(20, 2.5e-3), 1e-5), 40, 3e-5),
    "touching nowhere": (Cloud(student(20, 2.5e-3), 1e-3), 40, 1e-6),
    "lists that settle": (Cloud(student(300, 2.5e-3), 3e-3), 70, None),
    "lists that do not": (Cloud(np.full(300, 1e-2), 1e-7), 50, None),
    "float32 gap": (Cloud(near_boundaries(5), 1.2e-7), 80, None),
    "exact sums": (Cloud(near_boundaries(6), 0.5e-7, intermediate="exact"), 80, None),
    "float16": (Cloud(student(25, 1e-2), 2e-6, format="float16"), 50, None),
    "float16 around zero": (Cloud([0.0, 2e-7, -5e-5], 1e-7, format="float16"), 50, None),
    "float8_e4m3fn": (Cloud(student(6, 0.3), 0.02, format="float8_e4m3fn"), 40, None),
    "float8_e5m2": (Cloud(student(7, 0.3), 0.02, format="float8_e5m2"), 40, None),
    "float32": (Cloud(student(6, 0.3), 1e-7, format="float32"), 30, None),
    "inexact mean": (Cloud([0.0], 1.0, format="float32"), 1000, 1e-3),
    "subnormal": (Cloud(np.zeros(5), 1e-38), 60, None),
    "laplace": (Cloud(student(8, 2.5e-3), 2e-6, noise="laplace"), 70, None),
    "uniform": (Cloud(student(9, 2.5e-3), 2e-6, noise="uniform"), 70, None),
    "sigma per dimension": (Cloud(student(12, 1e-2), np.geomspace(1e-9, 1e-3, 12)), 50, None),
    "one dimension": (Cloud([2.5e-3], 1e-5), 90, None),
    "one token": (Cloud(student(5, 1.0), 1e-2), 1, None),
    "two tokens": (Cloud(student(5, 1.0), 1e-2), 2, None),
    "nothing active": (Cloud(student(5, 1.0), 0.0), 20, None),
}


def on_host(name: str) -> Simulator:
    cloud, n_tokens, touching = CLOUDS[name]
    largest = np.array([np.abs(cloud.centroid).max()], dtype=np.float32)
    epsilon = float(cloud.format.ulp(cloud.format.round(largest))[0])
    return Simulator(cloud, TrialSpec(n_tokens, 7, epsilon, touching or 2 * epsilon), "direct")


def on_device(name: str, batch: int = 5) -> DeviceSimulator:
    host = on_host(name)
    return DeviceSimulator(host.cloud, host.spec, CPU, threads=2, batch=batch)


@pytest.mark.parametrize("name", CLOUDS)
def test_trials_are_the_hosts(name: str) -> None:
    assert same(on_device(name).run(3, 12), on_host(name).run(3, 12))


@pytest.mark.parametrize("name", CLOUDS)
def test_a_device_without_float64_draws_on_the_host(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "has_float64", lambda _: False)
    monkeypatch.setattr(simulator, "DeviceDraw", None)
    assert same(on_device(name).run(0, 7), on_host(name).run(0, 7))


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
@pytest.mark.parametrize("name", ["many equal rows", "lists that settle"])
def test_trials_do_not_depend_on_the_batch(name: str, batch: int) -> None:
    assert same(on_device(name, batch).run(0, 9), on_host(name).run(0, 9))


@pytest.mark.parametrize("first", [2**32 - 2, 2**40 - 1, 2**63 - 2])
def test_large_trial_numbers(first: int) -> None:
    assert same(on_device("few equal rows").run(first, 4), on_host("few equal rows").run(first, 4))


def test_cases_take_every_way_through_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device measures most trials itself; what it cannot do exactly, the host does."""
    handed_on: list[str] = []
    measure = DeviceSimulator._measure_pairs

    def record(self: DeviceSimulator, vectors: Any, row: Any) -> None:
        handed_on.extend([name] if len(vectors) > 1 else [])
        measure(self, vectors, row)

    monkeypatch.setattr(DeviceSimulator, "_measure_pairs", record)
    for name in CLOUDS:
        on_device(name).run(0, 2)
    assert set(handed_on) == {"inexact mean", "subnormal"}


@pytest.mark.parametrize("multiplier", [0, 2**63])
@pytest.mark.parametrize("name", ["many equal rows", "few equal rows", "nothing active"])
def test_colliding_hashes_merge_nothing(
    name: str, multiplier: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poor(width: int, device: Any) -> Any:
        return torch.full((width,), multiplier - 2**63, dtype=torch.int64, device=device)

    monkeypatch.setattr(simulator, "coefficients", poor)
    assert same(on_device(name).run(0, 9), on_host(name).run(0, 9))


def test_a_stopped_batch_is_the_beginning_of_a_whole_one() -> None:
    calls = iter([False, False, True])
    stopped = on_device("few equal rows", 3).run(0, 50, stop=lambda: next(calls))
    assert len(stopped.rows) == 6
    assert same(stopped, on_host("few equal rows").run(0, 6))


Maker: TypeAlias = Callable[[Cloud, TrialSpec, SamplerName], Simulator]


def test_a_run_may_change_devices(tmp_path: Path) -> None:
    """Parts from either make the same files, to the byte."""
    planned = plan(student(30, 2.5e-3), [1e-6], 60, sampler="direct")
    makers: list[list[Maker]] = [[Simulator, Simulator], [on_cpu_by_torch, Simulator]]
    files: list[list[bytes]] = []
    for workers in makers:
        run = RunFolder.create(
            tmp_path / str(len(files)), planned.specification(), planned.centroid
        )
        for part, worker in enumerate(workers):
            run.write(0, worker(planned.cloud(0), planned.spec, "direct").run(4 * part, 4))
        finish(planned, run)
        names = "trials.csv", "summary.csv", "elements.npz"
        files.append([(run.path / name).read_bytes() for name in names])
    assert files[0] == files[1]


def on_cpu_by_torch(cloud: Cloud, spec: TrialSpec, _: SamplerName) -> Simulator:
    return DeviceSimulator(cloud, spec, CPU, threads=1)


NO_ROOM = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", NO_ROOM, ids=lambda error: type(error).__name__)
def test_batches_shrink_until_they_fit(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    summed = moments.element_sums

    def crowded(deviations: Any, totals: Any) -> Any:
        sizes.append(len(deviations))
        if len(deviations) > 2:
            raise error
        return summed(deviations, totals)

    monkeypatch.setattr(simulator, "element_sums", crowded)
    worker = on_device("few equal rows", 16)
    assert same(worker.run(0, 20), on_host("few equal rows").run(0, 20))
    assert sizes[:4] == [16, 8, 4, 2]
    assert max(sizes[4:]) == 2


def test_tiles_shrink_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(x: Any, tile_bytes: int) -> Any:
        if tile_bytes > 2**22:
            raise NO_ROOM[0]
        return distances.distance_matrix(x, tile_bytes)

    monkeypatch.setattr(fused, "TORCH", fused.Loops(crowded, words.DeviceDraw.quick))
    fused.loops.cache_clear()
    try:
        worker = on_device("few equal rows", 4)
    finally:
        fused.loops.cache_clear()
    assert same(worker.run(0, 6), on_host("few equal rows").run(0, 6))
    assert worker.batch == 1


def test_what_never_fits_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise NO_ROOM[0]

    monkeypatch.setattr(simulator, "summarise", full)
    with pytest.raises(DeviceError) as refused:
        on_device("few equal rows").run(0, 3)
    assert str(refused.value) == (
        "cpu: one trial of 60 tokens in 40 active dimensions does not fit (CUDA out of memory. "
        "Tried to allocate 20.00 GiB); use --device cpu"
    )
    assert refused.value.where == "cpu"
    assert b"torch" not in pickle.dumps(refused.value)


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("CUDA error: device-side assert triggered\nand a page more")


FAILS = r"cpu: it fails \(CUDA error: device-side assert triggered\); use --device cpu"


def test_other_errors_are_not_taken_for_lack_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "summarise", broken)
    worker = on_device("few equal rows")
    with pytest.raises(DeviceError, match=f"^{FAILS}$"):
        worker.run(0, 3)
    assert worker.batch == 5


@pytest.fixture
def seen_as_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's CPU device is there for a GPU, and seems faster than the compiled code."""
    for module in choice, importlib.import_module("deadtokens.sweep"):
        monkeypatch.setattr(
            module, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda"
        )
    monkeypatch.setattr(torch, "device", lambda _: CPU)
    monkeypatch.setattr(choice, "_faster", lambda *_: True)


@pytest.mark.usefixtures("unchecked", "seen_as_gpu")
@pytest.mark.parametrize("module", [simulator, checking])
def test_a_driver_that_fails_is_asked_once(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When something is first put on the device, or in the first trial."""
    name = "coefficients" if module is simulator else "DeviceSimulator"
    tried: list[None] = []
    original = getattr(module, name)

    def failing(*arguments: Any, **options: Any) -> Any:
        tried.append(None)
        if module is simulator:
            broken()
        monkeypatch.setattr(simulator, "summarise", broken)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, failing)
    host = on_host("few equal rows")
    for _ in range(2):
        with pytest.raises(DeviceError, match=FAILS):
            pick(host.cloud, host.spec, "direct", "cuda", workers=1)
        with pytest.warns(RuntimeWarning, match=f"{FAILS}: the CPU draws"):
            assert type(pick(host.cloud, host.spec, "direct", "auto", workers=1)) is Simulator
    assert len(tried) == 1


@pytest.mark.usefixtures("seen_as_gpu")
def test_a_driver_that_fails_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With auto the CPU draws the rest; asked for by name, a device that fails ends the sweep."""
    check(CPU)
    options: dict[str, Any] = {"n_tokens": 60, "trials": 30, "sampler": "direct", "workers": 2}
    sigmas = [1e-6, 2e-6]
    sweep(student(30, 2.5e-3), sigmas, run=tmp_path / "cpu", device="cpu", **options)
    calls = itertools.count()

    def broken_later(*arguments: Any) -> Any:
        return broken() if next(calls) > 20 else distances.summarise(*arguments)

    monkeypatch.setattr(simulator, "summarise", broken_later)
    monkeypatch.setattr(importlib.import_module("deadtokens.sweep"), "_part_size", lambda *_: 5)
    with pytest.warns(RuntimeWarning, match=f"{FAILS}: the CPU draws"):
        sweep(student(30, 2.5e-3), sigmas, run=tmp_path / "auto", **options)
    assert next(calls) > 20
    for name in ("trials.csv", "summary.csv", "elements.npz"):
        assert (tmp_path / "auto" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes()
    with pytest.raises(DeviceError, match=FAILS):
        sweep(student(30, 2.5e-3), sigmas, run=tmp_path / "cuda", device="cuda", **options)


@pytest.mark.usefixtures("seen_as_gpu")
@pytest.mark.parametrize(("device", "faster"), [("cuda", False), ("auto", True), ("auto", False)])
def test_a_sweep_on_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Any, faster: bool
) -> None:
    """The same files, and progress over all sigmas together."""
    check(CPU)
    monkeypatch.setattr(choice, "_faster", lambda *_: faster)
    planned = plan(student(30, 2.5e-3), [1e-6, 2e-6], 60, sampler="direct")
    for where in ("cpu", device):
        run = RunFolder.create(tmp_path / where, planned.specification(), planned.centroid)
        told: list[int] = []
        assert simulate(planned, run, 10, device=where, workers=2, report=told.append) == 20
        assert (told[0], told[-1]) == (0, 20)
        assert told == sorted(told)
        finish(planned, run)
    for name in ("trials.csv", "summary.csv", "elements.npz"):
        assert (tmp_path / device / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes()


def wrong_multiplier(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "_MULTIPLIERS", (0xD2511F53, 0xCD9E8D55))


def wrong_stream(patch: pytest.MonkeyPatch) -> None:
    settle = doubtful.settle
    patch.setattr(words, "settle", lambda *a, **k: settle(*a, **k | {"first_trial": 1}))


def wrong_ties(patch: pytest.MonkeyPatch) -> None:
    rounded = words.round_to_ordinal
    upwards = torch.tensor(torch.inf, dtype=torch.float64)
    patch.setattr(
        words, "round_to_ordinal", lambda x, fmt: rounded(torch.nextafter(x, upwards), fmt)
    )


def wrong_order_of_sums(patch: pytest.MonkeyPatch) -> None:
    summed = moments.element_sums
    patch.setattr(simulator, "element_sums", lambda d, totals: summed(d.flip(1), totals))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (wrong_multiplier, "float32 gap"),
        (wrong_stream, "few equal rows"),
        (wrong_ties, "float32 gap"),
        (wrong_order_of_sums, "touching nowhere"),
    ],
)
def test_a_wrong_bit_shows(
    wrong: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: what `test_trials_are_the_hosts` asks is failed by slight mistakes."""
    wrong(monkeypatch)
    assert not same(on_device(name).run(3, 12), on_host(name).run(3, 12))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Devices count as not yet checked, now and later."""
    checking._fault.cache_clear()
    yield
    checking._fault.cache_clear()


def test_the_check_sees_equal_rows_and_every_kind_of_graph() -> None:
    centroid = np.random.default_rng(0).standard_t(4.5, 200) * 2.5e-3
    unique, density = STATISTICS.index("n_unique"), STATISTICS.index("global_density")
    rows = [
        Simulator(Cloud(centroid, sigma), checking._SPEC, "direct").run(0, 1).rows[0]
        for sigma in checking._SIGMAS
    ]
    assert 1 < rows[0][unique] < checking._SPEC.n_tokens
    assert rows[0][density] == 1
    assert 0 < rows[1][density] < 1
    assert rows[2][density] == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", [wrong_multiplier, wrong_stream, wrong_order_of_sums])
def test_a_device_that_errs_is_refused(
    wrong: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(CPU)
    checking._fault.cache_clear()
    wrong(monkeypatch)
    monkeypatch.setattr(choice, "choose_device", lambda _: "cpu-like")
    monkeypatch.setattr(torch, "device", lambda _: CPU)
    host = on_host("few equal rows")
    with pytest.raises(DeviceError, match="cpu: it gives other numbers than the CPU in a"):
        pick(host.cloud, host.spec, "direct", "cuda", workers=1)
    with pytest.warns(RuntimeWarning, match="with the versions of torch and driver: the CPU draws"):
        assert type(pick(host.cloud, host.spec, "direct", "auto", workers=1)) is Simulator


@pytest.mark.parametrize("width", [1, 2, 7, 260])
def test_words(width: int) -> None:
    key, trials = 0xFEDCBA9876543210, range(2**32 - 1, 2**32 + 1)
    found = words.philox_words(key, trials, 3, width, CPU)
    expected = np.zeros((2, 3, width + width % 2), dtype=np.uint64)
    for i, trial in enumerate(trials):
        for token in range(3):
            random.fill_words(expected[i, token], np.uint64(key), token, np.uint64(trial), 0)
    assert np.array_equal(found.numpy().view(np.uint64), expected[..., :width])
    positions = torch.arange(0, found.numel(), 5)
    at = words.words_at(key, trials, 3, width, positions)
    assert torch.equal(at, found.reshape(-1)[positions])


@pytest.mark.parametrize("name", FORMATS)
def test_rounding(name: str) -> None:
    """Random numbers of every binade of the format, boundaries, and the numbers next to them."""
    fmt = FORMATS[name]
    rng = np.random.default_rng(1)
    ordinals = rng.integers(-fmt.max_ordinal, fmt.max_ordinal, 3000)
    boundaries = fmt.boundaries(ordinals, "exact")
    x = np.concatenate([
        np.nextafter(boundaries, -np.inf), boundaries, np.nextafter(boundaries, np.inf),
        fmt.values_of(ordinals).astype(np.float64) * rng.uniform(0.9, 1.0, 3000),
    ])  # fmt: skip
    expected = [direct.round_to_ordinal(v, fmt.fraction_bits, fmt.min_exponent) for v in x]
    assert words.round_to_ordinal(torch.from_numpy(x), fmt).tolist() == expected


@pytest.mark.parametrize("name", FORMATS)
def test_values(name: str) -> None:
    fmt = FORMATS[name]
    cloud = Cloud([1.0, 2.0], 1e-7, format=name)
    ordinals = np.unique(np.linspace(-fmt.max_ordinal, fmt.max_ordinal, 70_001).round().astype(int))
    worker = DeviceSimulator(cloud, TrialSpec(2, 7, 1.0, 1.0), CPU, threads=1)
    found = worker.values(torch.from_numpy(ordinals.astype(cloud.ordinal_dtype)))
    assert np.array_equal(found.numpy(), fmt.values_of(ordinals))


def vectors(seed: int) -> npt.NDArray[np.float32]:
    """Vectors with few or many dimensions off a centre, some of them far, some pairs close."""
    rng = np.random.default_rng(seed)
    m, a = int(rng.integers(2, 90)), int(rng.choice([1, 5, 64, 65, 400]))
    x = rng.standard_normal((m, a)) * rng.choice([1e-6, 1e-3, 1.0], a)
    x *= rng.random((m, a)) < rng.choice([0.02, 0.3, 1.0])
    x[:, rng.integers(a)] += rng.choice([0.0, 1.0, 30.0]) * rng.integers(0, 2, m)
    x = np.unique(np.round(x, int(rng.integers(3, 9))).astype(np.float32), axis=0)
    return np.concatenate([x, x[:1] + 1]) if len(x) < 2 else x


@pytest.mark.parametrize("tile_bytes", [1, 2**12, 2**28])
@pytest.mark.parametrize("seed", range(25))
def test_distances_are_the_hosts(seed: int, tile_bytes: int) -> None:
    x = vectors(seed)
    host = Distances(x, workers=1)
    expected = host.matrix()
    found = distances.distance_matrix(torch.from_numpy(x), tile_bytes)
    assert np.array_equal(found.numpy(), expected)
    touching = float(np.quantile(expected, 0.1 * (seed % 11), method="lower"))
    summary = distances.summarise(found, touching, tile_bytes)
    wanted = host.summary(touching)
    # Whether any order of adding up float64 numbers gives the same sum.
    pairs = [Fraction(distance) for distance in np.unique(expected).tolist() if distance]
    unit = min(Fraction(p.numerator & -p.numerator, p.denominator) for p in pairs)
    assert summary.exact == (wanted.n_pairs * max(pairs) < 2**53 * unit)
    for name in ("n_pairs", "smallest", "largest", "median") + ("mean",) * summary.exact:
        assert getattr(summary.distances, name) == getattr(wanted, name)
    assert np.array_equal(summary.distances.degrees, wanted.degrees)
    assert np.array_equal(found.numpy(), expected)
    if wanted.smallest <= touching < wanted.largest:
        labels = components(np.argwhere(expected <= touching), len(x))
        again = summary.forest.components(touching)
        assert len(np.unique(np.stack([labels, again]), axis=1).T) == labels.max() + 1
        assert again.max() == labels.max()


def test_components_of_long_chains() -> None:
    """Two chains of vectors in random order, each touching the next one only."""
    x = np.concatenate([np.arange(301), 1000 + np.arange(200)]).astype(np.float32)[:, None]
    x = x[np.random.default_rng(0).permutation(len(x))]
    found = distances.distance_matrix(torch.from_numpy(x), 2**28)
    labels = distances.summarise(found, 1.0, 2**28).forest.components(1.0)
    assert labels.max() == 1
    assert (labels == labels[0]).sum() == ((x > 500) == (x[0] > 500)).sum()


def test_infinite_distances_are_left_to_the_host() -> None:
    x = torch.tensor([[3e38, 1.0], [-3e38, 2.0], [3e38, 3.0]])
    found = distances.distance_matrix(x, 2**20)
    assert found[0].tolist() == [0, torch.inf, 2]
    assert not distances.summarise(found, 2.0, 2**20).exact


def wrong_distances(x: Any, tile_bytes: int) -> Any:
    return torch.nextafter(distances.distance_matrix(x, tile_bytes), torch.tensor(0.0))


def wrong_quick(draw: Any, trials: range) -> Any:
    found = words.DeviceDraw.quick(draw, trials)
    found.ordinals[0, 0, 0] += 1
    return found


def wrong_words(draw: Any, trials: range) -> Any:
    found = words.DeviceDraw.quick(draw, trials)
    return replace(found, words=found.words + 1)


def wrong_positions(draw: Any, trials: range) -> Any:
    found = words.DeviceDraw.quick(draw, trials)
    return replace(found, positions=found.positions + 1)


def failing(*_: Any) -> Any:
    raise RuntimeError("ptxas fatal: no such target\nand a page more")


def test_fused_kernels_that_differ_or_fail_are_not_used() -> None:
    for bad, does in (
        (fused.Loops(wrong_distances, wrong_quick), "gives other bits than torch"),
        (fused.Loops(wrong_distances, wrong_words), "gives other bits than torch"),
        (fused.Loops(wrong_distances, wrong_positions), "gives other bits than torch"),
        (fused.Loops(failing, failing), "fails (ptxas fatal: no such target)"),
    ):
        with pytest.warns(RuntimeWarning) as seen:
            assert fused.checked(bad, CPU) == fused.TORCH
        assert [str(warning.message) for warning in seen] == [
            f"the Triton kernel for {what} {does}: torch does it, more slowly"
            for what in ("distances", "the draw")
        ]


def test_fused_kernels_that_agree_are_used() -> None:
    copies = fused.Loops(
        lambda x, tile_bytes: distances.distance_matrix(x, tile_bytes),
        lambda draw, trials: words.DeviceDraw.quick(draw, trials),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused.checked(copies, CPU) == copies


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_gpu_likely", lambda: True)
    for present, auto in ([], "cpu"), (["mps"], "mps"), (["cuda", "mps"], "cuda"):
        monkeypatch.setattr(choice, "_present", lambda present=present: present)
        assert choose_device("auto") == auto
        assert choose_device("cpu") == "cpu"
    assert choose_device("mps") == "mps"
    with pytest.raises(SelectionError, match="unknown device 'tpu'; use one of auto, cpu, cuda"):
        choose_device("tpu")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_present", lambda: ["mps"])
    with pytest.raises(DeviceError) as refused:
        choose_device("cuda")
    assert str(refused.value) == "cuda: torch finds no such device; use --device mps or cpu"


def test_without_torch_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DeviceError) as refused:
        choose_device("cuda")
    assert str(refused.value) == "cuda: torch is not installed; pip install 'deadtokens[torch]'"
    assert choose_device("auto") == choose_device("cpu") == "cpu"


def test_the_cpu_needs_no_torch() -> None:
    code = (
        "import sys; from deadtokens.device.choice import choose_device, pick;"
        "assert choose_device('cpu') == 'cpu'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("device", "sampler", "faster", "expected"),
    [
        ("cpu", "direct", True, Simulator),
        ("cuda", "direct", False, DeviceSimulator),
        ("cuda", "occupancy", True, Simulator),
        ("auto", "direct", True, DeviceSimulator),
        ("auto", "direct", False, Simulator),
    ],
)
def test_who_draws(
    device: str,
    sampler: Any,
    faster: bool,
    expected: type[Simulator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda")
    monkeypatch.setattr(torch, "device", lambda _: CPU)
    seconds = {DeviceSimulator: 1.0, Simulator: 9.0 if faster else 1e-9}
    monkeypatch.setattr(choice, "_seconds", lambda worker, _: seconds[type(worker)])
    host = on_host("few equal rows")
    picked = pick(host.cloud, host.spec, sampler, device, workers=1)
    assert type(picked) is expected
    assert same(picked.run(0, 4), Simulator(host.cloud, host.spec, sampler).run(0, 4))


def test_the_pilot_compares_trials_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    batch = SimpleNamespace(batch=10)
    for of_batch, workers, faster in (9.0, 1, True), (11.0, 1, False), (9.0, 8, False):
        monkeypatch.setattr(choice, "_seconds", lambda worker, _, s=of_batch: s if worker else 1.0)
        assert choice._faster(batch, None, workers) is faster  # type: ignore[arg-type]
