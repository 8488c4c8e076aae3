"""install.sh --device nvidia up to CUDA in the loaded image: a real dockerd, a stand-in of NVIDIA's hook and driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scripts_kit
from tests.support.nvidia_stand_in import Card, hook, nvidia_smi, python_packages
from tests.testbed.dockerd import Dockerd


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nv")
    hook(folder)
    nvidia_smi(folder, [Card(0), Card(1)])
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, stand_ins: Path) -> Iterator[Dockerd]:
    with Dockerd(tmp_path_factory.mktemp("gpu"), airgap=True, path=[stand_ins]) as running:
        yield running


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    shelf = scripts_kit.make_shelf(folder / "shelf")
    image = shelf.images["engine"].model_copy(update={"environment": {"NVIDIA_REQUIRE_CUDA": "cuda>=12.9 brand=unknown"}})
    return scripts_kit.make_kit(shelf, folder / "a kit", images={**shelf.images, "engine": image}, accelerator="nvidia")


def install(kit: Path, engine: Dockerd, receipt: Path) -> tuple[int, str, dict[str, object]]:
    """install.sh --no-start: exit code, what it said, the receipt."""
    done = scripts_kit.run(
        kit, "install.sh", "--yes", "--no-start", "--json-receipt", str(receipt), env=engine.env, prefix=engine.nsenter
    )
    return done.returncode, done.stderr, json.loads(receipt.read_text())


def rows(receipt: dict[str, object]) -> list[dict[str, str]]:
    found = receipt["host_checks"]
    assert isinstance(found, list)
    return [row for row in found if row["check"] == "CUDA"]


def test_cuda_is_tried_in_the_loaded_image(kit: Path, engine: Dockerd, tmp_path: Path) -> None:
    code, said, receipt = install(kit, engine, tmp_path / "receipt.json")
    assert code == 0, said
    found = [row["found"] for row in rows(receipt)]
    assert found == ["the container sees 2 GPU(s)", "CUDA starts on NVIDIA A40", "CUDA starts on NVIDIA A40"]
    drivers = [row["found"] for row in receipt["host_checks"] if row["check"] == "driver"]  # type: ignore[attr-defined]
    assert drivers == ["NVIDIA driver 580.95.05 for CUDA 12.9"]
    assert receipt["result"] == "installed" and not engine.docker("ps", "--all", "--quiet")


@pytest.mark.parametrize(
    "file, text, says, remedy",
    [
        ("cuda-stand-in", "cuInit 803", "cuInit: error 803", "the NVIDIA driver does not fit"),
        ("cuda-stand-in", "cuDevicePrimaryCtxRetain 214", "uncorrectable ECC error", "the memory of a GPU is faulty"),
        ("refuses", "nvidia-container-cli: initialization error: nvml error: driver not loaded", "nvml error", "does not work"),
        (
            "refuses",
            "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your driver",
            "unsatisfied condition",
            "update the driver",
        ),
    ],
)
def test_a_failure_of_cuda_ends_it_before_any_service(
    kit: Path, engine: Dockerd, stand_ins: Path, tmp_path: Path, file: str, text: str, says: str, remedy: str
) -> None:
    (stand_ins / file).write_text(text)
    try:
        code, said, receipt = install(kit, engine, tmp_path / "receipt.json")
    finally:
        (stand_ins / file).write_text("")
    assert code == 4 and says in said and remedy in said, said
    assert receipt["result"] == "failed" and says in str(receipt["error"])
    assert [(row["level"], remedy in row["remedy"]) for row in rows(receipt)] == [("FAIL", True)]
    assert not engine.docker("ps", "--all", "--quiet")


def test_missing_kernels_are_found_before_any_weights(kit: Path, engine: Dockerd, stand_ins: Path, tmp_path: Path) -> None:
    try:
        python_packages(stand_ins, kernels="sm_90 sm_100 compute_120")
        code, said, receipt = install(kit, engine, tmp_path / "receipt.json")
        assert code == 4 and "it has compute capability 8.6, PyTorch of this image has sm_90 sm_100" in said, said
        assert "this image has no code for this GPU" in rows(receipt)[-1]["remedy"]
        python_packages(stand_ins, kernels="sm_80 sm_90a", flashinfer="0.6.16", triton=True)
        code, said, receipt = install(kit, engine, tmp_path / "receipt.json")
    finally:
        python_packages(stand_ins)
    assert code == 0, said
    warned = [(row["found"], row["remedy"]) for row in rows(receipt) if row["level"] == "WARN"]
    assert [found.partition(",")[0] for found, _ in warned] == [
        "the image has no kernels of FlashInfer 0.6.16",
        "the image has Triton",
    ]
    assert warned[0][0].endswith("/usr/local/cuda/bin/nvcc ninja c++") and all(remedy for _, remedy in warned)


def test_more_than_the_memory_is_refused_before_any_service(kit: Path, engine: Dockerd, tmp_path: Path) -> None:
    models = kit / "config/models.json"
    whole = models.read_bytes()
    models.write_bytes(whole.replace(b'"gpu_memory_utilization": 0.2', b'"gpu_memory_utilization": 0.4'))  # as an operator does
    try:
        code, said, receipt = install(kit, engine, tmp_path / "receipt.json")
    finally:
        models.write_bytes(whole)
    assert code == 4 and "the engines take 55281 MiB of it" in said, said
    assert receipt["images"] and not engine.docker("ps", "--all", "--quiet")


def test_the_plan_refuses_before_any_service(kit: Path, engine: Dockerd, stand_ins: Path, tmp_path: Path) -> None:
    """Free memory that the checks find just enough is less than what three engines with their contexts take."""
    nvidia_smi(stand_ins, [Card(0, used="18300"), Card(1)])
    try:
        code, said, _ = install(kit, engine, tmp_path / "receipt.json")
    finally:
        nvidia_smi(stand_ins, [Card(0), Card(1)])
    assert code == 3 and "are free when it starts" in said and "the configuration is wrong" in said, said
    assert not engine.docker("ps", "--all", "--quiet")


def test_without_the_toolkit_docker_says_it_and_so_do_we(kit: Path, stand_ins: Path, airgap: Dockerd, tmp_path: Path) -> None:
    env = {**airgap.env, "PATH": f"{stand_ins}:{airgap.env['PATH']}"}
    done = scripts_kit.run(kit, "install.sh", "--yes", "--no-start", env=env, prefix=airgap.nsenter)
    # the program of the hook is in PATH, but this dockerd was started without it: only trying it out tells
    assert done.returncode == 4 and "could not select device driver" in done.stderr and "nvidia-ctk" in done.stderr
