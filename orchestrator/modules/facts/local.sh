# The facts that the host's owner provides: files NAME.json in /etc/orch/facts.d, and programs there
# that print JSON. Lines: local NAME LINE, and local_failed NAME STATUS.
# Reads f_tab f_nl.
collect_local() {
  for f_collect_local_path in /etc/orch/facts.d/*; do
    [ -f "$f_collect_local_path" ] || continue
    f_collect_local_name=${f_collect_local_path##*/}
    case $f_collect_local_name in *~|*.bak|*.orig|*.rpmsave|*.rpmnew|*.dpkg-*) continue;; esac
    f_collect_local_status=0
    if [ -x "$f_collect_local_path" ]; then
      f_collect_local_text=$("$f_collect_local_path" </dev/null) || f_collect_local_status=$?
    else
      case $f_collect_local_name in *.json) ;; *) continue;; esac
      f_collect_local_text=$(cat -- "$f_collect_local_path") || f_collect_local_status=$?
    fi
    f_collect_local_name=${f_collect_local_name%.json}
    if [ $f_collect_local_status != 0 ]; then put local_failed "$f_collect_local_name" $f_collect_local_status
    else put local "$f_collect_local_name" "$f_collect_local_text"
    fi
  done
}
collect_local
