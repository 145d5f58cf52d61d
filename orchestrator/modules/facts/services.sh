# Services: unit NAME LOADED ACTIVE SUBSTATE and unit_file NAME STATE of systemd; others as lines of
# services NAME STATE ENABLED.
by_systemd() {
  systemctl list-unit-files --type=service --no-legend --no-pager </dev/null 2>/dev/null |
    awk 'NF > 1 { printf "unit_file\t%s\t%s\n", $1, $2 }'
  systemctl list-units --type=service --all --no-legend --no-pager --plain </dev/null 2>/dev/null |
    awk 'NF > 3 { printf "unit\t%s\t%s\t%s\t%s\n", $1, $2, $3, $4 }'
}
by_openrc() {
  f_by_openrc_enabled=$(rc-update show 2>/dev/null | awk -F '|' 'NF > 1 { gsub(/[ \t]/, "", $1); print $1 }')
  rc-status --servicelist 2>/dev/null | awk -v enabled="$f_by_openrc_enabled" '
    BEGIN { count = split(enabled, names, "\n"); for (i = 1; i <= count; i++) is[names[i]] = 1 }
    NF > 3 {
      state = $(NF - 1) == "started" ? "running" : $(NF - 1) == "crashed" ? "failed" : "stopped"
      printf "services\t%s\t%s\t%s\n", $1, state, ($1 in is) ? "enabled" : "disabled"
    }'
}
# Reads f_tab f_nl.
by_scripts() {
  for f_by_scripts_path in /etc/init.d/*; do
    [ -x "$f_by_scripts_path" ] && [ ! -d "$f_by_scripts_path" ] || continue
    f_by_scripts_name=${f_by_scripts_path##*/}
    f_by_scripts_enabled=disabled
    for f_by_scripts_link in /etc/rc[2345].d/S[0-9][0-9]"$f_by_scripts_name"; do
      [ ! -e "$f_by_scripts_link" ] || f_by_scripts_enabled=enabled
    done
    put services "$f_by_scripts_name" unknown $f_by_scripts_enabled
  done
}
# Reads f_tab f_nl.
collect_services() {
  if [ -d /run/systemd/system ] && has systemctl; then by_systemd
  elif has rc-status; then by_openrc
  else by_scripts
  fi
}
collect_services
