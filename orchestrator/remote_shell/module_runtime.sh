# The beginning of a module's script, in the step's own shell (POSIX.1-2017 sh). Sent once per
# session, without comments. It is preceded by o_to (the beginning of the step's markers), o_check,
# o_show and o_staged, and followed by the module: the functions probe and apply_fixes, o_want (a
# line KEY=VALUE per desired state) and o_within (tenths of a second). A function's own variables are named
# o_FUNCTION_…; other variables that it sets and reads are declared as in modules/functions.sh.
o_nl='
'

# o_report KIND TEXT: print a report marker; long texts are split.
o_report() {
  set -- "$1" "$2"
  while [ ${#2} -gt 1000 ]; do
    o_report_part=$(printf '%.1000s' "$2")
    printf '%s\n' "$o_to+$1 $o_report_part"
    set -- "$1" "${2#"$o_report_part"}"
  done
  printf '%s\n' "$o_to$1 $2" || { sleep 1; printf '%s\n' "$o_to$1 $2"; }
}
# o_line TEXT: encode a state's text on one line: newline as %0A, % as %25.
# Sets o_text.
o_line() {
  o_line_rest=$1 o_text=
  while :; do
    case $o_line_rest in
    *[%"$o_nl"]*)
      o_line_head=${o_line_rest%%[%"$o_nl"]*}
      o_line_rest=${o_line_rest#"$o_line_head"}
      case $o_line_rest in
      %*) o_text=$o_text$o_line_head%25;;
      *) o_text=$o_text$o_line_head%0A;;
      esac
      o_line_rest=${o_line_rest#?};;
    *) o_text=$o_text$o_line_rest; return;;
    esac
  done
}
# state KEY VALUE: report a state found by the probe. The last report of a key counts.
state() {
  case $2 in
  *[%"$o_nl"]*) o_line "$2"; printf '%s\n' "$1=$o_text" >&3;;
  *) printf '%s\n' "$1=$2" >&3;;
  esac
}
# Output of the probe is for people; for a module without fixes, and for one that returns values, it
# is the step's output. Only states are compared.
# Sets o_have o_status.
# Reads o_out.
o_get() {
  o_have=$(probe 3>&1 >&"$o_out")
  o_status=$? o_have=$o_nl$o_have$o_nl
}
# o_value KEY: read the reported state; o_is_stated is empty if there is none.
# Sets o_is_stated o_value.
# Reads o_have.
o_value() {
  case $o_have in
  *"$o_nl$1="*) o_is_stated=1 o_value=${o_have##*"$o_nl$1="}; o_value=${o_value%%"$o_nl"*};;
  *) o_is_stated= o_value=;;
  esac
}
# Collect the keys whose states differ from the desired ones.
# Sets o_off.
# Reads o_have o_status.
o_compare() {
  o_off= o_compare_desired=$o_want
  while [ "$o_compare_desired" ]; do
    o_compare_state=${o_compare_desired%%"$o_nl"*} o_compare_desired=${o_compare_desired#*"$o_nl"}
    o_value "${o_compare_state%%=*}"
    [ "$o_status$o_is_stated$o_value" = "01${o_compare_state#*=}" ] || o_off="$o_off ${o_compare_state%%=*}"
  done
}
# o_states KIND: report the state of each key that differs.
# Reads o_have.
o_states() {
  for o_states_key in $o_off; do
    o_value "$o_states_key"
    if [ "$o_is_stated" ]; then o_report "$1" "$o_states_key=$o_value"; else o_report "$1" "$o_states_key"; fi
  done
}
# may_change: check, also in check mode, whether a change is possible, and fail if it is not;
# modules can define their own.
may_change() { :; }
# fix FUNCTION KEY…: run the function if one of the keys differs, or in any case without keys.
# Sets o_status.
fix() {
  o_fix_function=$1; shift
  o_fix_due=
  [ $# -gt 0 ] || o_fix_due=1
  for o_fix_key; do
    case "$o_off " in *" $o_fix_key "*) o_fix_due=1;; esac
  done
  [ "$o_fix_due" ] || return 0
  "$o_fix_function"; o_status=$?
  [ $o_status != 0 ] || return 0
  o_report fix $o_status
  # conditions on the host see the status, unless it has a meaning of its own
  case $o_status in 64|76|78|79|129|1[3-9]?|2??) exit 1;; esac
  exit $o_status
}
# Wait up to o_within tenths of a second for the desired state. The probe itself may take long. A
# probe that exits with 64 (invalid arguments) or 69 (missing on the host) is not repeated.
# Sets o_have o_status o_off.
# Reads o_status o_out.
o_verify() {
  [ "$o_off" ] && [ "$o_within" != 0 ] || return 0
  o_verify_waited=0 o_verify_since=$(date +%s)
  while [ "$o_off" ] && [ $o_verify_waited -lt "$o_within" ] && [ $o_status != 64 ] && [ $o_status != 69 ]; do
    if sleep .2 2>/dev/null; then o_verify_waited=$((o_verify_waited+2)); else sleep 1; o_verify_waited=$((o_verify_waited+10)); fi
    o_get; o_compare
    # the clock has whole seconds: up to one of them has not passed
    o_verify_passed=$((10*($(date +%s)-o_verify_since)-10))
    [ $o_verify_passed -le $o_verify_waited ] || o_verify_waited=$o_verify_passed
  done
}
# In check mode, do not wait for a state that a run would wait for.
# Reads o_status.
o_unsettled() {
  [ -z "$o_check" ] || [ "$o_within" = 0 ] || [ $o_status = 64 ] || [ $o_status = 69 ] || exit 76
}
# Reads o_status.
o_failed_probe() {
  [ $o_status != 0 ] || return 0
  o_report probe $o_status
  [ "$o_fixes" ] || o_unsettled
  [ $o_status != 64 ] || exit 64
  exit 1
}
# Sets o_show o_have o_status o_off o_out o_is_stated o_value.
o_module() {
  set +e
  [ -z "$o_staged" ] || { trap 'rm -rf -- "${o_staged%/*}"' EXIT; trap 'exit 143' TERM HUP INT; }
  [ -z "$o_show" ] || exec 4>&1
  o_out=2
  [ "$o_fixes" ] && [ -z "$o_returns" ] || { exec 5>&1; o_out=5; }
  o_get; o_compare
  [ "$o_off" ] || [ $o_status != 0 ] || exit 0
  if [ "$o_fixes" ]; then
    o_failed_probe
    may_change || { o_status=$?; o_failed_probe; }
    o_show=
    o_states have
    for o_module_each in need basis; do
      o_value "#$o_module_each"
      [ -z "$o_is_stated" ] || o_report "$o_module_each" "$o_value"
    done
    [ -z "$o_check" ] || exit 78
    apply_fixes
    o_get; o_compare
  fi
  [ "$o_check" ] || o_verify
  o_failed_probe
  if [ -z "$o_off" ]; then [ "$o_fixes" ] && exit 79; exit 0; fi
  o_states after
  o_unsettled
  exit 1
}
