"""deploy/jupyterhub/jupyterhub_config.py under a real hub: the GPUs that its form was told."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import pytest

from testing.container import kernel
from testing.container.engine import Docker
from testing.container.hub import CONFIG, running_hub

USER = "docker"


@pytest.mark.long
def test_a_user_s_server_is_a_box_with_one_gpu(docker: Docker, image: str, tmp_path: Path) -> None:
    """It opens in a browser, keeps its work in volumes of its own, and computes on its GPU."""
    config = CONFIG.with_name("hub_config_docker.py")
    try:
        with running_hub(docker, image, tmp_path, config) as hub:
            browser = hub.log_in(USER)
            form = {"gpus": "one GPU", "_xsrf": browser.cookie("_xsrf", "/hub/")}
            browser.get(f"/hub/spawn/{USER}", data=urlencode(form).encode())
            browser.open_server(USER)
            server = kernel.Server(f"{hub.url}/user/{USER}/lab?token={browser.new_token(USER)}")
            cell = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.getcwd())"
            assert server.run_cell(cell) == "0 /workspace\n"
            host = hub.box(USER).inspect()["HostConfig"]
            assert host["ShmSize"] == 8 << 30
            assert host["Memory"] == 32 << 30
            assert host["CpuQuota"] == 8 * host["CpuPeriod"]
            assert [bind.split(":")[1] for bind in host["Binds"]] == [
                "/workspace",
                "/var/lib/launcher",
            ]
    finally:
        names = docker("volume", "ls", "--quiet", "--filter", f"name={USER}-").stdout.split()
        docker("volume", "rm", *names, check=False)
