# Disks of Linux: disk NAME SECTORS MODEL ROTATIONAL REMOVABLE PARTITIONS. A sector has 512 bytes,
# whatever the disk has.
# Reads f_tab f_nl.
collect_disks() {
  for f_collect_disks_path in /sys/block/*; do
    [ -r "$f_collect_disks_path/size" ] || continue
    f_collect_disks_name=${f_collect_disks_path##*/}
    case $f_collect_disks_name in loop*|ram*|zram*|fd*|nbd*) continue;; esac
    f_collect_disks_parts=
    for f_collect_disks_part in "$f_collect_disks_path/$f_collect_disks_name"*; do
      [ ! -r "$f_collect_disks_part/partition" ] || f_collect_disks_parts="$f_collect_disks_parts ${f_collect_disks_part##*/}"
    done
    f_collect_disks_model=$(first_line "$f_collect_disks_path/device/model")
    put disk "$f_collect_disks_name" "$(first_line "$f_collect_disks_path/size")" "$f_collect_disks_model" \
      "$(first_line "$f_collect_disks_path/queue/rotational")" "$(first_line "$f_collect_disks_path/removable")" \
      "${f_collect_disks_parts# }"
  done
}
collect_disks
