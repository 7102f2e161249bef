"""What the files of the state directory are called: /var/lib/launcher, or LAUNCHER_STATE_DIR.

Each name stands here once; docs/security.md has their owners and modes.
"""

from __future__ import annotations

TOKEN = "token"
PASSWORD = "password"
LOGIN_KEY = "login_key"
ED25519_HOST_KEY = "ssh_host_ed25519_key"
RSA_HOST_KEY = "ssh_host_rsa_key"
ADDED_KEYS = "authorized_keys"  # by `launcher keys add`
CERTIFICATE = "jupyter_tls.pem"  # the self-signed one, with its key
