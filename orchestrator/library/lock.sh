# A lock is a folder; what it holds says whose it is. Before this stand `lock` (its path), `holder`
# (lines KEY=VALUE without a newline in them) and `run`. Its owner is alive as long as the shell
# is that took it, or that took it over after it: when the other side dies, sshd ends that shell.
# Variables are called as in functions.sh.
beats() {
  f_beats_stat=$(cat "/proc/$1/stat" 2>/dev/null) || f_beats_stat=
  set -f
  set -- "$1" ${f_beats_stat##*)}
  echo "$1.${21-}"
}
alive() {
  f_alive_pid=${1%%.*}
  case $f_alive_pid in ''|*[!0-9]*) return 1;; esac
  if [ -e /proc/self/stat ]; then [ -e "/proc/$f_alive_pid/stat" ] && [ "$(beats "$f_alive_pid")" = "$1" ]
  else ps -p "$f_alive_pid" >/dev/null 2>&1
  fi
}
said() {
  while IFS= read -r f_said_line; do
    case $f_said_line in "$1="*) printf '%s\n' "${f_said_line#*=}";; esac
  done <"$lock/holder"
}
sign() {
  printf 'shell=%s\n%s\n' "$(beats $PPID)" "$holder" >"$lock/$run" && mv -f -- "$lock/$run" "$lock/holder"
}
take() {
  umask 022
  mkdir -p -- "${lock%/*}"
  if mkdir -- "$lock" 2>/dev/null; then sign; exit; fi
  [ -d "$lock" ] || { mkdir -- "$lock"; exit 1; }
  show
  exit 75
}
# The lines of its holder, and `state=` held, stale or odd.
show() {
  [ -r "$lock/holder" ] || { sleep 1; [ -r "$lock/holder" ]; } || { echo state=odd; return 0; }
  cat -- "$lock/holder"
  if alive "$(said shell)"; then echo state=held; else echo state=stale; fi
}
mine() { [ -r "$lock/holder" ] && [ "$(said run)" = "$run" ]; }
renew() { if mine; then sign; else exit 75; fi; }
free() { if mine; then drop; fi; }
drop() {
  [ -d "$lock" ] || return 0
  f_drop_gone=$lock.$run.gone
  mv -- "$lock" "$f_drop_gone" && rm -rf -- "$f_drop_gone"
}
# For people: whose it is; and letting go of one that is not ours.
# Sets f_state.
tell() {
  f_state=
  [ -d "$lock" ] || { echo free; return 0; }
  f_state=$(
    show | while IFS= read -r f_tell_line; do
      case $f_tell_line in state=*) echo "${f_tell_line#*=}";; esac
    done
  )
  if [ "$f_state" = odd ]; then echo "held by nobody that it names"; return 0; fi
  printf '%s by %s since %s, run %s' "$f_state" "$(said owner)" "$(said since)" "$(said run)"
  f_tell_message=$(said message)
  [ -z "$f_tell_message" ] || printf ': %s' "$f_tell_message"
  echo
}
release() {
  tell
  [ -d "$lock" ] || return 0
  case $f_state$force in
  held) echo "its owner is alive: --force takes it away all the same" >&2; exit 75;;
  esac
  drop && echo released
}
