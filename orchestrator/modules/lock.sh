# A lock is a file whose content identifies its holder. This script is preceded by the variables
# `lock` (its path), `holder` (lines KEY=VALUE, including `run` and `app`), `run`, `app`, `within` (the
# runs that started this one, surrounded by blanks) and `token` (unique for this call). The holder is
# alive as long as the shell that took or renewed the lock is running: if orch dies, sshd ends that
# shell. The state of a shell on another machine that shares the folder is unknown.
#
# The file is written completely under a temporary name and then hard-linked, which fails if there is
# a lock: so no reader sees a partial file. Any user who can write to the folder can remove the lock,
# even one of another user. Variables are named as in functions.sh.
case $lock in */*) ;; *) lock=./$lock;; esac
f_dir=${lock%/*}
[ "$f_dir" ] || f_dir=/

# identify_machine: identify this machine, its boot, and its process ID namespace.
# Sets f_this_machine f_boot f_space.
identify_machine() {
  f_identify_machine_id= f_boot= f_space=
  read -r f_this_machine 2>/dev/null </proc/sys/kernel/hostname || f_this_machine=$(uname -n)
  read -r f_identify_machine_id 2>/dev/null </etc/machine-id || :
  read -r f_boot 2>/dev/null </proc/sys/kernel/random/boot_id || :
  f_space=$(readlink /proc/self/ns/pid 2>/dev/null) || :
  f_this_machine="$f_this_machine $f_identify_machine_id"
}
# beats PID: identify a process uniquely until the machine is shut down.
# Sets f_beats.
beats() {
  f_beats=$1 f_beats_stat=
  IFS= read -r f_beats_stat 2>/dev/null <"/proc/$1/stat" || return 0
  set -f
  set -- "$1" ${f_beats_stat##*)}
  set +f
  f_beats=$1.${21-}
}
# alive PID.START: succeed if the process is running, even if it is not visible (mount option
# hidepid, see proc(5)).
# Sets f_beats.
alive() {
  f_alive_pid=${1%%.*}
  case $f_alive_pid in ''|*[!0-9]*) return 1;; esac
  if [ -e "/proc/$f_alive_pid/stat" ]; then
    beats "$f_alive_pid"
    [ "$f_beats" = "$1" ]
    return
  fi
  case $(LC_ALL=C; kill -0 "$f_alive_pid" 2>&1 && echo permitted) in *ermitted*) return 0;; esac
  return 1
}
# look: read the lock and set f_state: free, held, stale, away or odd. Fail if there is none.
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats.
look() {
  f_run= f_app= f_owner= f_since= f_message= f_shell= f_machine= f_its_boot= f_its_space= f_created=
  f_state=free
  [ -e "$lock" ] || [ -L "$lock" ] || return
  f_state=odd
  [ -f "$lock" ] || return 0
  while IFS= read -r f_look_line; do
    case $f_look_line in
    run=*) f_run=${f_look_line#*=};;
    app=*) f_app=${f_look_line#*=};;
    owner=*) f_owner=${f_look_line#*=};;
    since=*) f_since=${f_look_line#*=};;
    message=*) f_message=${f_look_line#*=};;
    shell=*) f_shell=${f_look_line#*=};;
    machine=*) f_machine=${f_look_line#*=};;
    boot=*) f_its_boot=${f_look_line#*=};;
    space=*) f_its_space=${f_look_line#*=};;
    made=*) f_created=${f_look_line#*=};;
    esac
  done 2>/dev/null <"$lock"
  [ "$f_run" ] || return 0
  identify_machine
  f_state=stale
  if [ "$f_machine" != "$f_this_machine" ]; then f_state=away
  elif [ "$f_its_boot" != "$f_boot" ]; then :
  elif [ "$f_its_space" != "$f_space" ]; then f_state=away
  elif alive "$f_shell"; then f_state=held
  fi
}
# refused WORDS: report a missing permission and exit.
refused() {
  f_refused_who=$(id -un 2>/dev/null)
  echo "${f_refused_who:-$(id -u)} $*" >&2
  exit 77
}
about() { set -- $(ls -ldn -- "$1" 2>/dev/null); echo "$1, uid $3, gid $4"; }
# room: create the folder if necessary, and remember the outermost folder created.
# Sets f_mine.
room() {
  f_mine=
  if [ ! -d "$f_dir" ]; then
    f_mine=$f_dir
    while f_room_up=${f_mine%/*}
      [ "$f_room_up" ] && [ "$f_room_up" != "$f_mine" ] && [ ! -e "$f_room_up" ]
    do f_mine=$f_room_up; done
    f_room_why=$(LC_ALL=C; export LC_ALL; mkdir -p -- "$f_dir" 2>&1) ||
      refused "cannot make the folder $f_dir (${f_room_why##*: })"
  fi
  [ -w "$f_dir" ] && [ -x "$f_dir" ] || refused "may not write to $f_dir ($(about "$f_dir"))"
}
# draw FILE: write the content of the lock.
# Sets f_this_machine f_boot f_space f_beats.
# Reads f_mine.
draw() {
  identify_machine
  beats $PPID
  (
    umask 022
    printf '%s\n' "$holder" "shell=$f_beats" "machine=$f_this_machine" "boot=$f_boot" "space=$f_space" \
      "made=$f_mine" >"$1"
  ) 2>/dev/null
}
# ours: succeed if this run and app hold the lock.
# Reads f_run f_app.
ours() { [ "$f_run" ] && [ "$f_run" = "$run" ] && [ "$f_app" = "$app" ]; }
# entered: succeed if this run holds the lock, through another host, or a run that started this one.
# Reads f_run f_app.
entered() {
  ours && return
  case $f_run in ''|*' '*) return 1;; esac
  case " $within " in *" $f_run "*) echo entered;; *) return 1;; esac
}
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats f_mine.
take() {
  f_take_tries=4 f_take_waited=
  while [ $f_take_tries -gt 0 ]; do
    f_take_tries=$((f_take_tries-1))
    if look; then
      # of this run before it was resumed, or through another host that shares the folder
      if ours && [ "$f_state" != away ]; then renew; exit; fi
      entered && exit
      # partially written on a file system without links, or removed by now
      [ $f_state$f_take_waited != odd ] || { sleep 1; f_take_waited=1; continue; }
      show
      exit 75
    fi
    room
    # another run may remove the folder again together with its lock
    draw "$lock.$token" || { [ -d "$f_dir" ] || continue; break; }
    put && exit
  done
  echo "cannot create a file in $f_dir" >&2
  exit 1
}
# put: move the new lock into place; some file systems have no hard links.
put() {
  if ln -- "$lock.$token" "$lock" 2>/dev/null ||
    { [ ! -e "$lock" ] && (set -C; cat -- "$lock.$token" >"$lock") 2>/dev/null; }
  then f_put_status=0; else f_put_status=1; fi
  rm -f -- "$lock.$token"
  return $f_put_status
}
# show: print the holder for orch.
# Reads f_run f_app f_owner f_since f_message f_machine f_state.
show() {
  for f_show_line in "run=$f_run" "app=$f_app" "owner=$f_owner" "since=$f_since" \
    "message=$f_message" "machine=${f_machine%% *}" "state=$f_state"
  do printf '%s\n' "$f_show_line"; done
}
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats f_mine.
renew() {
  look && ours || exit 75
  f_mine=$f_created
  draw "$lock.$token" && mv -f -- "$lock.$token" "$lock"
}
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats.
free() { if look && ours; then drop; fi; }
# drop: remove the lock, and the folders created for it if they are empty.
# Reads f_created.
drop() {
  rm -f -- "$lock" || return
  f_drop_dir=$f_dir
  while [ "$f_created" ] && rmdir -- "$f_drop_dir" 2>/dev/null && [ "$f_drop_dir" != "$f_created" ]; do
    f_drop_dir=${f_drop_dir%/*}
  done
  return 0
}
# tell: print the holder for people.
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats.
tell() {
  if ! look; then
    f_tell_up=$f_dir
    while [ ! -d "$f_tell_up" ]; do
      case $f_tell_up in ?*/*) f_tell_up=${f_tell_up%/*};; *) f_tell_up=/;; esac
    done
    [ -x "$f_tell_up" ] || refused "may not look into $f_tell_up ($(about "$f_tell_up"))"
    echo free
    return
  fi
  if [ "$f_state" = odd ]; then echo "held by an unknown owner ($lock)"; return; fi
  f_tell_how=$f_state
  [ "$f_state" != away ] || f_tell_how="held on ${f_machine%% *}, which shares the folder,"
  printf '%s by %s since %s, run %s' "$f_tell_how" "$f_owner" "$f_since" "$f_run"
  [ -z "$f_message" ] || printf ': %s' "$f_message"
  echo
}
# release: remove a lock of another run.
# Sets f_run f_app f_owner f_since f_message f_shell f_machine f_its_boot f_its_space f_created f_state f_this_machine f_boot f_space f_beats.
release() {
  tell
  [ "$f_state" != free ] || return 0
  case $f_state$force in
  held|away) echo "its owner may still be running; --force removes it anyway" >&2; exit 75;;
  esac
  if [ -d "$lock" ]; then echo "$lock is a folder, not a lock: remove it manually" >&2; exit 1; fi
  drop || refused "may not remove it from $f_dir ($(about "$f_dir"))"
  echo released
}
