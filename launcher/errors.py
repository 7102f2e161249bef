"""The ways a start ends without a box.  Imports nothing, so that everybody may."""


class LauncherError(Exception):
    """A stop that is the user's to mend; `exit_code` is the process's status."""

    exit_code = 70


class BadSetting(LauncherError):
    """A setting that cannot be used: sysexits EX_CONFIG."""

    exit_code = 78


class NoUsableGpu(LauncherError):
    """LAUNCHER_REQUIRE_GPU asked for GPUs that are not there: sysexits EX_UNAVAILABLE."""

    exit_code = 69


class StartFailed(LauncherError):
    """Something the box cannot do without did not come up: sysexits EX_SOFTWARE."""
