# shellcheck shell=sh disable=SC1090,SC1091,SC3067
# Login shells, sudo -i too: all that the launcher planned (docs/architecture.md, "Files").
# -O: a shell reads what is its own user's; root never what somebody else can write.
# A container that was started with --user has them in /tmp (launcher/settings/folders.py); they are
# no business of root's, who came in by `docker exec --user 0`.
_launcher_folder=/tmp/launcher-$(id -u)
if [ -O /run/launcher/login.sh ]; then
    . /run/launcher/login.sh
elif [ -O /run/launcher/user/login.sh ]; then
    . /run/launcher/user/login.sh
elif [ "$_launcher_folder" != /tmp/launcher-0 ] && [ -O "$_launcher_folder" ] \
    && [ -O "$_launcher_folder/login.sh" ]; then
    . "$_launcher_folder/login.sh"
else
    # A command (docker run IMAGE bash -lc …), or another entrypoint: there is no plan, only the PATH
    # that this shell was started with, and that Debian's /etc/profile has replaced.
    _launcher_path=$({ tr '\0' '\n' < /proc/$$/environ | sed -n 's/^PATH=//p'; } 2> /dev/null)
    case ":$_launcher_path:" in
        *:/opt/venv/bin:*) PATH=$_launcher_path ;;
        *) PATH=$PATH:/opt/venv/bin ;; # su -, sudo -i
    esac
    export PATH
    unset _launcher_path
fi
unset _launcher_folder
