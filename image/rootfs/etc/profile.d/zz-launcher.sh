# shellcheck shell=sh disable=SC1090,SC1091,SC3067
# Login shells, sudo -i too: all that the launcher planned (docs/architecture.md, "Files").
# -O: a shell reads what is its own user's; root never what somebody else can write.
if [ -O /run/launcher/login.sh ]; then
    . /run/launcher/login.sh
elif [ -O /run/launcher/user/login.sh ]; then
    . /run/launcher/user/login.sh
elif [ "$(id -u)" != 0 ]; then
    # A container that was started with --user has them here (launcher/folders.py); they are no
    # business of root's, who came in by `docker exec --user 0`.
    _launcher_folder=/tmp/launcher-$(id -u)
    if [ -O "$_launcher_folder" ] && [ -O "$_launcher_folder/login.sh" ]; then
        . "$_launcher_folder/login.sh"
    fi
    unset _launcher_folder
fi
