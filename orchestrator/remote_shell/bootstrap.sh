# The session's shell: POSIX.1-2017 sh (dash, bash, busybox ash, ksh, mksh). Sent once, without
# its comments, behind the assignment of o_nonce; bootstrap.py fills in what stands between percent
# signs. What it says to the other side is described in decoder.py, what calls its functions in
# encoder.py.
#
# Variables are called o_… so that none of the user's exported ones changes for the steps. A
# function's own ones are called o_FUNCTION_…, and what it changes of the session's stands above it,
# as in modules/functions.sh.
# Not '': what is ignored here would be ignored in the steps, too.
trap : PIPE
[ "$PWD" = "$HOME" ] || cd || cd /
# A bash that takes itself for sshd's own shell reads ~/.bashrc: no step's bash is one.
case $SHLVL in ''|0) SHLVL=1; export SHLVL;; esac
# Of the session: o_due, what is still to be said, o_watcher and o_lease, which wait for the other
# side, and o_took, how long the last nap took. Of the step that runs: o_step, o_pid (empty between
# steps; none, new or a number within one), o_timer, o_apart (it has a group of its own), o_killed,
# o_stray (a wait was ended in vain), o_hit (the stop flag), and how it ended.
o_due= o_watcher= o_lease= o_took=
o_step= o_pid= o_timer= o_apart= o_killed= o_stray= o_hit= o_how= o_status= o_failed= o_changed=

# A step gets a process group of its own, so that all of it can be ended.
if command -v setsid; then o_group=setsid
elif command -v perl; then o_group='perl -e setpgrp;exec@ARGV'
else o_group=
fi >/dev/null 2>&1
# How a step's shell gets its text: from its stdin, which the text's first words replace.
# Not `sh -s` (it would read ahead), not `sh FILE` ($0), not `sh -c TEXT` (ps shows it; 128 KiB).
# `.` saves a process, but where bash is older than 4 it reads nothing from a pipe, and is content.
# So only where steps run in the very shell that this is.
o_other='set -- "$(cat; echo .)"; eval "shift;${1%.}"'
o_same=$o_other
case ${0##*/}$BASH_VERSION in
sh|sh[4-9].*|sh[1-9][0-9].*) [ ! -e %FDS%/0 ] || o_same='. %FDS%/0';;
esac
if [ "$KSH_VERSION" ]; then
  # mksh has no printf of its own, and another program's arguments can be seen.
  write() { print -n -- "$1"; }
  copy() { print -nr -- "$1"; }
else
  write() { printf %b "$1"; }
  copy() { printf %s "$1"; }
fi
# A step that leaves nothing behind needs neither, where this shell leads a group of its own: it
# can be ended together with this shell. proc_pid_stat(5) has the group in its fifth field.
o_x= o_leader=
{ read -r o_x o_x o_x o_x o_leader o_x </proc/$$/stat; } 2>/dev/null
[ "$o_leader" = $$ ] || o_leader=
# About a tenth of a second; a whole one where sleep knows no fractions.
# Sets o_took.
nap() { if sleep .1; then o_took=1; else sleep 1; o_took=10; fi; } 2>/dev/null

# A marker: one write, so that nothing gets inside it. A step may have left the pipe
# non-blocking and full, so it is tried again for a while.
say() {
  o_say_naps=0
  until write "$o_nonce $*\n"; do
    nap; o_say_naps=$((o_say_naps+o_took))
    [ $o_say_naps -lt 50 ] && [ "$o_hit" != gone ] || end_session
  done
} 2>/dev/null
# On stdout with the end that is due before it: two writes are two packets.
# Sets o_due.
tell() { set -- "${o_due:+$o_due\n$o_nonce }$*"; o_due=; say "$1"; }
# Sets o_due.
mark() { say "$@" >&2; tell "$@"; }
# Sets o_due.
flush() { o_flush_due=$o_due o_due=; [ -z "$o_flush_due" ] || say "$o_flush_due"; }

# alarm SECONDS WHOLE-SECONDS SIGNAL: sends this shell that signal after so long. USR1 makes it
# begin anew, USR2 ends it; USR2 is never trapped here, so that one which comes before the alarm
# has set its own trap ends it as well. Some hosts' sleep knows whole seconds only.
alarm() {
  {
    o_alarm_sleep= o_alarm_over=
    trap 'kill -KILL $o_alarm_sleep' USR1
    trap 'o_alarm_over=1; kill -KILL $o_alarm_sleep' USR2
    while :; do
      sleep $1 & o_alarm_sleep=$!
      [ -z "$o_alarm_over" ] || kill -KILL $o_alarm_sleep
      wait $o_alarm_sleep; o_alarm_slept=$?
      [ -z "$o_alarm_over" ] || exit
      case $o_alarm_slept in
      0) kill -$3 $$; exit;;
      12[67]) exit;;
      esac
      [ $o_alarm_slept -gt 128 ] || { [ "$1" != "$2" ] || exit; shift; set -- "$1" "$@"; }
    done
  } </dev/null >/dev/null 2>&1 3<&- &
}

# While a segment runs the watcher owns the channel's stdin. A line there renews the lease; its
# end, and the lease's, is the order to end everything.
# Sets o_lease o_watcher.
watch() {
  alarm %LEASE% TERM; o_lease=$!
  { while read -r o_watch_beat; do kill -USR1 $o_lease; done; kill -TERM $$; } <&3 3<&- >/dev/null 2>&1 &
  o_watcher=$!
}
# KILL, because a signal that can be trapped may come too early for a shell just forked.
# Sets o_lease o_watcher.
unwatch() {
  kill -KILL $o_watcher; wait $o_watcher
  kill -USR2 $o_lease; o_watcher= o_lease=
} 2>/dev/null
# No wait: bash never returns from one for a child that died while a trap ran inside another.
# The watcher may have had its end before it has its name here.
end_session() {
  [ -z "$o_lease" ] || kill -USR2 $o_lease
  [ -z "$o_watcher" ] || kill -KILL $o_watcher
  exit 143
} 2>/dev/null

arm() {
  trap 'on_signal gone' TERM HUP INT
  trap 'on_signal timeout' USR1
}
# What the traps do. While it works, only the flag can be raised.
# Sets o_hit o_stray o_killed o_due.
on_signal() {
  [ "$1" = gone ] || [ "$o_timer" ] || { o_stray=1; return 0; }
  trap o_hit=gone TERM HUP INT
  trap : USR1
  case $o_hit$1 in
  *gone) o_hit=gone;;
  *) o_hit=timeout;;
  esac
  case $o_pid in
  '') flush; end_session;;
  none|new) ;;
  *) kill_group;;
  esac
  arm
}
# Ends the running step's group: TERM, a grace, KILL. Once.
# Sets o_killed.
kill_group() {
  [ "$o_killed" != $o_pid ] || return 0
  o_killed=$o_pid
  if [ "$o_apart" ]; then o_kill_group_all=-$o_pid o_kill_group_left=-$o_pid
  else trap : TERM HUP INT; o_kill_group_all=0 o_kill_group_left=$o_pid
  fi
  # TERM once, so that nobody cleans up twice; just after the fork there is no group yet.
  kill -TERM $o_kill_group_all 2>/dev/null || kill -TERM $o_pid 2>/dev/null
  o_kill_group_naps=0
  while [ $o_kill_group_naps -lt %GRACE% ] && kill -0 $o_kill_group_left 2>/dev/null; do
    nap; o_kill_group_naps=$((o_kill_group_naps+o_took))
  done
  [ "$o_apart" ] || die
  kill -KILL $o_kill_group_all $o_pid 2>/dev/null
}
# Without a group for the step this shell goes, too. Its last words must not wait for a pipe that
# is full.
die() { { mark E $o_step $o_hit - 1 0; say D; } & nap; nap; }

# bash may end a wait for a signal and then not run its trap. An alarm that is gone has rung.
# Sets o_hit o_stray o_killed o_due.
missed() {
  [ "$o_timer" ] && [ -z "$o_hit" ] && [ $o_status -gt 128 ] &&
    [ "$(kill -l $o_status)" = USR1 ] && nap && ! kill -0 $o_timer && on_signal timeout
} 2>/dev/null

# launch SHELL OPTIONS TEXT [STDIN], launch here FUNCTIONS TEXT: to its end, or to that of its
# group. What is to run here needs no group, and finds the functions defined; elsewhere they go
# before the text.
# Sets o_how o_status o_pid o_killed o_apart o_stray o_hit o_due.
launch() {
  [ -z "$o_hit" ] || o_how=$o_hit
  [ $o_how = done ] || return 0
  o_killed= o_pid=new o_apart=$o_group
  case $1$o_leader in
  # the space, lest a text be taken for an option
  here$$) o_apart=; { exec </dev/null 3<&-; set -e; eval " $3"; } &;;
  here*) spawn sh -e "$2$3";;
  *) spawn "$@";;
  esac
  o_pid=$!
  [ -z "$o_hit" ] || kill_group
  # Again where a stray signal ended the wait. Not in bash if the child is gone by then: it would
  # never return. bash tells stderr who was killed; no more than the wait is silenced, because a
  # trap within may have to say something.
  while
    o_stray=
    wait $o_pid 2>/dev/null; o_status=$?
    [ "$o_stray" ] && [ -z "$o_hit" ] && { [ -z "$BASH_VERSION" ] || kill -0 $o_pid 2>/dev/null; }
  do :; done
  [ -z "$BASH_VERSION" ] || missed
  o_pid=none
  [ -z "$o_hit" ] || o_how=$o_hit o_status=
}

# spawn SHELL OPTIONS TEXT [STDIN]: as a job, in a group of its own.
spawn() {
  if [ "$1" = sh ]; then o_spawn_read=$o_same; else o_spawn_read=$o_other; fi
  if [ $# -lt 4 ]; then
    copy "exec </dev/null;$3" 2>/dev/null 3<&- | $o_group "$1" $2 -c "$o_spawn_read" "$1" 3<&- &
  else
    # A here-document: a pipe's writer would be part of this job, and last as long as whoever
    # keeps the stdin open.
    copy "exec <&9 9<&-;$3" 2>/dev/null 3<&- |
      $o_group "$1" $2 -c "$o_spawn_read" "$1" 3<&- 9<<END &
$4
END
  fi
}

# begin_step STEP [SECONDS WHOLE-SECONDS]
# Sets o_step o_pid o_timer o_hit o_how o_status o_failed o_changed o_due.
begin_step() {
  o_hit= o_pid=none o_step=$1 o_how=done o_status= o_failed=0 o_changed=0
  tell B $1
  [ "$2" ] || return 0
  o_timer=new; alarm $2 $3 USR1; o_timer=$!
}
# Sets o_how o_status.
require_command() {
  command -v "$1" >/dev/null 2>&1 || {
    echo "orch: there is no $1 on this host" >&2; o_how=missing o_status=127
  }
}
# 1 is a no. Anything else but 0 is no answer, and no reason to skip.
# Sets o_how o_status o_pid o_killed o_apart o_stray o_hit o_due.
run_guard() {
  launch "$@"
  case $o_how$o_status in done0) ;; done1) o_how=guard;; done*) o_how=unsure;; esac
}
# Sets o_how o_status o_pid o_killed o_apart o_stray o_hit o_due o_timer.
run_body() {
  launch "$@"
  [ "$o_timer" ] || return 0
  # What an alarm has to say it says before it is gone, not in the next step. After a hit it is
  # gone, or will be with this shell, and bash might wait for ever (see end_session).
  kill -USR2 $o_timer 2>/dev/null
  [ "$o_hit" ] || wait $o_timer 2>/dev/null
  o_timer=
}
# Sets o_due o_pid.
end_step() {
  say E $o_step $o_how ${o_status:--} $o_failed $o_changed >&2
  o_due="E $o_step $o_how ${o_status:--} $o_failed $o_changed"
  o_pid=
  [ "$o_hit" != gone ] || { flush; end_session; }
}
# Sets o_due.
skip_step() { mark E $1 when - 0 0; }

# load_functions TEXT: defines the functions that it holds for what runs here.
load_functions() { [ "$o_leader" != $$ ] || eval "$1"; }
control() { eval "$(write "$1")"; }
# run_pipeline CONTROL: one simple command with one word in quotes, so that nothing of it runs unless
# all of it came.
run_pipeline() {
  [ "$o_nonce" ] && [ $# = 1 ] || return
  watch
  control "${1#?}"
  unwatch
  tell S
}
arm
mark R
