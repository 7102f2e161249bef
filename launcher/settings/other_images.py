"""Names that people know from other images: whose they are, and what we make of them.  Pure.

What a name that works here sets is in `settings.TABLE`; here is who documents it, so that the page
of settings can say, and every known name that does not work, with what to use instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from launcher.model.named_tuple import NamedTuple

_STACKS = "Jupyter Docker Stacks"
_SERVER = "linuxserver/openssh-server"
_VAST = "Vast.ai"
_RUNPOD = "RunPod"
_DOCK = "ai-dock"
_KUBEFLOW = "Kubeflow"
_OPENDATA = "Open Data Hub"
_WORKSPACE = "ml-workspace"
_HUB = "JupyterHub"

# Who documents a name that works here.  Those that a setting of ours took over count as well.
ORIGIN: Mapping[str, str] = {
    "JUPYTER_TOKEN": "Jupyter",
    "JUPYTER_TOKEN_FILE": "Jupyter",
    "JUPYTER_PASSWORD": f"{_RUNPOD}, axolotl",
    "JUPYTER_PASSWORD_FILE": "several images",
    "WEB_TOKEN": _DOCK,
    "WEB_PASSWORD": f"{_VAST}, {_DOCK}",
    "OPEN_BUTTON_TOKEN": _VAST,
    "JUPYTER_PORT": f"Jupyter, {_STACKS}",
    "NOTEBOOK_PORT": _OPENDATA,
    "WORKSPACE_PORT": _WORKSPACE,
    "JUPYTER_PORT_HOST": _DOCK,
    "SSH_PORT": f"{_DOCK}, axolotl",
    "LISTEN_PORT": _SERVER,
    "SSH_PORT_HOST": _DOCK,
    "WORKSPACE": f"{_VAST}, {_DOCK}",
    "JUPYTER_DIR": _VAST,
    "NOTEBOOK_ROOT_DIR": _OPENDATA,
    "RP_WORKSPACE": _RUNPOD,
    "PUBLIC_KEY": f"{_RUNPOD}, {_SERVER}",
    "PUBLIC_KEY_FILE": _SERVER,
    "PUBLIC_KEY_DIR": _SERVER,
    "SSH_PUBLIC_KEY": f"{_VAST}, {_DOCK}",
    "SSH_PUBLIC_KEYS": "several clouds",
    "SSH_PUBKEY": _DOCK,
    "SSH_KEY": "axolotl",
    "AUTHORIZED_KEYS": "several SSH images",
    "NB_USER": _STACKS,
    "NB_UID": _STACKS,
    "NB_GID": _STACKS,
    "NB_GROUP": _STACKS,
    "NB_UMASK": _STACKS,
    "CHOWN_HOME": _STACKS,
    "CHOWN_HOME_OPTS": _STACKS,
    "CHOWN_EXTRA": _STACKS,
    "CHOWN_EXTRA_OPTS": _STACKS,
    "GRANT_SUDO": _STACKS,
    "PUID": "linuxserver.io",
    "PGID": "linuxserver.io",
    "UMASK": "linuxserver.io",
    "SUDO_ACCESS": _SERVER,
    "PASSWORD_ACCESS": _SERVER,
    "JUPYTER_ENV_VARS_TO_UNSET": _STACKS,
    "JUPYTER_DOCKER_STACKS_QUIET": _STACKS,
    "NOTEBOOK_ARGS": _STACKS,
    "GEN_CERT": _STACKS,
    "ENABLE_HTTPS": _VAST,
    "WEB_ENABLE_HTTPS": _DOCK,
    "WORKSPACE_SSL_ENABLED": _WORKSPACE,
    "SHUTDOWN_INACTIVE_KERNELS": _WORKSPACE,
    "JUPYTER_DISABLE": "axolotl",
    "SAGEMAKER_RECOVERY_MODE": "SageMaker",
    "NB_PREFIX": _KUBEFLOW,
    "NOTEBOOK_BASE_URL": _OPENDATA,
    "WORKSPACE_BASE_URL": _WORKSPACE,
    "JUPYTERHUB_SERVICE_PREFIX": _HUB,
}

# Known names that no row of the table has: who documents them, and what they do here.
NO_SETTING: Mapping[str, tuple[str, str]] = {
    "RUNPOD_PUBLIC_IP": (_RUNPOD, "address in the banner"),
    "RUNPOD_TCP_PORT_<port>": (_RUNPOD, "port in the banner"),
    "RUNPOD_POD_ID": (_RUNPOD, "Jupyter's URL through RunPod's proxy"),
    "PUBLIC_IPADDR": (_VAST, "address in the banner"),
    "VAST_TCP_PORT_<port>": (_VAST, "port in the banner"),
    "NOMAD_HOST_PORT_<label>": ("Nomad", "port in the banner"),
    "DIRECT_ADDRESS": (_DOCK, "address in the banner"),
    "JUPYTERHUB_API_TOKEN": (_HUB, "a single-user server of that hub"),
    "CUDA_VISIBLE_DEVICES": ("CUDA", "kept and explained"),
    "CUDA_DEVICE_ORDER": ("CUDA", "kept"),
    "NVIDIA_VISIBLE_DEVICES": ("NVIDIA Container Toolkit", "which GPUs the container gets"),
    "NVIDIA_DRIVER_CAPABILITIES": ("NVIDIA Container Toolkit", "which parts of the driver"),
    "NVIDIA_REQUIRE_CUDA": ("NVIDIA Container Toolkit", "refuses older drivers"),
    "NVIDIA_DISABLE_REQUIRE": ("NVIDIA Container Toolkit", "starts on them all the same"),
    "OMP_NUM_THREADS": ("OpenMP", "kept, and so are its kin"),
    "HF_HOME": (_RUNPOD, "kept"),
    "PIP_CACHE_DIR": (_RUNPOD, "kept"),
    "UV_CACHE_DIR": (_RUNPOD, "kept"),
    "NO_COLOR": ("no-color.org", "a banner without colour"),
    "TZ": ("linuxserver.io", "read by the programs themselves"),
}

# Values that are a placeholder in other images' own templates, and so count as unset.
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "OPEN_BUTTON_TOKEN": ("1",),  # "make one, please": Vast.ai's templates
    "WEB_PASSWORD": ("password",),  # ai-dock's init.sh takes it for unset
    "JUPYTER_DIR": ("/",),  # Vast.ai's templates: what Jupyter may show, not where work is
}


class NotSupported(NamedTuple):
    """A known name without effect; one that ends in * stands for all that begin so."""

    name: str
    of: str
    instead: str
    already: tuple[str, ...] = ()  # values that ask for what is so anyway, in lower case
    quiet: bool = False  # platforms set it by themselves: no user wonders what became of it


_FALSE = ("0", "false", "no", "off")
_TRUE = ("1", "true", "yes", "on")
_OWN_IMAGE = "an image of your own, `FROM` this one"
_HOOKS = "a hook: `/etc/launcher/hooks.d`"
_LAB = "nothing: it is JupyterLab"

# fmt: off
NOT_SUPPORTED: tuple[NotSupported, ...] = (
    NotSupported("PUBLIC_KEY_URL", _SERVER, "`PUBLIC_KEY`: a start fetches nothing"),
    NotSupported("SSH_KEYS_URL", "several clouds", "`PUBLIC_KEY`: a start fetches nothing"),
    NotSupported("USER_NAME", f"{_SERVER}, {_DOCK}", "`NB_USER`"),
    NotSupported("GROUP_NAME", _SERVER, "`NB_GROUP`"),
    NotSupported("USER_PASSWORD", f"{_SERVER}, {_DOCK}",
                 "`PUBLIC_KEY`; without any key a random password is made and printed"),
    NotSupported("USER_PASSWORD_FILE", _SERVER, "as `USER_PASSWORD`"),
    NotSupported("ROOT_PASSWORD", "several SSH images", "`PUBLIC_KEY`: root has no password"),
    NotSupported("LOG_STDOUT", _SERVER, "nothing: sshd writes to the container's log", _TRUE),
    NotSupported("DOCKER_MODS", "linuxserver.io", _OWN_IMAGE),
    NotSupported("FILE__*", "linuxserver.io", "`JUPYTER_TOKEN_FILE`, `PUBLIC_KEY_FILE`"),
    NotSupported("WEB_USER", _DOCK, "nothing: Jupyter asks for the token alone", quiet=True),
    NotSupported("WEB_USERNAME", _VAST, "nothing: Jupyter asks for the token alone", quiet=True),
    NotSupported("WORKSPACE_AUTH_USER", _WORKSPACE, "nothing: Jupyter asks for the token alone"),
    NotSupported("WORKSPACE_AUTH_PASSWORD", _WORKSPACE, "`JUPYTER_TOKEN`"),
    NotSupported("AUTHENTICATE_VIA_JUPYTER", _WORKSPACE, "as `WEB_ENABLE_AUTH`", _TRUE),
    NotSupported("WEB_ENABLE_AUTH", _DOCK, "nothing: Jupyter always asks for its token", _TRUE),
    NotSupported("ENABLE_AUTH", _VAST, "nothing: Jupyter always asks for its token", _TRUE),
    NotSupported("JUPYTER_PORT_RETRIES", "Jupyter", "nothing: a port in use is named, status 78",
                 ("0",)),
    NotSupported("JUPYTER_TYPE", "several images", _LAB, ("lab",)),
    NotSupported("JUPYTER_MODE", _DOCK, _LAB, ("lab",)),
    NotSupported("DOCKER_STACKS_JUPYTER_CMD", _STACKS, _LAB, ("lab",)),
    NotSupported("JUPYTER_ENABLE_LAB", _STACKS, _LAB, _TRUE),
    NotSupported("RESTARTABLE", _STACKS, "nothing: Jupyter is restarted when it ends", _TRUE),
    NotSupported("DATA_DIRECTORY", _VAST, "`WORKSPACE`", ("/workspace", "/workspace/")),
    NotSupported("WORKSPACE_MOUNTED", _DOCK, "nothing: it is looked up", quiet=True),
    NotSupported("REQUIRE_GPU", "several images", "`LAUNCHER_REQUIRE_GPU`", _FALSE),
    NotSupported("ALLOW_CPU", "several images",
                 "nothing: a box without GPUs starts; `LAUNCHER_REQUIRE_GPU=1` refuses", _TRUE),
    NotSupported("UNSLOTH_ALLOW_CPU", "Unsloth", "as `ALLOW_CPU`", _TRUE),
    NotSupported("NVIDIA_CPU_ONLY", "NVIDIA NGC", "nothing: `launcher doctor`", quiet=True),
    NotSupported("DISABLE_FORWARD_COMPAT", _VAST, "nothing: `launcher doctor` says which driver "
                 "library is used"),
    NotSupported("VAST_CUDA_MAX_OVERRIDE", _VAST, "as `DISABLE_FORWARD_COMPAT`"),
    NotSupported("MINSMVER", "NVIDIA NGC", "nothing: `launcher doctor` compares GPUs and PyTorch"),
    NotSupported("MAXSMVER", "NVIDIA NGC", "as `MINSMVER`"),
    NotSupported("NVIDIA_SHM_FLAGS", "NVIDIA NGC", "nothing: the banner has the flag to use"),
    NotSupported("DISABLE_MOFED_VERSION_WARNING", "NVIDIA NGC", "nothing: no such warning"),
    NotSupported("GPU_COUNT", f"{_VAST}, {_DOCK}", "nothing: GPUs are counted", quiet=True),
    NotSupported("RUNPOD_GPU_COUNT", _RUNPOD, "nothing: GPUs are counted", quiet=True),
    NotSupported("DSTACK_GPUS_PER_NODE", "dstack", "nothing: GPUs are counted", quiet=True),
    NotSupported("MAX_NUM_THREADS", _WORKSPACE, "`OMP_NUM_THREADS`", ("auto",)),
    NotSupported("VAST_CPU_THREAD_CEILING", _VAST, "`OMP_NUM_THREADS`"),
    NotSupported("VAST_UDP_PORT_*", _VAST, "nothing: no service of ours uses UDP", quiet=True),
    NotSupported("DIRECT_ADDRESS_GET_WAN", _DOCK, "`DIRECT_ADDRESS`: a start asks nobody", _FALSE),
    NotSupported("CF_QUICK_TUNNELS", _DOCK, "`ssh -L 8888:127.0.0.1:8888 …`", _FALSE),
    NotSupported("CF_TUNNEL_TOKEN", _DOCK, "`ssh -L 8888:127.0.0.1:8888 …`"),
    NotSupported("PROVISIONING_SCRIPT", f"{_VAST}, {_DOCK}", _HOOKS),
    NotSupported("PROVISIONING_MANIFEST", _VAST, _OWN_IMAGE),
    NotSupported("BOOT_SCRIPT", _VAST, _HOOKS),
    NotSupported("HOTFIX_SCRIPT", _VAST, _HOOKS),
    NotSupported("ENVBUILDER_INIT_SCRIPT", "envbuilder", _HOOKS),
    NotSupported("EXTRA_PIP_PACKAGES", "RAPIDS", "`pip install`, or " + _OWN_IMAGE),
    NotSupported("EXTRA_CONDA_PACKAGES", "RAPIDS", "`pip install`, or " + _OWN_IMAGE),
    NotSupported("CONDA_TIMEOUT", "RAPIDS", "nothing: there is no conda"),
    NotSupported("PIP_PACKAGES", f"{_VAST}, {_DOCK}", "`pip install`, or " + _OWN_IMAGE),
    NotSupported("APT_PACKAGES", f"{_VAST}, {_DOCK}", "`sudo apt-get install`, or " + _OWN_IMAGE),
    NotSupported("SUPERVISOR_NO_AUTOSTART", f"{_VAST}, {_DOCK}", "`LAUNCHER_SERVICES`"),
    NotSupported("SERVERLESS", f"{_VAST}, {_DOCK}", "`docker run IMAGE CMD…`", _FALSE),
    NotSupported("ENABLE_AGENT_BANNER", _VAST, "`LAUNCHER_QUIET`"),
    NotSupported("S6_*", "s6-overlay", "`LAUNCHER_READY_TIMEOUT`, `LAUNCHER_STOP_TIMEOUT`; "
                 "supervisor restarts services"),
    NotSupported("KILL_PROCESS_TIMEOUT", "phusion/baseimage", "`LAUNCHER_STOP_TIMEOUT`"),
    NotSupported("KILL_ALL_PROCESSES_TIMEOUT", "phusion/baseimage", "`LAUNCHER_STOP_TIMEOUT`"),
    NotSupported("TINI_*", "tini", "nothing: PID 1 reaps and forwards", quiet=True),
)
# fmt: on

_MOST_NAMED = 8
# In the names of what people take for a password, and before a public key.
_SECRET, _KEY = ("PASS", "TOKEN", "_PW"), ("ssh-", "ecdsa-", "sk-")


def strangers(environ: Mapping[str, str], ours: Collection[str]) -> Iterator[str]:
    """Yield a warning for what is a setting elsewhere, and none here.

    Args:
        ours: names of settings.
    """
    looked_at = {
        name: text
        for name, text in environ.items()
        if name not in ours
        and text.strip()
        and (any(word in name for word in _SECRET) or text.lstrip("'\" ").startswith(_KEY))
    }
    found: Mapping[str, str] = {}
    if looked_at:
        from launcher.settings import ways_in  # seldom needed, and PID 1 is in a hurry

        found = ways_in.instead(looked_at)
        yield from ways_in.notes(found)
    yield from without_effect({name: environ[name] for name in environ if name not in found})


def without_effect(environ: Mapping[str, str]) -> list[str]:
    """Return one warning that names every variable that is known elsewhere and does nothing here.

    Not those that a platform sets by itself, nor those that ask for what is so anyway.
    """
    names = sorted({name for row in NOT_SUPPORTED for name in _set(row, environ)})
    if not names:
        return []
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [
        f"known from other images, without effect here: {', '.join(names[:_MOST_NAMED])}{more}; "
        "docs/settings.md has what to use instead"
    ]


def _set(row: NotSupported, environ: Mapping[str, str]) -> list[str]:
    if row.quiet:
        return []
    if row.name.endswith("*"):
        prefix = re.escape(row.name[:-1])
        return [name for name in environ if re.fullmatch(prefix + r"[A-Z0-9_]{1,40}", name)]
    value = environ.get(row.name, "").strip().lower()
    return [row.name] if value and value not in row.already else []


def old_hub(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning where a JupyterHub older than 2.0 started this box.

    Since 2.0 a hub tells where it will look (JUPYTERHUB_SERVICE_URL); an older one gives its token,
    its API and the prefix alone, and speaks to a server of its own version.
    """
    told = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_SERVICE_PREFIX")
    if all(environ.get(name) for name in told) and not environ.get("JUPYTERHUB_SERVICE_URL"):
        yield (
            "a JupyterHub older than 2.0 started this box, and this image's jupyterhub is newer, "
            "so it starts no server of the hub's: pip install jupyterhub==VERSION, the hub's, in "
            "an image of your own, or a newer hub"
        )


def is_behind_a_proxy(env: Mapping[str, str]) -> bool:
    """Return whether a notebook controller of Kubernetes' asks for no token.

    Kubeflow's and Open Data Hub's put a proxy before it that asks who somebody is.
    """
    return bool(env.get("NB_PREFIX") and env.get("KUBERNETES_SERVICE_HOST"))
