# Interfaces, addresses and routes: by `ip`, else by ifconfig, else of /proc. Lines:
# interface NAME MAC MTU up|down, address INTERFACE ADDRESS/PREFIX, route 4|6 INTERFACE GATEWAY
# ADDRESS, nameserver ADDRESS.
# Reads f_tab f_nl.
interfaces() {
  for f_interfaces_path in /sys/class/net/*; do
    [ -e "$f_interfaces_path/mtu" ] || continue
    f_interfaces_flags=$(first_line "$f_interfaces_path/flags")
    f_interfaces_state=down
    [ $((${f_interfaces_flags:-0} & 1)) = 0 ] || f_interfaces_state=up
    put interface "${f_interfaces_path##*/}" "$(first_line "$f_interfaces_path/address")" \
      "$(first_line "$f_interfaces_path/mtu")" "$f_interfaces_state"
  done
}
by_ip() {
  ip -o addr show 2>/dev/null | awk '
    $3 == "inet" || $3 == "inet6" { sub(/@.*/, "", $2); printf "address\t%s\t%s\n", $2, $4 }'
  for f_by_ip_family in 4 6; do
    ip "-$f_by_ip_family" route show default 2>/dev/null | awk -v family="$f_by_ip_family" '
      $1 == "default" {
        for (i = 2; i < NF; i++) {
          if ($i == "via" && gateway == "") gateway = $(i + 1)
          if ($i == "dev" && interface == "") interface = $(i + 1)
          if ($i == "src" && source == "") source = $(i + 1)
        }
        printf "route\t%s\t%s\t%s\t%s\n", family, interface, gateway, source
        exit
      }'
  done
}
by_ifconfig() {
  ifconfig -a 2>/dev/null | awk '
    /^[^ \t]/ {
      name = $1; sub(/:$/, "", name); mtu = ""; state = "down"
      if ($0 ~ /<([A-Z0-9,]*,)?UP[,>]/) state = "up"
      for (i = 1; i < NF; i++) if ($i == "mtu") mtu = $(i + 1)
      printf "interface\t%s\t\t%s\t%s\n", name, mtu, state
    }
    $1 == "ether" || $1 == "lladdr" { printf "mac\t%s\t%s\n", name, $2 }
    $1 == "inet" && $2 !~ /:/ { printf "address\t%s\t%s\t%s\n", name, $2, $4 }
    $1 == "inet6" && $2 !~ /:$/ {
      split($2, parts, "%"); sub(/\/.*/, "", parts[1])
      printf "address\t%s\t%s/%s\n", name, parts[1], $4
    }'
  netstat -rn 2>/dev/null | awk '
    $1 == "default" && $2 ~ /^[0-9.]+$/ { printf "route\t4\t%s\t%s\t\n", $NF, $2; exit }'
}
# The addresses of IPv4 have no interface in /proc: that of the route to them is taken.
by_proc() {
  awk 'NR > 1 && $2 == "00000000" && $8 == "00000000" && !found++ { printf "hexroute\t%s\t%s\n", $1, $3 }
    NR > 1 && $2 != "00000000" { printf "hexnet\t%s\t%s\t%s\n", $1, $2, $8 }' /proc/net/route 2>/dev/null || :
  awk '
    $1 == "|--" || $2 == "|--" { address = $NF }
    /32 host LOCAL/ && !(address in seen) { seen[address] = 1; printf "address\t\t%s\n", address }
    ' /proc/net/fib_trie 2>/dev/null || :
  awk '{ printf "hexaddress\t%s\t%s\t%s\n", $6, $1, $3 }' /proc/net/if_inet6 2>/dev/null || :
}
# Reads f_tab f_nl.
collect_network() {
  interfaces
  if has ip; then by_ip
  elif [ -r /proc/net/fib_trie ]; then by_proc
  elif has ifconfig; then by_ifconfig
  fi
  [ ! -r /etc/resolv.conf ] || awk '$1 == "nameserver" { printf "nameserver\t%s\n", $2 }' /etc/resolv.conf
}
collect_network
