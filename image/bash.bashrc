# shellcheck shell=sh disable=SC1091
# What the launcher planned, where the way in has not set it: docker exec ... bash, ssh HOST CMD.
# First in this file, because Debian's part returns at once where the shell is not interactive.
if [ -r /run/launcher/environment.sh ]; then
    . /run/launcher/environment.sh
fi

