# What the host runs in, as systemd-detect-virt(1) calls it.
is_container() {
  if [ -e /.dockerenv ]; then echo docker
  elif [ -e /run/.containerenv ]; then echo podman
  elif [ -e /proc/vz ] && [ ! -e /proc/bc ]; then echo openvz
  elif grep -q -i -e microsoft -e wsl /proc/sys/kernel/osrelease 2>/dev/null; then echo wsl
  else
    f_is_container_kind=$(tr '\000' '\n' 2>/dev/null </proc/1/environ | sed -n 's/^container=//p' | head -n 1) || :
    [ -n "$f_is_container_kind" ] && echo "$f_is_container_kind"
  fi
}
virtual_machine() {
  f_virtual_machine_names="$(first_line /sys/class/dmi/id/sys_vendor) $(first_line /sys/class/dmi/id/product_name)"
  case $f_virtual_machine_names in
  *QEMU*|*KVM*|*'Google Compute'*|*'Amazon EC2'*|*OpenStack*|*DigitalOcean*) echo kvm;;
  *VMware*) echo vmware;;
  *VirtualBox*|*innotek*) echo oracle;;
  *Xen*) echo xen;;
  *'Microsoft Corporation Virtual'*) echo microsoft;;
  *Parallels*) echo parallels;;
  *BHYVE*) echo bhyve;;
  *)
    if grep -q '^flags.* hypervisor' /proc/cpuinfo 2>/dev/null; then echo vm-other
    elif [ -r /proc/cpuinfo ]; then echo none
    else echo unknown
    fi;;
  esac
}
# Reads f_tab f_nl.
collect_virtualization() {
  f_collect_virtualization_kind=
  ! has systemd-detect-virt || f_collect_virtualization_kind=$(systemd-detect-virt 2>/dev/null) || :
  [ -n "$f_collect_virtualization_kind" ] || f_collect_virtualization_kind=$(is_container) || f_collect_virtualization_kind=$(virtual_machine)
  put virtualization "$f_collect_virtualization_kind"
}
collect_virtualization
