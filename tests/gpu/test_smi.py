"""What is read of nvidia-smi's own words, as a driver 580 printed them on an H200."""

from __future__ import annotations

from testing.gpu.smi import read, read_list, read_nvlinks, read_topology

XML = """<?xml version="1.0" ?>
<nvidia_smi_log>
    <driver_version>580.159.04</driver_version>
    <cuda_version>13.0</cuda_version>
    <gpu id="00000000:00:06.0">
        <product_name>NVIDIA H200</product_name>
        <display_mode>Requested functionality has been deprecated</display_mode>
        <persistence_mode>Enabled</persistence_mode>
        <mig_mode><current_mig>Disabled</current_mig></mig_mode>
        <mig_devices>
            None
        </mig_devices>
        <clocks_event_reasons>
            <clocks_event_reason_gpu_idle>Active</clocks_event_reason_gpu_idle>
            <clocks_event_reason_sw_power_cap>Not Active</clocks_event_reason_sw_power_cap>
            <clocks_event_reason_hw_slowdown>Active</clocks_event_reason_hw_slowdown>
        </clocks_event_reasons>
        <fb_memory_usage><reserved>616 MiB</reserved></fb_memory_usage>
        <compute_mode>Exclusive_Process</compute_mode>
        <ecc_errors>
            <volatile>
                <sram_correctable>9</sram_correctable>
                <sram_uncorrectable_parity>1</sram_uncorrectable_parity>
                <dram_uncorrectable>2</dram_uncorrectable>
            </volatile>
            <aggregate><dram_uncorrectable>7</dram_uncorrectable></aggregate>
        </ecc_errors>
        <retired_pages><pending_retirement>N/A</pending_retirement></retired_pages>
        <remapped_rows><remapped_row_pending>No</remapped_row_pending></remapped_rows>
        <fabric><state>N/A</state></fabric>
        <processes>
            <process_info><pid>7</pid><type>C</type></process_info>
            <process_info><pid>8</pid><type>G</type></process_info>
        </processes>
    </gpu>
</nvidia_smi_log>
"""


def test_a_gpu_of_the_xml() -> None:
    seen = read(XML)
    (gpu,) = seen.gpus
    assert (seen.driver_version, seen.cuda_version) == ("580.159.04", "13.0")
    assert gpu.text("product_name") == "NVIDIA H200"
    assert (gpu.flag("persistence_mode"), gpu.flag("mig_mode/current_mig")) == (True, False)
    assert gpu.mebibytes("fb_memory_usage/reserved") == 616 << 20
    assert (gpu.slowdown, gpu.compute_mode, gpu.ecc_errors) == (0x9, 3, 3)
    assert (gpu.processes, gpu.mig_devices, gpu.remap_pending) == (1, [], False)


def test_what_is_not_told_is_none() -> None:
    (gpu,) = read(XML).gpus
    assert gpu.text("display_mode") is None
    assert gpu.text("fabric/state") is None
    assert gpu.number("power_readings/power_draw") is None
    assert gpu.flag("retired_pages/pending_retirement") is None
    (silent,) = read("<nvidia_smi_log><gpu/></nvidia_smi_log>").gpus
    assert (silent.slowdown, silent.ecc_errors, silent.remap_pending) == (None, None, None)


def test_the_matrix_with_its_underline_and_its_second_tab() -> None:
    printed = "\t\x1b[4mGPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    printed += "GPU0\t X \t0-15\t0\t\tN/A\n\nLegend:\n\n  X    = Self\n"
    assert read_topology(printed) == {
        ("GPU0", "GPU0"): "X",
        ("GPU0", "CPU Affinity"): "0-15",
        ("GPU0", "NUMA Affinity"): "0",
        ("GPU0", "GPU NUMA ID"): "N/A",
    }


def test_an_empty_cell_moves_no_other() -> None:
    printed = "\tGPU0\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    printed += "GPU0\t X \tPIX\t\t1\t\tN/A\nNIC0\tPIX\t X \t\t\t\t\n"
    cells = read_topology(printed)
    assert cells["GPU0", "CPU Affinity"] == ""
    assert cells["GPU0", "NUMA Affinity"] == "1"
    assert cells["NIC0", "GPU0"] == "PIX"


def test_the_list_and_the_links() -> None:
    listing = "GPU 0: NVIDIA A100 (UUID: GPU-1)\n  MIG 2g.20gb     Device  0: (UUID: MIG-2)\n"
    assert read_list(listing) == {0: ["GPU-1", "MIG-2"]}
    links = "GPU 0: NVIDIA H100 (UUID: GPU-1)\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n"
    assert read_nvlinks(links) == {0: (1, 1)}
