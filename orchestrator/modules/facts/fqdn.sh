# The full name of the host, for which it may ask a name server.
# Reads f_tab f_nl.
collect_fqdn() {
  f_collect_fqdn_short=$(uname -n)
  f_collect_fqdn_long=$(hostname -f 2>/dev/null) || f_collect_fqdn_long=
  case $f_collect_fqdn_long in
  ''|localhost|localhost.localdomain)
    f_collect_fqdn_long=$(getent hosts "$f_collect_fqdn_short" 2>/dev/null | awk '{ print $2; exit }') || :;;
  esac
  case $f_collect_fqdn_long in *.*) ;; *) f_collect_fqdn_long=$f_collect_fqdn_short;; esac
  put fqdn "$f_collect_fqdn_long"
}
collect_fqdn
