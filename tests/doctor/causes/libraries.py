"""Which libraries the dynamic loader takes instead of the driver's own."""

from __future__ import annotations

import sys

from testing.doctor.scenario import SHORT, Scenario
from testing.doctor.tree import (
    LIBRARIES,
    answering,
    libraries_in,
    linked,
    of_wrong_class,
    only_libcuda_in,
    removed,
    written,
)

COMPAT = "usr/local/cuda-12.6/compat"
STUBS = "usr/local/cuda/lib64/stubs"
OLD = "opt/old-driver/lib"
VGPU = "/usr/local/vgpu/libvgpu.so"
FOREIGN = "\x7fELF\1\1\1" + 11 * "\0" + "\x28\0"  # 32 bits, Arm

LIBRARY = (
    Scenario(
        "stub", "A build's stub library comes first.", "libraries.stub",
        tree=(libraries_in(STUBS, changes={"faults": {"cuInit": "return 34"}}),),
        environ={"LD_LIBRARY_PATH": f"/{STUBS}:/{LIBRARIES}"}, seen=("34", STUBS),
        names=("export LD_LIBRARY_PATH=",), dropped=(STUBS,),
    ),
    Scenario(
        "compat-geforce", "A compatibility library on a GeForce card.",
        "libraries.compat_unsupported",
        tree=(libraries_in(COMPAT, "560.35.03", {"faults": {"cuInit": "return 804"}}),),
        environ={"LD_LIBRARY_PATH": f"/{COMPAT}:/{LIBRARIES}"}, seen=("804", COMPAT),
        names=("export LD_LIBRARY_PATH=",), dropped=(COMPAT,),
    ),
    Scenario(
        "compat", "A compatibility library that does not work with this driver.",
        "libraries.compat", machine="h100-8x",
        tree=(libraries_in(COMPAT, "535.54.03", {"faults": {"cuInit": "return 803"}}),),
        environ={"LD_LIBRARY_PATH": f"/{COMPAT}:/{LIBRARIES}"}, seen=(COMPAT,),
        names=("export LD_LIBRARY_PATH=",), dropped=(COMPAT,),
    ),
    Scenario(
        "second-driver", "The image brought a driver of its own.", "libraries.second_driver",
        changes={"faults": {"cuInit": "return 803"}},
        tree=(
            removed(f"{LIBRARIES}/libcuda*"),
            only_libcuda_in(LIBRARIES, "545.23.08"),
        ),
        seen=("545.23.08", "550.127.05"),
    ),
    Scenario(
        "shadowed", "LD_LIBRARY_PATH puts another libcuda first.", "libraries.shadowed",
        tree=(libraries_in(OLD, "545.23.08", {"faults": {"cuInit": "return 803"}}),),
        environ={"LD_LIBRARY_PATH": f"/{OLD}:/{LIBRARIES}"}, seen=(OLD,),
        names=("export LD_LIBRARY_PATH=",), dropped=(OLD,),
    ),
    Scenario(
        "preload-hangs", "A library of /etc/ld.so.preload hangs in the first call of CUDA.",
        "libraries.system_preload", changes={"faults": {"cuInit": "hang"}}, environ=SHORT,
        tree=(written("etc/ld.so.preload", f"{VGPU}\n"), linked(VGPU[1:], sys.executable)),
        seen=(VGPU, "hangs"), names=(VGPU, "/etc/ld.so.preload", "HAMi"),
    ),
    Scenario(
        "preload-missing", "/etc/ld.so.preload names a library that nobody mounted.",
        tree=(written("etc/ld.so.preload", f"{VGPU}\n"),),
        warns=("libraries.preload_broken",), seen=(VGPU, "is not there"),
        names=(VGPU, "/etc/ld.so.preload", "HAMi"),
    ),
    Scenario(
        "preload-foreign", "/etc/ld.so.preload names a library of another architecture.",
        tree=(written("etc/ld.so.preload", f"{VGPU}\n"), written(VGPU[1:], FOREIGN)),
        warns=("libraries.preload_broken",), seen=(VGPU, "another kind of machine"),
        names=(VGPU, "/etc/ld.so.preload"),
    ),
    Scenario(
        "preload", "LD_PRELOAD brings another libcuda.", "libraries.preload",
        tree=(libraries_in(OLD, "545.23.08", {"faults": {"cuInit": "return 803"}}),),
        environ={"LD_PRELOAD": f"/{OLD}/libcuda.so.1"}, names=("LD_PRELOAD",),
    ),
    Scenario(
        "second-nvml", "An older NVML comes first.", "libraries.second_nvml",
        tree=(libraries_in(OLD, "545.23.08", {"faults": {"nvmlInit": "return 18"}}),
              removed(f"{OLD}/libcuda*")),
        environ={"LD_LIBRARY_PATH": f"/{OLD}:/{LIBRARIES}"}, seen=("18", OLD),
        names=("export LD_LIBRARY_PATH=",), dropped=(OLD,),
    ),
    Scenario(
        "wrong-class", "libcuda.so.1 is a 32-bit library.", "libraries.broken",
        tree=(of_wrong_class(f"{LIBRARIES}/libcuda.so.1"),), seen=("ELF",),
    ),
    Scenario(
        "nvml-wrong-class", "libnvidia-ml.so.1 is a 32-bit library; CUDA works.",
        tree=(of_wrong_class(f"{LIBRARIES}/libnvidia-ml.so.1"),),
        warns=("libraries.broken_nvml",),
    ),
    Scenario(
        "wsl-shadowed", "WSL: a Linux driver was installed over Windows' own.",
        "libraries.wsl_shadowed",
        tree=(
            removed("dev/nvidia*", "proc/driver/nvidia", "sys/bus/pci/devices/*"),
            written("dev/dxg", ""),
            libraries_in("usr/lib/wsl/lib"),
            answering(LIBRARIES, {"faults": {"cuInit": "return 100"}}),
        ),
        environ={"LD_LIBRARY_PATH": f"/{LIBRARIES}:/usr/lib/wsl/lib"}, names=("apt",),
    ),
    Scenario(
        "not-in-cache", "The driver's folder is not one that the loader searches.",
        "libraries.not_in_cache",
        tree=(removed(f"{LIBRARIES}/*"), libraries_in("usr/local/nvidia/lib64")),
        names=("/usr/local/nvidia/lib64",),
    ),
    Scenario(
        "several", "Two versions of libcuda; the right one is taken.",
        tree=(libraries_in(OLD, "545.23.08"),),
        environ={"LD_LIBRARY_PATH": f"/{LIBRARIES}:/{OLD}"}, warns=("libraries.several",),
    ),
)  # fmt: skip
