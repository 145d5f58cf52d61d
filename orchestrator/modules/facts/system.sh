# The facts that cost little. For os-release see os-release(5).
first() {
  for f_first_one; do
    if has "${f_first_one#*:}"; then echo "${f_first_one%%:*}"; return; fi
  done
  echo unknown
}
# family ID ID_LIKE: print the oldest known ancestor of a distribution.
family() {
  for f_family_id in $1 $2; do
    case $f_family_id in
    debian|ubuntu|raspbian|linuxmint) echo debian; return;;
    rhel|fedora|centos|rocky|almalinux|ol|amzn|scientific) echo redhat; return;;
    suse|opensuse*|sles|sled) echo suse; return;;
    arch|manjaro|archarm) echo arch; return;;
    alpine) echo alpine; return;;
    gentoo) echo gentoo; return;;
    esac
  done
  echo "${1:-unknown}"
}
# Reads f_tab f_nl.
released() {
  for f_released_file in /etc/os-release /usr/lib/os-release; do
    [ -r "$f_released_file" ] || continue
    (
      unset ID ID_LIKE VERSION_ID VERSION_CODENAME
      . "$f_released_file"
      put distro "${ID-linux}"
      put release "${VERSION_ID-}"
      put codename "${VERSION_CODENAME-}"
      put family "$(family "${ID-linux}" "${ID_LIKE-}")"
    )
    return
  done
  f_released_os=$(uname -s | tr '[:upper:]' '[:lower:]')
  put distro "$f_released_os"
  put release "$(uname -r)"
  put codename ''
  put family "$f_released_os"
}
started() {
  if [ -d /run/systemd/system ]; then echo systemd
  elif [ -d /run/openrc ] || has rc-service; then echo openrc
  elif has launchctl; then echo launchd
  elif [ -d /etc/init.d ]; then echo sysv
  else echo unknown
  fi
}
cpus() { getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1; }
# meminfo NAME: print a number of /proc/meminfo in bytes.
meminfo() { awk -v name="$1:" '$1 == name { printf "%.0f\n", $2 * 1024 }' /proc/meminfo; }
memory() {
  if [ -r /proc/meminfo ]; then f_memory_bytes=$(meminfo MemTotal)
  else f_memory_bytes=$(sysctl -n hw.memsize 2>/dev/null || sysctl -n hw.physmem 2>/dev/null) || f_memory_bytes=0
  fi
  echo $((${f_memory_bytes:-0} / 1048576))
}
swap() {
  f_swap_bytes=0
  [ ! -r /proc/meminfo ] || f_swap_bytes=$(meminfo SwapTotal)
  echo $((${f_swap_bytes:-0} / 1048576))
}
uptime_seconds() {
  if [ -r /proc/uptime ]; then awk '{ printf "%d\n", $1 }' /proc/uptime
  else
    f_uptime_seconds_boot=$(sysctl -n kern.boottime 2>/dev/null | sed -n 's/.*{ *sec = *\([0-9]*\).*/\1/p')
    echo $(($(date +%s) - ${f_uptime_seconds_boot:-$(date +%s)}))
  fi
}
timezone() {
  f_timezone_link=
  [ ! -L /etc/localtime ] || f_timezone_link=$(readlink /etc/localtime)
  case $f_timezone_link in
  */zoneinfo/*) echo "${f_timezone_link##*/zoneinfo/}";;
  *)
    f_timezone_name=$(first_line /etc/timezone)
    [ -n "$f_timezone_name" ] || f_timezone_name=$(date +%Z)
    echo "$f_timezone_name";;
  esac
}
locale_name() {
  for f_locale_name_file in /etc/locale.conf /etc/default/locale; do
    [ -r "$f_locale_name_file" ] || continue
    f_locale_name_lang=$(sed -n "s/^LANG=[\"']\{0,1\}\([^\"']*\).*/\1/p" "$f_locale_name_file" | head -n 1)
    if [ -n "$f_locale_name_lang" ]; then echo "$f_locale_name_lang"; return; fi
  done
  echo "${LANG-}"
}
selinux_mode() {
  for f_selinux_mode_file in /sys/fs/selinux/enforce /selinux/enforce; do
    [ -r "$f_selinux_mode_file" ] || continue
    case $(first_line "$f_selinux_mode_file") in 1) echo enforcing;; *) echo permissive;; esac
    return
  done
  echo disabled
}
# Reads f_tab f_nl.
collect_system() {
  put os "$(uname -s | tr '[:upper:]' '[:lower:]')"
  put kernel "$(uname -r)"
  put arch "$(uname -m)"
  released
  put hostname "$(uname -n)"
  put packager "$(first apt:apt-get dnf:dnf yum:yum apk:apk zypper:zypper pacman:pacman brew:brew pkg:pkg)"
  put init "$(started)"
  put user "$(id -un 2>/dev/null || id -u)"
  put uid "$(id -u)"
  put home "${HOME-}"
  put cpus "$(cpus)"
  put memory "$(memory)"
  put swap "$(swap)"
  put uptime "$(uptime_seconds)"
  put timezone "$(timezone)"
  put locale "$(locale_name)"
  put selinux "$(selinux_mode)"
}
collect_system
