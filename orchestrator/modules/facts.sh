# Collects `facts`: prints lines KEY=VALUE. For os-release see os-release(5). Variables are named as
# in functions.sh.
export LC_ALL=C
has() { command -v "$1" >/dev/null 2>&1; }
first() {
  for f_first_one; do
    if has "${f_first_one#*:}"; then echo "${f_first_one%%:*}"; return; fi
  done
  echo unknown
}
released() {
  for f_released_file in /etc/os-release /usr/lib/os-release; do
    [ -r "$f_released_file" ] || continue
    (unset ID VERSION_ID; . "$f_released_file"; printf 'distro=%s\nrelease=%s\n' "${ID-linux}" "${VERSION_ID-}")
    return
  done
  printf 'distro=%s\nrelease=%s\n' "$(uname -s | tr '[:upper:]' '[:lower:]')" "$(uname -r)"
}
started() {
  if [ -d /run/systemd/system ]; then echo systemd
  elif [ -d /run/openrc ] || has rc-service; then echo openrc
  elif [ -d /etc/init.d ]; then echo sysv
  else echo unknown
  fi
}
cpus() { getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1; }
memory() {
  f_memory_bytes=$(sysctl -n hw.memsize 2>/dev/null || sysctl -n hw.physmem 2>/dev/null) || f_memory_bytes=0
  [ ! -r /proc/meminfo ] || f_memory_bytes=$(awk '$1 == "MemTotal:" { printf "%.0f\n", $2 * 1024 }' /proc/meminfo)
  echo $((${f_memory_bytes:-0} / 1048576))
}
printf 'os=%s\n' "$(uname -s | tr '[:upper:]' '[:lower:]')"
printf 'arch=%s\n' "$(uname -m)"
released
printf 'hostname=%s\n' "$(uname -n)"
printf 'packager=%s\n' "$(first apt:apt-get dnf:dnf yum:yum apk:apk zypper:zypper pacman:pacman brew:brew pkg:pkg)"
printf 'init=%s\n' "$(started)"
printf 'user=%s\n' "$(id -un 2>/dev/null || id -u)"
printf 'cpus=%s\n' "$(cpus)"
printf 'memory=%s\n' "$(memory)"
