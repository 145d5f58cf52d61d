# own_fact NAME SCRIPT: run a script of the project, and report what it printed: own NAME OUTPUT, or
# own_failed NAME STATUS.
# Reads f_tab f_nl.
own_fact() {
  set +e # outside of a condition, where the script's own `set -e` would have no effect
  f_own_fact_text=$(set -e; eval "$2" </dev/null)
  f_own_fact_status=$?
  set -e
  if [ $f_own_fact_status = 0 ]; then put own "$1" "$f_own_fact_text"
  else put own_failed "$1" $f_own_fact_status
  fi
}
