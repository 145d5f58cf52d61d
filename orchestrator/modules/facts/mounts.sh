# Mounted file systems. Lines: mount PATH DEVICE TYPE OPTIONS, and space PATH SIZE FREE in KiB. The
# sizes of network file systems are not looked at: that would hang if their server is gone.
is_pseudo() {
  case $1 in
  autofs|binfmt_misc|bpf|cgroup*|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|mqueue|\
  nsfs|proc|pstore|rpc_pipefs|securityfs|selinuxfs|sysfs|tracefs) return 0;;
  esac
  return 1
}
is_remote() {
  case $1 in nfs*|cifs|smb*|fuse*|ceph|glusterfs|lustre|afs|9p|ncpfs|gfs*|ocfs2|beegfs|davfs) return 0;; esac
  return 1
}
# spaces PATH…: print the size of each.
# Reads f_tab f_nl.
spaces() {
  for f_spaces_path; do
    f_spaces_numbers=$(df -Pk -- "$f_spaces_path" 2>/dev/null | awk 'NR > 1 && NF > 4 {
      for (i = 2; i < NF; i++) if ($i ~ /^[0-9]+$/ && $(i + 1) ~ /^[0-9]+$/ && $(i + 3) ~ /%$/) {
        print $i, $(i + 2); exit
      }
    }') || continue
    put space "$f_spaces_path" "${f_spaces_numbers% *}" "${f_spaces_numbers#* }"
  done
}
# Reads f_tab f_nl.
mounted() {
  set --
  while read -r f_mounted_device f_mounted_path f_mounted_type f_mounted_options f_mounted_rest; do
    ! is_pseudo "$f_mounted_type" || continue
    f_mounted_path=$(printf '%b' "$f_mounted_path")
    put mount "$f_mounted_path" "$(printf '%b' "$f_mounted_device")" "$f_mounted_type" "$f_mounted_options"
    is_remote "$f_mounted_type" || set -- "$@" "$f_mounted_path"
    [ $# -lt 500 ] || break
  done
  spaces "$@"
}
# Reads f_tab f_nl.
collect_mounts() {
  if [ -r /proc/self/mounts ]; then
    mounted </proc/self/mounts
  else
    mount | sed -n 's/^\([^ ]*\) on \(.*\) (\([^,)]*\),* *\(.*\))$/\1 \2 \3 \4/p' | mounted
  fi
}
collect_mounts
