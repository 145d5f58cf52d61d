# own_fact NAME SCRIPT: run a script of the project, and report what it printed: own NAME OUTPUT, or
# own_failed NAME STATUS.
# Reads f_tab f_nl.
own_fact() {
  f_own_fact_name=$1
  f_own_fact_script=$2
  set --
  # outside of a condition, where the script's own `set -e` would have no effect
  set +e
  f_own_fact_text=$(set -e; eval "$f_own_fact_script" </dev/null)
  f_own_fact_status=$?
  set -e
  if [ $f_own_fact_status = 0 ]; then put own "$f_own_fact_name" "$f_own_fact_text"
  else put own_failed "$f_own_fact_name" $f_own_fact_status
  fi
}
