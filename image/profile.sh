# shellcheck shell=sh disable=SC1091
# Login shells: what the launcher planned, where the way in has not set it (docs/architecture.md).
if [ -r /run/launcher/environment.sh ]; then
    . /run/launcher/environment.sh
fi
# /etc/profile has just replaced PATH.
if [ -r /run/launcher/path.sh ]; then
    . /run/launcher/path.sh
fi
