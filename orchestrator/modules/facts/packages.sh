# Installed packages: packages NAME VERSION.
# pairs: print standard input, lines of a name and a version, as facts.
pairs() { awk 'NF > 1 { printf "packages\t%s\t%s\n", $1, $2 }'; }
collect_packages() {
  if has dpkg-query; then
    dpkg-query -W -f='${Status} ${Package} ${Version}\n' | awk '$3 == "installed" { print $4, $5 }' | pairs
  elif has rpm && { [ -d /var/lib/rpm ] || [ -d /usr/lib/sysimage/rpm ]; }; then
    rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n' | pairs
  elif [ -r /lib/apk/db/installed ]; then
    awk -F: '$1 == "P" { name = $2 } $1 == "V" { print name, $2 }' /lib/apk/db/installed | pairs
  elif has pacman; then pacman -Q | pairs
  elif has brew; then brew list --versions | awk '{ print $1, $NF }' | pairs
  elif has pkg; then pkg query '%n %v' | pairs
  fi
}
collect_packages
