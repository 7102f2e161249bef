"""What `launcher` can be told, by name: people type these as a container's command, too."""

from __future__ import annotations

NAMES = (
    "banner", "url", "status", "metrics", "logs", "start", "run", "stop", "restart", "reload",
    "keys", "exec", "healthcheck", "torchrun", "cluster", "doctor", "explain", "topo", "record",
    "settings", "detect", "plan", "render", "version", "completion", "watch", "post-start",
)  # fmt: skip
