# shellcheck shell=sh disable=SC1090,SC1091,SC3067
# What the launcher planned, where the way in has not set it: docker exec ... bash, ssh HOST CMD.
# First in this file, because Debian's part returns at once where the shell is not interactive.
# -O: a shell reads what is its own user's; root never what somebody else can write.
if [ -O /run/launcher/environment.sh ]; then
    . /run/launcher/environment.sh
elif [ -O /run/launcher/user/environment.sh ]; then
    . /run/launcher/user/environment.sh
elif [ "$(id -u)" != 0 ]; then
    # A container that was started with --user has them here (launcher/folders.py); they are no
    # business of root's, who came in by `docker exec --user 0`.
    _launcher_folder=/tmp/launcher-$(id -u)
    if [ -O "$_launcher_folder" ] && [ -O "$_launcher_folder/environment.sh" ]; then
        . "$_launcher_folder/environment.sh"
    fi
    unset _launcher_folder
fi

# A terminal that this image has no description of (kitty's, Ghostty's): most can what xterm can.
if [ -t 0 ] && [ -n "${TERM-}" ] && command -v infocmp > /dev/null; then
    infocmp "$TERM" > /dev/null 2>&1 || export TERM=xterm-256color
fi

# A terminal completes the commands of `launcher`.
case $- in
    *i*) if [ -r /opt/launcher/completion.bash ]; then . /opt/launcher/completion.bash; fi ;;
esac

