"""A stand-in for a user's systemd: `systemctl --user` that starts what a unit file names."""

from __future__ import annotations

from pathlib import Path

_SYSTEMCTL = r"""#!/bin/sh
[ "$1" = --user ] || exit 1
shift
echo "$*" >>STATE/calls
verb= unit=
for word; do case $word in -*) ;; *) if [ "$verb" ]; then unit=$word; else verb=$word; fi;; esac; done
file=$HOME/.config/systemd/user/$unit
end() {
  [ -f "STATE/$unit.pid" ] || return 0
  pid=$(cat "STATE/$unit.pid")
  kill "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}
case $verb in
show) printf '%s\n' NeedDaemonReload=no LoadState=loaded LoadError=;;
daemon-reload) ;;
is-enabled) if [ -e "STATE/$unit.enabled" ]; then echo enabled; else echo disabled; exit 1; fi;;
enable) [ -e "$file" ] && : >"STATE/$unit.enabled";;
disable) rm -f "STATE/$unit.enabled";;
stop) end;;
restart)
  end
  command=$(sed -n 's/^ExecStart=//p' "$file" | sed "s|%h|$HOME|g")
  setsid sh -c "echo \$\$ >'STATE/$unit.pid'; exec $command" </dev/null >"STATE/$unit.log" 2>&1 &
  ;;
*) exit 1;;
esac
"""

_LOGINCTL = """#!/bin/sh
echo "$*" >>STATE/logins
"""


def fake_user_systemd(folder: Path) -> dict[str, str]:
    """Write the programs to a folder; return the environment of a login with such a systemd.

    The calls are in its files ``calls`` and ``logins``. Units start once: unlike with systemd,
    nothing starts again.
    """
    (folder / "run/systemd").mkdir(parents=True)
    (folder / "bin").mkdir()
    for name, text in (("systemctl", _SYSTEMCTL), ("loginctl", _LOGINCTL)):
        program = folder / "bin" / name
        program.write_text(text.replace("STATE", str(folder)))
        program.chmod(0o755)
    return {"PATH": f"{folder}/bin:/usr/bin:/bin", "XDG_RUNTIME_DIR": f"{folder}/run"}
