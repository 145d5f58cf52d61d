# The probe of `orch doctor`: prints lines KEY TEXT, the last one `end`. It changes nothing. It is
# preceded by the variables `tools` and `more` (names of commands; the latter are also searched in
# sbin) and `method`; its arguments are the users to become, which the output identifies by number.
# Variables are named as in functions.sh.
set +e -f
export LC_ALL=C
tell() { printf '%s\n' "$*"; }
tell "clock $(date +%s)"
f_nl='
'
f_exe=$(readlink "/proc/$$/exe") || f_exe=sh
case $BASH_VERSION$KSH_VERSION in
'') tell "shell ${f_exe##*/}";;
"$BASH_VERSION") tell shell bash;;
*) tell shell ksh;;
esac 2>/dev/null

# last COMMAND: the last line of its output.
# Sets f_line.
last() { f_line=$("$@" 2>/dev/null) || f_line=; f_line=${f_line##*"$f_nl"}; }
# room NAME FOLDER
room() {
  tell "$1.path $2"
  [ -d "$2" ] || { tell "$1.is missing"; return; }
  [ -w "$2" ] && [ -x "$2" ] || tell "$1.is closed"
  last df -Pi "$2"; tell "$1.inodes $f_line"
  last df -Pk "$2"; tell "$1.blocks $f_line"
  # busybox's test -w always succeeds for root
  f_room_at=${f_line##*% } f_room_is=
  while read -r f_room_x f_room_dir f_room_x f_room_options f_room_x; do
    [ "$f_room_dir" != "$f_room_at" ] || f_room_is=$f_room_options
  done </proc/mounts
  case ,$f_room_is, in *,ro,*) tell "$1.is readonly";; esac
} 2>/dev/null
room home "$HOME"
room tmp "${TMPDIR:-/tmp}"

lack() {
  for f_lack_one; do command -v "$f_lack_one" >/dev/null 2>&1 || tell "lacks $f_lack_one"; done
}
lack $tools
f_path=$PATH
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
lack $more
PATH=$f_path

# With -k sudo ignores cached credentials and caches none. su prompts on a terminal and logs failed
# attempts, so it is run as root only.
become() {
  command -v "$method" >/dev/null 2>&1 || { echo "$method: not found"; return 127; }
  case $method in
  sudo) sudo -k -n -H -u "$1" -- sh -c :;;
  doas) doas -n -u "$1" sh -c :;;
  su) if [ "$(id -u)" = 0 ]; then su -s /bin/sh -c : "$1"; else echo "it asks for a password"; false; fi;;
  esac
}
f_me=$(id -un 2>/dev/null) f_number=0
for f_user; do
  f_number=$((f_number+1))
  [ "$f_user" != "$f_me" ] || continue
  f_output=$(become "$f_user" 2>&1 </dev/null)
  tell "become $f_number $?" $f_output
done
tell end
