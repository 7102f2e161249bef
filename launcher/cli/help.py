"""What `launcher --help` prints."""

HELP = """\
usage: launcher COMMAND [ARGUMENT …]

  banner            print the banner again: URL, SSH line, devices
  url               print the Jupyter URL alone
  doctor [--help]   which layer of the GPU stack is broken, and what mends it
  topo [--json]     how the GPUs are connected, and what is odd about it
  record            describe this machine for a bug report (no serial, no UUID)
  keys              who may log in; let somebody else in, or out (as root)
  settings          list every setting, its default and its value here
  status [--json]   what runs and since when, what is wrong; exit 0 when well
  restart NAME      restart jupyter, ssh or an added program alone (as root)
  exec -- CMD …     run CMD as the workspace user with the planned environment
  healthcheck       exit 0 when the box is healthy, 1 with the reason when not

The pipeline, one stage at a time (JSON):
  detect            what this machine is
  plan              what will be done, and why
  render DIR        write what the services would read, below DIR
  start             do it all: what the container's entrypoint does

Inside the box:
  exec NAME         become the service NAME (supervisor calls this)
  watch             readiness, banner, health (supervisor calls this)
  post-start        after the banner, become /post_start.sh (supervisor does)

Settings are environment variables: docs/settings.md."""
