# The session's shell: POSIX.1-2017 sh (dash, bash, busybox ash, ksh, mksh). Sent once, without
# its comments, behind the assignment of o_nonce; bootstrap.py fills in what stands between percent
# signs. What it says to the other side is described in decoder.py, what calls its functions in
# encoder.py.
#
# Variables are called o_… so that none of the user's exported ones changes for the steps. A
# function's own ones are called o_FUNCTION_…, and what it changes of the session's stands above it,
# as in modules/functions.sh.
# Not '': a signal ignored here would be ignored in the steps as well.
trap : PIPE
[ "$PWD" = "$HOME" ] || cd || cd /
# A step's bash with an SHLVL below 2 may take itself for sshd's own shell and read ~/.bashrc.
case $SHLVL in ''|0) SHLVL=1; export SHLVL;; esac
# Variables of the session: o_due, the pending marker; o_watcher and o_lease, the processes that
# watch the connection; o_took, the duration of the last nap. Variables of the running step: o_step,
# o_pid (empty between steps; none, new or a number within one), o_timer, o_apart (it has a process
# group), o_killed, o_stray (a signal interrupted a wait), o_hit (the stop flag), and its result.
o_due= o_watcher= o_lease= o_took=
o_step= o_pid= o_timer= o_apart= o_killed= o_stray= o_hit= o_how= o_status= o_failed= o_changed=
# The last step whose text began to run in this pipeline, and the last one that ended; o_busy: a
# pipeline runs, or its end is not told yet; o_told: the other side asked for the end of the session.
o_ran= o_ended= o_busy= o_told=

# A step gets a process group of its own, so that all of it can be killed.
if command -v setsid; then o_group=setsid
elif command -v perl; then o_group='perl -e setpgrp;exec@ARGV'
else o_group=
fi >/dev/null 2>&1
# A step's shell reads its text from stdin, which the text's first words then replace.
# Not `sh -s` (it would read ahead), not `sh FILE` ($0), not `sh -c TEXT` (ps shows it; 128 KiB).
# `.` saves a process, but in bash before 4 it silently reads nothing from a pipe. So it is used only
# if steps run in the same shell as this one.
o_other='set -- "$(cat; echo .)"; eval "shift;${1%.}"'
o_same=$o_other
case ${0##*/}$BASH_VERSION in
sh|sh[4-9].*|sh[1-9][0-9].*) [ ! -e %FDS%/0 ] || o_same='. %FDS%/0';;
esac
if [ "$KSH_VERSION" ]; then
  # mksh has no built-in printf, and the arguments of an external one are visible in ps.
  o_write='print -n --'
  copy() { print -nr -- "$1"; }
else
  o_write='printf %b'
  copy() { printf %s "$1"; }
fi
# A step that leaves no process behind needs neither group nor shell if this shell leads a group: it
# can be killed together with this shell. The group is the fifth field of proc_pid_stat(5).
o_x= o_leader=
{ read -r o_x o_x o_x o_x o_leader o_x </proc/$$/stat; } 2>/dev/null
[ "$o_leader" = $$ ] || o_leader=
# Sleep for about a tenth of a second, or a whole one if sleep does not support fractions.
# Sets o_took.
nap() { if sleep .1; then o_took=1; else sleep 1; o_took=10; fi; } 2>/dev/null

# Send a marker in one write, so that nothing is interleaved. A step may have left the pipe
# non-blocking and full, so the write is retried for a while.
say() {
  o_say_naps=0
  until $o_write "$o_nonce $*\n"; do
    nap; o_say_naps=$((o_say_naps+o_took))
    [ $o_say_naps -lt 50 ] && [ "$o_hit" != gone ] || end_session
  done
} 2>/dev/null
# Send on stdout, together with a pending E marker: two writes would be two packets.
# Sets o_due.
tell() { set -- "${o_due:+$o_due\n$o_nonce }$*"; o_due=; say "$1"; }
# Sets o_due.
mark() { say "$@" >&2; tell "$@"; }
# Sets o_due.
flush() { o_flush_due=$o_due o_due=; [ -z "$o_flush_due" ] || say "$o_flush_due"; }

# alarm SECONDS WHOLE-SECONDS SIGNAL: send this shell the signal after that time. USR1 restarts the
# alarm, USR2 ends it. USR2 is never trapped in this shell, so that a USR2 that arrives before the
# alarm has set its own trap also ends it. sleep on some hosts only supports whole seconds.
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

# While a pipeline runs, the watcher reads the channel's stdin. A line renews the lease; EOF, or the
# end of the lease, ends everything. A line with text announces that EOF is meant.
# Sets o_lease o_watcher.
watch() {
  alarm %LEASE% TERM; o_lease=$!
  # bash would report its end by a signal in a later step, since nothing waits for it
  [ -z "$BASH_VERSION" ] || disown $o_lease 2>/dev/null
  {
    o_watch_told=
    while read -r o_watch_beat; do
      o_watch_told=$o_watch_told$o_watch_beat
      kill -USR1 $o_lease
    done
    # INT says that it is meant, but may be ignored here, as in a job of a script. Not both at once:
    # in a wait, bash handles only the second one, and never runs the trap of the first.
    [ -z "$o_watch_told" ] || { kill -INT $$; nap; }
    kill -TERM $$
  } <&3 3<&- >/dev/null 2>&1 &
  o_watcher=$!
}
# KILL, because a newly forked shell may receive other signals before it has set its traps.
# Sets o_lease o_watcher.
unwatch() {
  kill -KILL $o_watcher; wait $o_watcher
  kill -USR2 $o_lease; o_watcher= o_lease=
} 2>/dev/null
# No wait: in bash a wait never returns for a child that died while one trap ran inside another. The
# watcher may receive EOF before o_watcher is set.
end_session() {
  [ -z "$o_lease" ] || kill -USR2 $o_lease
  [ -z "$o_busy" ] || leave_note
  [ -z "$o_watcher" ] || kill -KILL $o_watcher
  exit 143
} 2>/dev/null
# The connection broke while a pipeline ran: leave a file that says how far it came.
leave_note() {
  [ "$o_session" ] && [ -z "$o_told" ] || return 0
  (
    umask 077
    mkdir -p ~/.orch/ended && cd ~/.orch/ended || exit
    echo "${o_ran:--} ${o_ended:--}" >".$o_session" && mv -f ".$o_session" "$o_session"
    find . -type f -mtime +30 -exec rm -f {} +
  ) </dev/null >/dev/null 2>&1
}

arm() {
  trap 'on_signal gone' TERM HUP
  trap 'on_signal told' INT
  trap 'on_signal timeout' USR1
}
# The action of the traps: gone, told (gone, as the other side wants it) or timeout. While it runs,
# other signals only set the flag.
# Sets o_hit o_told o_stray o_killed o_due.
on_signal() {
  [ "$1" != told ] || { o_told=1; set -- gone; }
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
# Kill the process group of the running step: TERM, a grace period, KILL. Only once per step.
# Sets o_killed.
kill_group() {
  [ "$o_killed" != $o_pid ] || return 0
  o_killed=$o_pid
  if [ "$o_apart" ]; then o_kill_group_all=-$o_pid o_kill_group_left=-$o_pid
  else trap : TERM HUP INT; o_kill_group_all=0 o_kill_group_left=$o_pid
  fi
  # TERM only once, so that cleanup runs once; just after the fork there is no group yet.
  kill -TERM $o_kill_group_all 2>/dev/null || kill -TERM $o_pid 2>/dev/null
  o_kill_group_naps=0
  while [ $o_kill_group_naps -lt %GRACE% ] && kill -0 $o_kill_group_left 2>/dev/null; do
    nap; o_kill_group_naps=$((o_kill_group_naps+o_took))
  done
  [ "$o_apart" ] || die
  kill -KILL $o_kill_group_all $o_pid 2>/dev/null
}
# Without a group for the step, this shell is killed as well. Its last markers are sent in the
# background because the pipe may be full.
die() { [ "$o_hit" != gone ] || leave_note; { mark E $o_step $o_hit - 1 0; say D; } & nap; nap; }

# bash may end a wait for a signal without running its trap. An alarm that is gone has fired.
# Sets o_hit o_stray o_killed o_due.
missed() {
  [ "$o_timer" ] && [ -z "$o_hit" ] && [ $o_status -gt 128 ] &&
    [ "$(kill -l $o_status)" = USR1 ] && nap && ! kill -0 $o_timer && on_signal timeout
} 2>/dev/null

# may_start; start a job; await: run a job until it, or its group, has ended.
# Sets o_how o_pid o_killed o_apart o_ran.
may_start() {
  [ -z "$o_hit" ] || o_how=$o_hit
  [ $o_how = done ] || return
  o_killed= o_pid=new o_apart=$o_group o_ran=$o_step
}
# The same for a job in this shell's own group.
# Sets o_how o_pid o_killed o_apart o_ran.
may_start_here() { [ "$o_leader" = $$ ] && may_start && o_apart=; }
# Sets o_how o_status o_pid o_killed o_stray o_hit o_due.
await() {
  o_pid=$!
  [ -z "$o_hit" ] || kill_group
  # Repeated if a stray signal interrupted the wait, but not in bash if the child is gone by then: the
  # wait would never return. bash reports killed jobs on stderr; only the wait is silenced, because a
  # trap during it may send markers.
  while
    o_stray=
    wait $o_pid 2>/dev/null; o_status=$?
    [ "$o_stray" ] && [ -z "$o_hit" ] && { [ -z "$BASH_VERSION" ] || kill -0 $o_pid 2>/dev/null; }
  do :; done
  [ -z "$BASH_VERSION" ] || missed
  o_pid=none
  [ -z "$o_hit" ] || o_how=$o_hit o_status=
}

# launch SHELL OPTIONS TEXT [STDIN]: run a text in a shell and a group of its own.
# Sets o_how o_status o_pid o_killed o_apart o_stray o_hit o_due o_ran.
launch() { may_start || return 0; spawn "$@"; await; }
# spawn SHELL OPTIONS TEXT [STDIN]: start a job in a process group of its own.
spawn() {
  if [ "$1" = sh ]; then o_spawn_read=$o_same; else o_spawn_read=$o_other; fi
  if [ $# -lt 4 ]; then
    copy "exec </dev/null;$3" 2>/dev/null 3<&- | $o_group "$1" $2 -c "$o_spawn_read" "$1" 3<&- &
  else
    # A here-document, because the writer of a pipe would be part of this job and run as long as any
    # process keeps the stdin open.
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
# After a guard, status 0 runs the step and 1 skips it. Any other status is an error and does not
# skip the step.
# Sets o_how.
judge_guard() { case $o_how$o_status in done0) ;; done1) o_how=guard;; done*) o_how=unsure;; esac; }
# Sets o_how o_status o_pid o_killed o_apart o_stray o_hit o_due o_timer.
run_body() {
  launch "$@"
  [ "$o_timer" ] || return 0
  # The alarm must be gone before the next step, so that it cannot signal it. After a hit it has
  # ended, or will end with this shell, and bash might wait forever (see end_session).
  kill -USR2 $o_timer 2>/dev/null
  [ "$o_hit" ] || wait $o_timer 2>/dev/null
  o_timer=
}
# Sets o_due o_pid o_ended.
end_step() {
  say E $o_step $o_how ${o_status:--} $o_failed $o_changed >&2
  o_due="E $o_step $o_how ${o_status:--} $o_failed $o_changed"
  [ $o_how = gone ] || o_ended=$o_step
  o_pid=
  [ "$o_hit" != gone ] || { flush; end_session; }
}
# Sets o_due.
skip_step() { mark E $1 when - 0 0; }

# run_pipeline CONTROL: a single command with one quoted word, so that nothing runs unless all of it
# has arrived. No function gets the long text as an argument, because dash copies it byte by byte. A
# failed step breaks the loop.
# Sets o_ran o_ended o_busy.
run_pipeline() {
  [ "$o_nonce" ] && [ $# = 1 ] || return
  o_ran= o_ended= o_busy=1
  watch
  while :; do eval "$($o_write "${1#?}")"; break; done
  unwatch
  tell S
  o_busy=
}
arm
mark R $$
