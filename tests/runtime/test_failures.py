"""Classes, codes and caps of failures; torch's and Ray's own exceptions are among the examples."""

from __future__ import annotations

import subprocess
import sys

import pytest

from insetgan_batch import errors
from insetgan_batch.methods import names
from insetgan_batch.runtime import failures
from insetgan_batch.runtime.failures import Caps, FailureClass, classify, reason_code


def _tree(base: type[Exception]) -> list[type[Exception]]:
    """`base` and what errors.py derives from it."""
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, base)]


def _named(name: str, module: str, base: type[Exception] = Exception) -> type[Exception]:
    return type(name, (base,), {"__module__": module})


def _raised_by_torch() -> RuntimeError:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    return caught.value


@pytest.mark.parametrize("error_type", _tree(errors.ItemError))
def test_every_item_error_is_a_row_failure_with_its_own_reason(error_type: type[Exception]) -> None:
    error = error_type("x")
    assert classify(error) is FailureClass.ROW
    assert reason_code(error) == vars(error_type)["reason"]


@pytest.mark.parametrize(
    "error_type",
    [
        errors.ConfigError,
        errors.RunMismatchError,
        errors.ManifestError,
        errors.CheckpointError,
        errors.MissingPackageError,
        errors.RefusedError,
    ],
)
def test_what_would_hit_every_item_is_systemic(error_type: type[Exception]) -> None:
    assert classify(error_type("x")) is FailureClass.SYSTEMIC
    assert reason_code(error_type("x")) == "systemic"


@pytest.mark.parametrize("error_type", [errors.StorageError, errors.NotFoundError])
def test_storage_errors_are_infrastructure(error_type: type[Exception]) -> None:
    assert classify(error_type("x")) is FailureClass.INFRA
    assert reason_code(error_type("x")) == "storage"


@pytest.mark.parametrize("error_type", _tree(errors.InsetGanError)[1:])
def test_no_error_of_ours_falls_through_to_worker(error_type: type[Exception]) -> None:
    assert classify(error_type("x")) is not FailureClass.WORKER


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out_of_memory"),
        (_named("OutOfMemoryError", "torch", RuntimeError)("CUDA out of memory."), "out_of_memory"),
        (_named("OutOfMemoryError", "torch.cuda", RuntimeError)("full"), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out_of_memory"),
        (_named("AcceleratorError", "torch", RuntimeError)("illegal access"), "cuda_error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "cuda_error"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "cuda_error"),
        (RuntimeError("Expected all tensors on one device, found cuda:0 and cpu"), "worker_error"),
        (ValueError("CUDA error: only said by somebody"), "worker_error"),
        (_named("OutOfMemoryError", "somebody_else")("x"), "worker_error"),
        (KeyError("x"), "worker_error"),
        (SystemExit(1), "worker_error"),
    ],
)
def test_a_broken_worker_and_the_unknown_are_worker_failures(
    error: BaseException, reason: str
) -> None:
    assert classify(error) is FailureClass.WORKER
    assert reason_code(error) == reason
    assert reason in failures.REASONS


def test_torch_that_finds_no_memory_is_out_of_memory() -> None:
    error = _raised_by_torch()
    assert classify(error) is FailureClass.WORKER
    assert reason_code(error) == "out_of_memory"


def test_class_names_of_torch_have_not_changed() -> None:
    torch = pytest.importorskip("torch")
    assert reason_code(torch.OutOfMemoryError("x")) == "out_of_memory"
    assert reason_code(torch.cuda.OutOfMemoryError("x")) == "out_of_memory"
    assert reason_code(torch.AcceleratorError("x")) == "cuda_error"


def test_a_lost_machine_is_infrastructure_and_a_dead_actor_is_not() -> None:
    ray = pytest.importorskip("ray.exceptions")
    lost = [
        ray.RayActorError(preempted=True),
        ray.ActorUnavailableError("away", None),
        ray.NodeDiedError("x"),
        ray.ObjectLostError("00", None, ""),
        ray.OwnerDiedError("00", None, ""),
    ]
    assert [classify(error) for error in lost] == [FailureClass.INFRA] * len(lost)
    assert {reason_code(error) for error in lost} == {"machine_lost"}
    for error in (ray.ActorDiedError(), ray.RayActorError(), ray.WorkerCrashedError()):
        assert classify(error) is FailureClass.WORKER


def died(detail: str) -> Exception:
    """A dead actor in Ray's words."""
    ray = pytest.importorskip("ray.exceptions")
    error: Exception = ray.RayActorError(
        error_msg="The actor died unexpectedly before finishing this task.\n\tclass_name: A\n"
        f"The actor is dead because {detail}"
    )
    return error


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        (
            "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker"
            " unexpectedly exits with a connection error code 2. End of file. Some common causes"
            " include: (1) the process was killed by the OOM killer due to high memory usage,",
            (FailureClass.KILLED, "worker_killed"),
        ),
        (
            "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker"
            " exits unexpectedly. Worker exits with an exit code 1. The process receives a"
            " SIGTERM.",
            (FailureClass.KILLED, "worker_killed"),
        ),
        ("it was killed by `ray.kill`.", (FailureClass.KILLED, "worker_killed")),
        (
            "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker"
            " exits unexpectedly. Worker exits with an exit code 3.",
            (FailureClass.WORKER, "worker_error"),
        ),
        ("its node has died.", (FailureClass.INFRA, "machine_lost")),
    ],
)
def test_how_an_actor_died_is_read_from_rays_words(
    detail: str, expected: tuple[FailureClass, str]
) -> None:
    error = died(detail)
    assert (classify(error), reason_code(error)) == expected


def test_rays_memory_monitor_kills_from_outside_and_the_next_worker_is_smaller() -> None:
    ray = pytest.importorskip("ray.exceptions")
    error = ray.OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")
    assert (classify(error), reason_code(error)) == (FailureClass.KILLED, "out_of_memory")


def test_a_device_without_memory_or_with_a_fault_is_told_from_what_a_library_says() -> None:
    assert failures.is_device_fault(MemoryError())
    assert failures.is_device_fault(RuntimeError("CUDA error: device-side assert triggered"))
    assert not failures.is_device_fault(RuntimeError("Expected a tensor of 3 dimensions"))
    assert not failures.is_device_fault(ValueError("CUDA error: only said by somebody"))


def test_our_error_is_known_again_when_ray_has_wrapped_it() -> None:
    ray = pytest.importorskip("ray.exceptions")
    wrapped = ray.RayTaskError("load", "trace", errors.CheckpointError("wrong weights"))
    assert classify(wrapped.as_instanceof_cause()) is FailureClass.SYSTEMIC


def test_reasons_of_every_item_error_are_in_the_closed_set() -> None:
    of_method = names.find(names.DEFAULT).REASONS.keys()
    assert {
        vars(kind)["reason"] for kind in _tree(errors.ItemError)
    } <= failures.REASONS | of_method


@pytest.mark.parametrize(
    ("caps", "found"),
    [
        ({"max_crashes": 4, "max_crashes_alone": 4}, "max_worker_crashes is 8"),
        ({"max_kills_alone": 7}, "max_worker_crashes is 8"),
        ({"max_kills_alone": 0}, "max_kills_alone is 0"),
        ({"max_worker_crashes": 2}, "max_worker_crashes is 2"),
        ({"max_crashes": 0}, "max_crashes is 0"),
        ({"max_crashes_alone": 0}, "max_crashes_alone is 0"),
        ({"max_infra_retries": -1}, "max_infra_retries is -1"),
        ({"lease_s": 0.0}, "lease_s is 0.0"),
        ({"lease_s": float("nan")}, "lease_s is nan"),
    ],
)
def test_caps_that_contradict_each_other_are_refused(caps: dict[str, float], found: str) -> None:
    with pytest.raises(errors.ConfigError, match=found):
        Caps(**caps)  # type: ignore[arg-type]


def test_a_worker_may_crash_more_often_than_one_item_can_make_it() -> None:
    for caps in (Caps(), Caps(max_crashes=2, max_crashes_alone=2, max_worker_crashes=8)):
        most = max(caps.max_crashes_alone, caps.max_kills_alone)
        assert caps.max_worker_crashes > caps.max_crashes + most


def test_failures_and_leases_load_neither_torch_nor_ray() -> None:
    script = (
        "import sys; import insetgan_batch.runtime.leases, insetgan_batch.runtime.failures;"
        "sys.exit(bool({'torch', 'ray', 'numpy', 'boto3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
