"""Every cause that is built, lowest layer first."""

from __future__ import annotations

from testing.doctor.scenario import Scenario
from tests.doctor.causes.collective import COLLECTIVE, TALKING_WELL
from tests.doctor.causes.computing import CUDA, PYTORCH
from tests.doctor.causes.hardware import DRIVER, HARDWARE
from tests.doctor.causes.libraries import LIBRARY
from tests.doctor.causes.rdma import RDMA_WELL
from tests.doctor.causes.runtime import RUNTIME
from tests.doctor.causes.surroundings import ENVIRONMENT, RESOURCES

HEALTHY = (
    Scenario("healthy", "Two GPUs that work."),
    Scenario("healthy-board", "Eight GPUs behind NVSwitches that work.", machine="h100-8x"),
    Scenario("healthy-mig", "Three MIG instances that work.", machine="a100-mig"),
    Scenario("healthy-gb10", "A GPU that shares the CPU's memory.", machine="gb10"),
    Scenario("healthy-orin", "A Jetson, whose GPU has no PCI address.", machine="orin"),
    Scenario("healthy-vgpu", "A vGPU that has its licence.", machine="a100-vgpu",
             changes={"gpu 0": {"grid_license": "licensed"}}),
    Scenario("healthy-mask", "A mask that leaves one GPU out on purpose.",
             environ={"CUDA_VISIBLE_DEVICES": "1"}),
    Scenario("healthy-powerless", "Two GPUs that work, and a root without capabilities.",
             wrapper=("setpriv", "--bounding-set=-all", "--inh-caps=-all")),
    *RDMA_WELL,
    *TALKING_WELL,
)  # fmt: skip

CAUSES = (
    *HARDWARE, *DRIVER, *RUNTIME, *LIBRARY, *CUDA, *PYTORCH, *ENVIRONMENT, *RESOURCES,
    *COLLECTIVE,
)  # fmt: skip
