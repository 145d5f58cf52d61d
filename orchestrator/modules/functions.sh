# Functions for probes and fixes (POSIX.1-2017 sh, and tools that both GNU and busybox have). A
# module's script begins with those that it uses, without comments.
#
# Shell variables are global. So a function's own variables are named f_FUNCTION_… and are used by
# no other function. The variables that it returns and those that it takes are declared in the last
# lines of its comment, `Sets NAME…` and `Reads NAME…`. A test checks this for all scripts.

# has COMMAND: succeed if the command exists.
has() { command -v "$1" >/dev/null 2>&1; }
# lacks WHAT: fail with a message about what this host lacks.
lacks() { echo "this host has no $1" >&2; exit 69; }
# rootless: return the status of the failed command; if not root, suggest `become`.
rootless() {
  f_rootless_status=$?
  [ "$(id -u)" = 0 ] || echo "this may need root: \`become: true\` runs the step as root" >&2
  return $f_rootless_status
}
# root_only: fail if not root, and suggest `become`.
root_only() { [ "$(id -u)" = 0 ] || { echo "this needs root: \`become: true\` runs the step as root" >&2; return 77; }; }
# conf KEY VALUE: print a line for `curl -K -`, so that no process argument contains the value.
conf() {
  case $2 in *"$o_nl"*|*"$(printf '\r')"*) echo "a newline in $1" >&2; exit 64;; esac
  printf '%s = "%s"\n' "$1" "$(printf '%s\n' "$2" | sed 's/[\\"]/\\&/g')"
}
# fetch_url URL TIMEOUT CERTS VERIFIED OPEN CONF: print what the URL has. CERTS false: the server's
# certificate is not verified. VERIFIED is not empty if the content is verified in another way, OPEN
# if the URL is no secret. CONF are more lines of conf.
fetch_url() {
  case $1 in
  file:///*) cat -- "${1#file://}";;
  *)
    if has curl; then fetch_by_curl "$@"
    elif has wget; then fetch_by_wget "$@"
    else lacks 'curl or wget'
    fi;;
  esac
}
# fetch_by_curl …: like fetch_url.
fetch_by_curl() {
  f_fetch_by_curl_asks=$(conf url "$1") || exit
  f_fetch_by_curl_asks=$f_fetch_by_curl_asks$o_nl$6
  if [ "$3" = false ]; then set -- "$2" -k; else set -- "$2"; fi
  f_fetch_by_curl_timeout=$1; shift
  printf '%s\n' "$f_fetch_by_curl_asks" |
    curl -q -fsSL --globoff --connect-timeout "$f_fetch_by_curl_timeout" -Y 1 -y "$f_fetch_by_curl_timeout" "$@" -K -
}
# fetch_by_wget …: like fetch_url.
fetch_by_wget() {
  f_fetch_by_wget_url=$1 f_fetch_by_wget_timeout=$2 f_fetch_by_wget_certs=$3
  [ -z "$6" ] || lacks 'curl, which headers need: wget would show them to all users'
  f_fetch_by_wget_kind=$(wget --version 2>&1) || :
  case $f_fetch_by_wget_kind in
  *'GNU Wget 1'*) ;;
  *BusyBox*)
    [ "$5" ] || lacks 'curl or GNU wget; busybox would show the url to all users'
    case $3$4,$1 in
    true,https*) lacks "curl or GNU wget; busybox's does not check certificates, so a checksum must do";;
    esac;;
  *) lacks 'curl, GNU wget or busybox wget';;
  esac
  if [ "$3" = false ]; then set -- --no-check-certificate; else set --; fi
  case $f_fetch_by_wget_kind in
  *'GNU Wget 1'*)
    set -- "$@" -nv -t 1 -T "$f_fetch_by_wget_timeout" --no-http-keep-alive -O - -i -;;
  *)
    case $f_fetch_by_wget_kind in *' -T '*|*'-T SEC'*) set -- "$@" -T "$f_fetch_by_wget_timeout";; esac
    set -- "$@" -q -O - -- "$f_fetch_by_wget_url";;
  esac
  {
    if f_fetch_by_wget_output=$(printf '%s\n' "$f_fetch_by_wget_url" | wget "$@" 2>&1 >&3 3>&-); then :
    else
      printf '%s\n' "wget failed with status $?" "$f_fetch_by_wget_output" >&2
      exit 1
    fi
  } 3>&1
}
# present PATH: succeed if the path exists, even as a dangling link.
present() { [ -e "$1" ] || [ -L "$1" ]; }

# readable FILE: fail with a message if the file is not readable. [ -r ] may be wrong for root.
readable() { (: <"$1") 2>/dev/null || { echo "cannot read $1" >&2; return 1; }; }

# kind PATH: determine the type: absent, file, directory, link or other. Starts no process.
# Sets f_type.
kind() {
  if [ -L "$1" ]; then f_type=link
  elif [ -f "$1" ]; then f_type=file
  elif [ -d "$1" ]; then f_type=directory
  elif [ -e "$1" ]; then f_type=other
  else f_type=absent
  fi
}
# attributes PATH: determine type, mode (four octal digits), owner, group and size; empty if absent.
# They are read from `ls -ldn`, whose first fields POSIX.1-2017 specifies.
# Sets f_type f_mode f_uid f_gid f_size.
attributes() {
  f_mode= f_uid= f_gid= f_size=
  kind "$1"
  [ $f_type != absent ] || return 0
  case $1 in /*) f_attributes_path=$1;; *) f_attributes_path=./$1;; esac
  f_attributes_line=$(LC_ALL=C ls -ldn "$f_attributes_path") || return
  f_octal "${f_attributes_line%% *}"
  f_field "${f_attributes_line#* }"
  f_field "$f_left"; f_uid=$f_word
  f_field "$f_left"; f_gid=$f_word
  f_field "$f_left"; f_size=$f_word
}
# f_field TEXT: split off the first word.
# Sets f_word f_left.
f_field() {
  f_left=$1
  while :; do case $f_left in ' '*) f_left=${f_left# };; *) break;; esac; done
  f_word=${f_left%% *} f_left=${f_left#* }
}
# f_octal BITS: convert a mode as shown by `ls`.
# Sets f_mode.
f_octal() {
  f_octal_bits=${1#?} f_octal_high=0 f_mode=
  for f_octal_weight in 4 2 1; do
    f_octal_who=${f_octal_bits%"${f_octal_bits#???}"} f_octal_bits=${f_octal_bits#???} f_octal_low=0
    case $f_octal_who in r??) f_octal_low=4;; esac
    case $f_octal_who in ?w?) f_octal_low=$((f_octal_low+2));; esac
    case $f_octal_who in ??[xst]) f_octal_low=$((f_octal_low+1));; esac
    case $f_octal_who in ??[sStT]) f_octal_high=$((f_octal_high+f_octal_weight));; esac
    f_mode=$f_mode$f_octal_low
  done
  f_mode=$f_octal_high$f_mode
}
# symbolic_mode MODE OCTAL TYPE: apply a mode like u=rwX,go=rX to that of a file; four octal digits
# stay. X means execution for a directory, and where somebody may execute the file already; u, g and
# o behind an operator are the permissions that these have. Like GNU chmod, the set-ID bits of a
# directory change only if they are named.
# Sets f_applied.
symbolic_mode() {
  f_applied=$1
  case $1 in ''|[0-7]*) return;; esac
  f_symbolic_mode_bits=$((0$2)) f_symbolic_mode_rest=$1,
  while [ "$f_symbolic_mode_rest" ]; do
    f_symbolic_mode_part=${f_symbolic_mode_rest%%,*} f_symbolic_mode_rest=${f_symbolic_mode_rest#*,}
    f_symbolic_mode_who=${f_symbolic_mode_part%%[-=+]*} f_symbolic_mode_what=${f_symbolic_mode_part#*[-=+]}
    f_symbolic_mode_mask=0 f_symbolic_mode_perms=0
    case $f_symbolic_mode_who in *u*) f_symbolic_mode_mask=$((04700));; esac
    case $f_symbolic_mode_who in *g*) f_symbolic_mode_mask=$((f_symbolic_mode_mask|02070));; esac
    case $f_symbolic_mode_who in *o*) f_symbolic_mode_mask=$((f_symbolic_mode_mask|01007));; esac
    case $f_symbolic_mode_what in *r*) f_symbolic_mode_perms=$((0444));; esac
    case $f_symbolic_mode_what in *w*) f_symbolic_mode_perms=$((f_symbolic_mode_perms|0222));; esac
    case $f_symbolic_mode_what in *s*) f_symbolic_mode_perms=$((f_symbolic_mode_perms|06000));; esac
    case $f_symbolic_mode_what in *t*) f_symbolic_mode_perms=$((f_symbolic_mode_perms|01000));; esac
    case $3$((f_symbolic_mode_bits & 0111)),$f_symbolic_mode_what in
    *,*x*|directory*,*X*|*[1-9],*X*) f_symbolic_mode_perms=$((f_symbolic_mode_perms|0111));;
    esac
    case $f_symbolic_mode_what in
    u) f_symbolic_mode_perms=$(((f_symbolic_mode_bits >> 6 & 7) * 0111));;
    g) f_symbolic_mode_perms=$(((f_symbolic_mode_bits >> 3 & 7) * 0111));;
    o) f_symbolic_mode_perms=$(((f_symbolic_mode_bits & 7) * 0111));;
    esac
    f_symbolic_mode_perms=$((f_symbolic_mode_perms & f_symbolic_mode_mask))
    [ "$3" != directory ] ||
      f_symbolic_mode_mask=$((f_symbolic_mode_mask & ~(06000 & ~f_symbolic_mode_perms)))
    case $f_symbolic_mode_part in
    *+*) f_symbolic_mode_bits=$((f_symbolic_mode_bits | f_symbolic_mode_perms));;
    *-*) f_symbolic_mode_bits=$((f_symbolic_mode_bits & ~f_symbolic_mode_perms));;
    *) f_symbolic_mode_bits=$((f_symbolic_mode_bits & ~f_symbolic_mode_mask | f_symbolic_mode_perms));;
    esac
  done
  f_applied=$(printf %04o $f_symbolic_mode_bits)
}
# named PATH: normalize the path: absolute or with ./ before it, without slashes at the end.
# Sets path.
named() {
  path=$1
  while :; do case $path in ?*/) path=${path%/};; *) break;; esac; done
  case $path in /*) ;; *) path=./$path;; esac
}
# above: fail if the nearest existing parent of path is not a directory or not searchable.
# Reads path.
above() {
  f_above_up=$path
  until present "$f_above_up"; do f_above_up=${f_above_up%/*}; f_above_up=${f_above_up:-/}; done
  [ "$f_above_up" != "$path" ] || return 0
  [ -d "$f_above_up" ] || { echo "$f_above_up is not a directory" >&2; return 1; }
  [ -x "$f_above_up" ] || { echo "cannot look into $f_above_up" >&2; return 1; }
}
# points LINK: read the target of the link.
# Sets f_to.
points() { f_to=$(readlink -- "$1" && echo .) && f_to=${f_to%"$o_nl".}; }
# resolve_path PATH: follow links to the final path, and determine its type. Fail for a dangling
# link, and for the errors of above.
# Sets path f_type.
resolve_path() {
  named "$1"
  f_resolve_path_links=0
  while [ -L "$path" ] && [ $f_resolve_path_links -lt 40 ]; do
    points "$path" || return
    f_resolve_path_links=$((f_resolve_path_links+1))
    case $f_to in /*) named "$f_to";; *) named "${path%/*}/$f_to";; esac
  done
  kind "$path"
  case $f_resolve_path_links$f_type in
  0absent) above || return;;
  *absent|*link) echo "$1 is a link to $f_to, which does not exist" >&2; return 1;;
  esac
}
# resolve_file PATH: like resolve_path, for a regular file or a path where one can be created.
# Sets path f_type.
resolve_file() {
  resolve_path "$1" || return
  case $f_type in
  absent|file) ;;
  directory) echo "$1 is a directory" >&2; return 1;;
  *) echo "$1 is not a regular file" >&2; return 1;;
  esac
}
# creatable FILE: fail unless it is a regular file, or one can be created there.
# Sets path f_type.
creatable() {
  path=$1
  kind "$path"
  case $f_type in
  absent) above;;
  file) ;;
  directory) echo "$path is a directory" >&2; return 1;;
  *) echo "$path is not a regular file" >&2; return 1;;
  esac
}
# parents: create the parent directories of path.
# Reads path.
parents() { f_parents_up=${path%/*}; [ -d "${f_parents_up:-/}" ] || mkdir -p -- "$f_parents_up"; }
# check_removable: fail if the directory at path contains /, $HOME or the current directory.
# Reads path.
check_removable() {
  f_check_removable_real=$(cd -P -- "$path" && pwd -P) || return
  # assigned first: in a pattern bash 5.2 does not treat an empty "${…%/}" as empty
  f_check_removable_real=${f_check_removable_real%/} f_check_removable_real=${f_check_removable_real%/}
  for f_check_removable_up in / "$HOME" "$PWD"; do
    f_check_removable_up=$(cd -P -- "$f_check_removable_up" 2>/dev/null && pwd -P) || continue
    case $f_check_removable_up/ in "$f_check_removable_real"/*) echo "$path is not removed because it contains $f_check_removable_up" >&2; return 1;; esac
  done
  [ "$f_check_removable_real" ]
}

# uid USER, gid GROUP: print the number, or nothing if there is no such name.
uid() {
  case $1 in *[!0-9]*|'') id -u -- "$1" 2>/dev/null || id -u "$1" 2>/dev/null;; *) echo "$1";; esac
}
gid() {
  case $1 in
  *[!0-9]*|'')
    { getent group "$1" 2>/dev/null || cat /etc/group; } |
      while IFS=: read -r f_gid_name f_gid_x f_gid_id f_gid_x; do
        [ "$f_gid_name" != "$1" ] || { echo "$f_gid_id"; break; }
      done;;
  *) echo "$1";;
  esac
}
# holder passwd|group NUMBER: print the name that has the number, or nothing.
holder() {
  { getent "$1" "$2" 2>/dev/null || cat "/etc/$1"; } |
    while IFS=: read -r f_holder_name f_holder_x f_holder_id f_holder_x; do
      [ "$f_holder_id" != "$2" ] || { printf '%s\n' "$f_holder_name"; break; }
    done
}
# free passwd|group NUMBER NAME: fail if the number is used by another name.
free() {
  f_free_by=$(holder "$1" "$2")
  case $f_free_by in ''|"$3") ;; *) echo "$2 is $f_free_by's number" >&2; return 1;; esac
}
# find_group GROUP: print the number of a group given by name or number. Fail if it does not exist.
find_group() {
  case $1 in
  *[!0-9]*|'') gid "$1" | grep . && return;;
  *) [ -z "$(holder group "$1")" ] || { echo "$1"; return; };;
  esac
  echo "there is no group $1" >&2
  return 1
}
# home USER: print the home folder, or nothing if there is no such user.
home() {
  { getent passwd "$1" 2>/dev/null || cat /etc/passwd; } | while IFS= read -r f_home_line; do
    f_home_rest=${f_home_line%:*}
    if [ "${f_home_line%%:*}" = "$1" ]; then printf '%s\n' "${f_home_rest##*:}"; break; fi
  done
}
# owned OWNER GROUP: report owner and group as determined by attributes, in the words given if those
# mean the same number. An empty argument is not reported. Fail if the user or group does not exist.
# Reads f_uid f_gid.
owned() {
  if [ "$1" ]; then
    f_owned_id=$(uid "$1") && [ "$f_owned_id" ] || { echo "there is no user $1" >&2; return 1; }
    if [ "$f_owned_id" = "$f_uid" ]; then state owner "$1"; elif [ "$f_uid" ]; then state owner "$f_uid"; fi
  fi
  [ "$2" ] || return 0
  f_owned_id=$(gid "$2") && [ "$f_owned_id" ] || { echo "there is no group $2" >&2; return 1; }
  if [ "$f_owned_id" = "$f_gid" ]; then state group "$2"; elif [ "$f_gid" ]; then state group "$f_gid"; fi
}
# report_attributes OWNER GROUP: report mode, owner and group of path if one of them is wanted. A
# mode that applying the wanted one does not change is reported in its words.
# Sets f_type.
# Reads path.
report_attributes() {
  case $o_nl$o_want in
  *"$o_nl"mode=*|*"$o_nl"owner=*|*"$o_nl"group=*)
    attributes "$path" || return
    f_report_attributes_mode=$f_mode
    case $o_nl$o_want in *"$o_nl"mode=*)
      f_report_attributes_words=$o_nl$o_want
      f_report_attributes_words=${f_report_attributes_words#*"$o_nl"mode=}
      f_report_attributes_words=${f_report_attributes_words%%"$o_nl"*}
      symbolic_mode "$f_report_attributes_words" "$f_mode" "$f_type"
      [ "$f_applied" != "$f_mode" ] || f_report_attributes_mode=$f_report_attributes_words;;
    esac
    [ -z "$f_mode" ] || state mode "$f_report_attributes_mode"
    owned "$1" "$2";;
  esac
}
# own PATH OWNER GROUP: set owner and group if given; for a link, those of the link itself.
own() {
  [ -z "$2$3" ] || chown -h -- "$2${3:+:$3}" "$1"
}

# target PATH: the path, absolute or with ./ before it, with links followed.
# Sets target.
target() {
  case $1 in /*) target=$1;; *) target=./$1;; esac
  f_target_hops=0
  while [ -L "$target" ]; do
    f_target_hops=$((f_target_hops+1))
    [ $f_target_hops -le 40 ] || { echo "$1 is a link with too many levels" >&2; return 1; }
    f_target_link=$(set -e; readlink -- "$target"; echo .)
    f_target_link=${f_target_link%??}
    case $f_target_link in /*) target=$f_target_link;; *) target=${target%/*}/$f_target_link;; esac
  done
}
# is_fixed: succeed if the fix has run; for actions that are not states, such as a restart.
is_fixed() { [ "$o_off" ]; }
# chown_recursive PATH OWNER GROUP: like own, for the path and everything in it.
chown_recursive() { [ -z "$2$3" ] || chown -hR -- "$2${3:+:$3}" "$1"; }
# all_of user|group ID: succeed if ID is empty, or owns path and everything in it.
# Reads path.
all_of() { [ -z "$2" ] || [ -z "$(find "$path" ! "-$1" "$2" | head -n 1)" ]; }
# modes_in PATH TYPE: print the distinct modes of the directories or files in it, and its own. TYPE is
# d or f.
modes_in() {
  for f_modes_in_bits in $(
    find "$1" -type "$2" -exec ls -ldn {} + |
      LC_ALL=C awk '/^[-d][-rwxsStT]+[.+@]? +[0-9]+ +[0-9]+ +[0-9]+ / { print substr($1, 1, 10) }' | sort -u
  ); do
    f_octal "$f_modes_in_bits"
    echo "$f_mode"
  done
}
# off_modes PATH MODE FILE_MODE: print the first mode in the directory that is not as wanted: MODE is
# that of directories, FILE_MODE that of files.
off_modes() {
  for f_off_modes_type in d f; do
    f_off_modes_kind=directory f_off_modes_words=$2
    [ $f_off_modes_type = d ] || { f_off_modes_kind=file f_off_modes_words=$3; }
    [ "$f_off_modes_words" ] || continue
    for f_off_modes_each in $(modes_in "$1" $f_off_modes_type); do
      symbolic_mode "$f_off_modes_words" "$f_off_modes_each" $f_off_modes_kind
      [ "$f_applied" = "$f_off_modes_each" ] || { echo "$f_off_modes_each"; return; }
    done
  done
}
# set_modes PATH MODE FILE_MODE: set the modes of all directories and files in it, and its own.
set_modes() {
  for f_set_modes_type in f d; do
    f_set_modes_kind=directory f_set_modes_words=$2
    [ $f_set_modes_type = d ] || { f_set_modes_kind=file f_set_modes_words=$3; }
    [ "$f_set_modes_words" ] || continue
    for f_set_modes_each in $(modes_in "$1" $f_set_modes_type); do
      symbolic_mode "$f_set_modes_words" "$f_set_modes_each" $f_set_modes_kind
      # inner ones first, for an owner who may not enter a directory afterwards
      [ "$f_applied" = "$f_set_modes_each" ] ||
        find "$1" -depth -type $f_set_modes_type -perm "$f_set_modes_each" -exec chmod -- "0$f_applied" {} + || return
    done
  done
}
# set_attributes PATH MODE OWNER GROUP: set those that are given. With the leading 0, GNU chmod
# clears the set-ID bits of directories as well.
set_attributes() {
  own "$1" "$3" "$4"
  [ "$2" ] || return 0
  case $2 in [0-7]*) ;; *) attributes "$1";; esac
  symbolic_mode "$2" "$f_mode" "$f_type"
  chmod -- "0$f_applied" "$1"
}

# Attributes of chattr(1), such as i (immutable). WANTED are letters with +, - or =, or empty.

# is_off KEY: succeed if the state differs.
is_off() { case "$o_off " in *" $1 "*) ;; *) return 1;; esac; }
# read_flags PATH: determine its attributes. Fail if the file system has none.
# Sets f_flags.
read_flags() {
  has lsattr || lacks 'lsattr, which attributes need (e2fsprogs)'
  f_read_flags_line=$(LC_ALL=C lsattr -d "$1" 2>/dev/null) || f_read_flags_line=
  f_read_flags_line=${f_read_flags_line%% *} f_flags=
  [ "$f_read_flags_line" ] || { echo "the file system of $1 has no attributes" >&2; return 1; }
  while [ "$f_read_flags_line" ]; do
    case $f_read_flags_line in
    -*) ;;
    *) f_flags=$f_flags${f_read_flags_line%"${f_read_flags_line#?}"};;
    esac
    f_read_flags_line=${f_read_flags_line#?}
  done
}
# plan_flags WANTED FLAGS: determine the letters to add and to remove. Those that chattr cannot
# remove, such as e, stay with =.
# Sets f_on f_away.
plan_flags() {
  f_plan_flags_rest=${1#[-+=]} f_on= f_away=
  while [ "$f_plan_flags_rest" ]; do
    f_plan_flags_letter=${f_plan_flags_rest%"${f_plan_flags_rest#?}"} f_plan_flags_rest=${f_plan_flags_rest#?}
    case $1,$2$f_on in
    -*,*"$f_plan_flags_letter"*) f_away=$f_away$f_plan_flags_letter;;
    -*|*,*"$f_plan_flags_letter"*) ;;
    *) f_on=$f_on$f_plan_flags_letter;;
    esac
  done
  case $1 in [-+]*) return;; esac
  f_plan_flags_rest=$2
  while [ "$f_plan_flags_rest" ]; do
    f_plan_flags_letter=${f_plan_flags_rest%"${f_plan_flags_rest#?}"} f_plan_flags_rest=${f_plan_flags_rest#?}
    case $1 in *"$f_plan_flags_letter"*) continue;; esac
    case $f_plan_flags_letter in [!eEINVh]) f_away=$f_away$f_plan_flags_letter;; esac
  done
}
# report_flags PATH WANTED: report `attributes`, in the words of WANTED if applying it changes nothing.
# Fail if the host could not apply it.
report_flags() {
  [ "$2" ] || return 0
  case ${2#[-+=]} in *[!aAcCdDeFijmPsStTux]*)
    echo "\`attributes\` must be letters of chattr(1) with +, - or = in front, found $2" >&2; return 64;;
  esac
  f_report_flags_at=$1
  until present "$f_report_flags_at"; do f_report_flags_at=${f_report_flags_at%/*}; f_report_flags_at=${f_report_flags_at:-/}; done
  read_flags "$f_report_flags_at" || return
  f_report_flags_now=
  [ "$f_report_flags_at" != "$1" ] || f_report_flags_now=$f_flags
  plan_flags "$2" "$f_report_flags_now"
  if [ -z "$f_on$f_away" ]; then
    [ "$f_report_flags_at" != "$1" ] || state attributes "$2"
    return 0
  fi
  has chattr || lacks chattr
  case $f_on$f_away in *[ia]*) may_lock || return;; esac
  if [ "$f_report_flags_at" = "$1" ]; then
    [ -O "$1" ] || root_only || return
    state attributes "${f_report_flags_now:-none}"
  fi
}
# may_lock: fail if this user cannot set or remove the attributes i and a: Linux asks for the
# capability CAP_LINUX_IMMUTABLE, number 9.
may_lock() {
  f_may_lock_powers=$(sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/self/status 2>/dev/null) || f_may_lock_powers=
  [ "$f_may_lock_powers" ] || { root_only; return; }
  f_may_lock_powers=$(printf %d "0x$f_may_lock_powers")
  [ $((f_may_lock_powers >> 9 & 1)) = 0 ] || return 0
  root_only || return
  echo "root lacks the capability to set or remove the attributes i and a on this host" >&2
  return 1
}
# read_locks PATH: determine which of the attributes i and a the path has; none if it does not exist,
# or the host cannot tell.
# Sets f_locks.
read_locks() {
  f_locks=
  [ -e "$1" ] && [ ! -L "$1" ] && has lsattr && read_flags "$1" 2>/dev/null || return 0
  case $f_flags in *i*) f_locks=i;; esac
  case $f_flags in *a*) f_locks=${f_locks}a;; esac
}
# changeable PATH WANTED: fail if something else than the attributes differs, and the attributes i or
# a forbid to change it. Those that WANTED names, or removes, are removed for the change.
changeable() {
  [ "$o_off" != ' attributes' ] || return 0
  read_locks "$1"
  plan_flags "${2:-+}" "$f_locks"
  f_changeable_rest=$f_locks
  while [ "$f_changeable_rest" ]; do
    f_changeable_letter=${f_changeable_rest%"${f_changeable_rest#?}"} f_changeable_rest=${f_changeable_rest#?}
    case ${2#-}$f_away in *"$f_changeable_letter"*) continue;; esac
    echo "$1 has the attribute $f_changeable_letter, which forbids changes: \`attributes: -$f_changeable_letter\` removes it" >&2
    return 1
  done
}
# with_flags PATH WANTED COMMAND: run the command, with a WANTED although i or a of the path forbid
# changes, and then apply WANTED. If the command fails, i and a are as before.
with_flags() {
  [ "$2" ] || { "$3"; return; }
  read_locks "$1"
  f_with_flags_locks=$f_locks
  [ -z "$f_locks" ] || chattr "-$f_locks" "$1"
  set +e
  (set -e; "$3")
  f_with_flags_code=$?
  set -e
  if [ $f_with_flags_code != 0 ]; then
    [ -z "$f_with_flags_locks" ] || chattr "+$f_with_flags_locks" "$1"
    return $f_with_flags_code
  fi
  [ -e "$1" ] || return 0
  case $2 in [-+]*) ;; *) f_with_flags_locks=;; esac
  read_flags "$1"
  plan_flags "$2" "$f_flags$f_with_flags_locks"
  # i and a come last, because they forbid to change the others
  f_with_flags_add=$f_on
  for f_with_flags_each in i a; do
    case $f_away,$f_with_flags_locks in
    *$f_with_flags_each*,*) ;;
    *,*$f_with_flags_each*) f_with_flags_add=$f_with_flags_add$f_with_flags_each;;
    esac
  done
  [ -z "$f_away" ] || chattr "-$f_away" "$1"
  [ -z "$f_with_flags_add" ] || chattr "+$f_with_flags_add" "$1"
}

# Times of files, given as seconds since 1970 or as YYYY-MM-DDThh:mm:ssZ.

# epoch_of TIME: determine the seconds since 1970. Fail if it is not a time.
# Sets f_epoch.
epoch_of() {
  case $1 in
  ''|*[!0-9]*) ;;
  ?????????????*) ;;
  *) f_epoch=$(printf %s "$1" | sed 's/^0*\(.\)/\1/'); return;;
  esac
  case $1 in
  [1-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z)
    f_epoch_of_year=${1%%-*} f_epoch_of_rest=${1#*-}
    f_epoch_of_month=${f_epoch_of_rest%%-*} f_epoch_of_rest=${f_epoch_of_rest#*-}
    f_epoch_of_day=${f_epoch_of_rest%%T*} f_epoch_of_rest=${f_epoch_of_rest#*T}
    f_epoch_of_hour=${f_epoch_of_rest%%:*} f_epoch_of_rest=${f_epoch_of_rest#*:}
    f_epoch_of_minute=${f_epoch_of_rest%%:*} f_epoch_of_rest=${f_epoch_of_rest#*:}
    f_epoch_of_second=${f_epoch_of_rest%Z}
    f_epoch_of_month=${f_epoch_of_month#0} f_epoch_of_day=${f_epoch_of_day#0}
    # the year begins in March, so that a leap day is its last
    [ "$f_epoch_of_month" -gt 2 ] || f_epoch_of_year=$((f_epoch_of_year-1)) f_epoch_of_month=$((f_epoch_of_month+12))
    f_epoch=$((365*f_epoch_of_year + f_epoch_of_year/4 - f_epoch_of_year/100 + f_epoch_of_year/400))
    f_epoch=$((f_epoch + (153*(f_epoch_of_month-3) + 2)/5 + f_epoch_of_day - 719469))
    f_epoch=$((((f_epoch*24 + ${f_epoch_of_hour#0})*60 + ${f_epoch_of_minute#0})*60 + ${f_epoch_of_second#0}))
    utc_time "$f_epoch"
    [ "$f_time" != "$1" ] || return 0;;
  esac
  echo "$1 is not a time since 1970: write seconds, or a time like 2026-01-31T12:00:00Z" >&2
  return 64
}
# utc_time SECONDS: determine the time like 2026-01-31T12:00:00Z.
# Sets f_time.
utc_time() {
  f_utc_time_days=$(($1/86400 + 719468))
  f_utc_time_era=$((f_utc_time_days/146097))
  f_utc_time_days=$((f_utc_time_days - f_utc_time_era*146097))
  f_utc_time_year=$(((f_utc_time_days - f_utc_time_days/1460 + f_utc_time_days/36524 - f_utc_time_days/146096)/365))
  f_utc_time_days=$((f_utc_time_days - 365*f_utc_time_year - f_utc_time_year/4 + f_utc_time_year/100))
  f_utc_time_month=$(((5*f_utc_time_days + 2)/153))
  f_utc_time_days=$((f_utc_time_days - (153*f_utc_time_month + 2)/5 + 1))
  f_utc_time_year=$((f_utc_time_year + 400*f_utc_time_era + f_utc_time_month/10))
  f_utc_time_month=$((f_utc_time_month - 12*(f_utc_time_month/10) + 3))
  f_time=$(printf '%04d-%02d-%02dT%02d:%02d:%02dZ' $f_utc_time_year $f_utc_time_month $f_utc_time_days \
    $(($1%86400/3600)) $(($1%3600/60)) $(($1%60)))
}
# report_times PATH ACCESS MODIFICATION: report `access_time` and `modification_time`, in the words
# given if those are the same time.
report_times() {
  [ "$2$3" ] || return 0
  [ -z "$2" ] || epoch_of "$2" || return
  f_report_times_epoch=$f_epoch
  [ -z "$3" ] || epoch_of "$3" || return
  [ -e "$1" ] || return 0
  file_times "$1"
  [ "$f_mtime" ] || lacks 'stat, which times need'
  [ -z "$2" ] || report_time access_time "$2" "$f_report_times_epoch" "$f_atime"
  [ -z "$3" ] || report_time modification_time "$3" "$f_epoch" "$f_mtime"
}
report_time() {
  if [ "$3" = "$4" ]; then state "$1" "$2"
  else
    case $2 in *Z) utc_time "$4"; state "$1" "$f_time";; *) state "$1" "$4";; esac
  fi
}
# set_times PATH ACCESS MODIFICATION: set those that are given.
set_times() {
  for f_set_times_each in "a$2" "m$3"; do
    [ "${f_set_times_each#?}" ] || continue
    epoch_of "${f_set_times_each#?}"
    utc_time "$f_epoch"
    # YYYYMMDDhhmm.ss
    f_set_times_at=$(printf %s "$f_time" | sed -e 's/[-TZ]//g' -e 's/:\(..\)$/.\1/' -e 's/://')
    TZ=UTC0 touch "-${f_set_times_each%"${f_set_times_each#?}"}" -t "$f_set_times_at" -- "$1"
  done
}

# returned KEY VALUE: print a value of the module's result (`returns`), without newlines.
returned() { o_line "$2"; printf '%s\n' "$1=$o_text"; }

# returned_content KEY FILE SIZE: like returned, with the first SIZE bytes of a file, whatever they are.
returned_content() {
  printf '%s=' "$1"
  if head -c "$3" <"$2" | tr -d '\000' | cmp -s - "$2"; then
    { head -c "$3" <"$2"; echo .; } | LC_ALL=C sed -e 's/%/%25/g' -e 's/$/%0A/' | tr -d '\n' |
      LC_ALL=C sed 's/\.%0A$//'
  else head -c "$3" <"$2" | od -An -v -tx1 | tr -d '\n' | sed 's/ /%/g'
  fi
  echo
}
# json_text TEXT: write a text as in JSON.
# Sets f_json.
json_text() {
  f_json_text_rest=$1 f_json=
  while :; do
    case $f_json_text_rest in
    *[\\\"$o_nl]*)
      f_json_text_head=${f_json_text_rest%%[\\\"$o_nl]*}
      f_json_text_rest=${f_json_text_rest#"$f_json_text_head"}
      f_json=$f_json$f_json_text_head
      case $f_json_text_rest in
      \\*) f_json="$f_json\\\\";;
      \"*) f_json="$f_json\\\"";;
      *) f_json="$f_json\\n";;
      esac
      f_json_text_rest=${f_json_text_rest#?};;
    *) f_json="\"$f_json$f_json_text_rest\""; return;;
    esac
  done
}
# file_sum ALGORITHM FILE: print its checksum: md5, sha1, sha224, sha256, sha384 or sha512.
file_sum() {
  if has "$1sum"; then f_file_sum_text=$("$1sum" <"$2")
  elif [ "$1" = md5 ] && has md5; then f_file_sum_text=$(md5 -q <"$2")
  elif [ "$1" != md5 ] && has shasum; then f_file_sum_text=$(shasum -a "${1#sha}" <"$2")
  elif has openssl; then f_file_sum_text=$(openssl dgst "-$1" -r <"$2")
  else lacks "$1sum or openssl"
  fi || return
  echo "${f_file_sum_text%% *}"
}
# file_times PATH: determine times in seconds, inode and number of hard links; empty if the host
# cannot tell. Links are not followed.
# Sets f_atime f_mtime f_ctime f_inode f_links.
file_times() {
  f_file_times_all=$(stat -c '%X %Y %Z %i %h' -- "$1" 2>/dev/null || stat -f '%a %m %c %i %l' -- "$1" 2>/dev/null) ||
    f_file_times_all=
  f_field "$f_file_times_all "; f_atime=$f_word
  f_field "$f_left"; f_mtime=$f_word
  f_field "$f_left"; f_ctime=$f_word
  f_field "$f_left"; f_inode=$f_word
  f_field "$f_left"; f_links=$f_word
}
# special PATH: determine the type like kind, with the kinds of special files.
# Sets f_type.
special() {
  kind "$1"
  [ $f_type = other ] || return 0
  if [ -p "$1" ]; then f_type=fifo
  elif [ -S "$1" ]; then f_type=socket
  elif [ -b "$1" ]; then f_type=block_device
  elif [ -c "$1" ]; then f_type=character_device
  fi
}

# digest FILE: print its SHA-256.
digest() {
  if has sha256sum; then f_digest_sum=$(sha256sum <"$1")
  elif has shasum; then f_digest_sum=$(shasum -a 256 <"$1")
  elif has openssl; then f_digest_sum=$(openssl dgst -sha256 -r <"$1")
  else lacks "sha256sum, shasum or openssl"
  fi || return
  echo "${f_digest_sum%% *}"
}
# same FILE: succeed if its content equals the payload.
same() {
  [ -f "$1" ] || return 1
  if [ -z "$o_digest" ]; then payload | cmp -s - "$1"
  elif [ "$o_staged" ]; then cmp -s -- "$o_staged" "$1"
  else
    attributes "$1"
    [ "$f_size" = "$o_size" ] || return 1
    f_same_sum=$(digest "$1") || exit
    [ "$f_same_sum" = "$o_digest" ]
  fi
}
# contents PATH: report `contents`, whose desired value is `as given`.
# Sets f_equal.
contents() {
  f_equal=
  if same "$1"; then f_equal=1; state contents 'as given'
  elif [ ! -f "$1" ]; then :
  elif ! readable "$1"; then return 1
  else state contents 'different'; replaced "$1"
  fi
}
# compared PATH OWNER GROUP VALIDATE IN_PLACE [FORCE]: the probe of modules whose payload is the
# content of a file. New content is validated. With FORCE false any existing content is as given.
# Sets path f_type f_equal.
compared() {
  resolve_file "$1" || return
  report_attributes "$2" "$3" || return
  [ "$6$f_type" != falsefile ] || { f_equal=1; state contents 'as given'; return; }
  contents "$path" || return
  [ "$f_equal" ] || { replaceable "$5" "$7" && tried "$4"; }
}
# replaceable IN_PLACE [WANTED]: fail if an existing file at path cannot be replaced or, with true,
# written. With WANTED, attributes that forbid it do not count, see changeable.
# Reads path.
replaceable() {
  [ -f "$path" ] || return 0
  if [ "$1" = true ]; then
    [ -w "$path" ] || { [ "$2" ] && [ "$(id -u)" = 0 ]; } || { echo "cannot write to $path" >&2; return 1; }
    return 0
  fi
  f_replaceable_up=${path%/*} f_replaceable_why=
  if [ ! -w "${f_replaceable_up:-/}" ]; then
    f_replaceable_why="cannot write to ${f_replaceable_up:-/}"
  elif [ -k "${f_replaceable_up:-/}" ] && [ ! -O "$path" ] && [ ! -O "${f_replaceable_up:-/}" ] &&
    [ "$(id -u)" != 0 ]
  then f_replaceable_why="in ${f_replaceable_up:-/} only its owner can do that"
  elif mounted "$path"; then f_replaceable_why="it is mounted by itself"
  fi
  [ "$f_replaceable_why" ] || return 0
  [ ! -w "$path" ] ||
    f_replaceable_why="$f_replaceable_why; \`in_place: true\` writes into the file that is there"
  echo "$path cannot be replaced: $f_replaceable_why" >&2
  return 1
}
# mounted FILE: succeed if it is a mount point, according to Linux (proc_pid_mountinfo(5)).
mounted() {
  [ -r /proc/self/mountinfo ] && has awk || return
  f_mounted_at=$(cd -P -- "${1%/*}/" && pwd -P && echo .) || return
  f_mounted_at=${f_mounted_at%"$o_nl".}
  f_mounted_at=${f_mounted_at%/}/${1##*/}
  # newlines, blanks and backslashes are octal in mountinfo
  printf '%s\n' "$f_mounted_at" | LC_ALL=C awk '
    FNR == NR {
      gsub(/\\/, "\\134"); gsub(/ /, "\\040"); gsub(/\t/, "\\011")
      at = at (at == "" ? "" : "\\012") $0
      next }
    $5 == at { on = 1 }
    END { exit !on }' - /proc/self/mountinfo
}
# tried COMMAND: run the command with %s as a private file that has the name of path and the content
# of payload. Fail if the command fails. Content that is not on the host yet is validated later.
# Reads path.
tried() {
  [ "$1" ] || return 0
  case $1 in *%s*) ;; *) echo "\`validate\` must contain %s, which is replaced by the new file" >&2; return 64;; esac
  [ -z "$o_digest" ] || [ "$o_staged" ] || return 0
  f_tried_up=${TMPDIR:-/tmp} f_tried_new=${path##*/} f_tried_rest=$1
  case $f_tried_up in *[!A-Za-z0-9/._-]*) f_tried_up=/tmp;; esac
  case $f_tried_new in *[!A-Za-z0-9._-]*) f_tried_new=file;; esac
  f_tried_up=$f_tried_up/$ORCH_TEMP
  f_tried_new=$f_tried_up/$f_tried_new f_tried_text=
  while :; do
    case $f_tried_rest in
    *%s*) f_tried_text=$f_tried_text${f_tried_rest%%%s*}$f_tried_new f_tried_rest=${f_tried_rest#*%s};;
    *) f_tried_text=$f_tried_text$f_tried_rest; break;;
    esac
  done
  f_tried_output=$(
    trap 'rm -rf -- "$f_tried_up"' EXIT
    trap 'exit 143' TERM HUP INT
    exec 2>&1
    (umask 077 && mkdir -- "$f_tried_up" && payload >"$f_tried_new") || exit
    eval "$f_tried_text" </dev/null 3>&- 4>&-
  ) || { f_tried_status=$?; printf '%s\n' ${f_tried_output:+"$f_tried_output"} "not valid: $1 (exit status $f_tried_status)" >&2; return 1; }
}
# replaced FILE: report its text for a diff; nothing if it is long or not text.
replaced() {
  [ "$o_show" ] || return 0
  attributes "$1"
  [ "$f_size" -le 65536 ] || { o_report old# long >&4; return 0; }
  tr -d '\000' <"$1" | cmp -s - "$1" || { o_report old# binary >&4; return 0; }
  f_tell old <"$1" >&4
}
f_tell() {
  while IFS= read -r f_tell_line; do o_report "$1" "$f_tell_line"; done
  [ -z "$f_tell_line" ] || { o_report "$1" "$f_tell_line"; o_report "$1#" cut; }
}
# report_new_text: report the output of payload if it is generated on the host.
report_new_text() {
  [ "$o_show" ] || return 0
  f_report_new_text_size=$(payload | wc -c)
  if [ $((f_report_new_text_size)) -gt 65536 ]; then o_report new# long >&4
  elif [ "$f_report_new_text_size" != "$(payload | tr -d '\000' | wc -c)" ]; then o_report new# binary >&4
  else payload | f_tell new >&4
  fi
}
# beside PATH [USUAL]: create an empty temporary file in the same directory, which only its owner
# can read and which is removed when the fix ends. Create the directory if necessary. With USUAL,
# the file has the usual permissions of new files. The caller empties f_wrote while it writes.
# Sets temp f_usual f_wrote.
beside() {
  case $1 in */*) temp=${1%/*}/;; *) temp=./;; esac
  [ -d "$temp" ] || mkdir -p -- "$temp"
  temp=$temp.$ORCH_TEMP f_usual=$2 f_wrote=1
  trap '[ ! -e "$temp" ] || rm -f -- "$temp"; [ "$f_wrote" ] || echo "could not write the whole file: is the disk full?" >&2' EXIT
  trap 'exit 143' TERM HUP INT
  if [ "$f_usual" ]; then set -C; true >"$temp"; else (umask 077; set -C; : >"$temp"); fi || return
  set +C
}
# inherit FROM TO: copy the ACL and extended attributes of a file to its replacement, with its mode
# and, if possible, its owner. Print a warning if the host lacks the tools. busybox ls does not show
# ACLs.
inherit() {
  cp --attributes-only --preserve=all --no-preserve=timestamps -- "$1" "$2" 2>/dev/null && return 0
  f_inherit_lost=
  if has getfacl && has setfacl; then
    getfacl -p -- "$1" 2>/dev/null | setfacl --set-file=- -- "$2" 2>/dev/null || f_inherit_lost=1
  else
    case $(LC_ALL=C ls -ld -- "$1") in ??????????+*) f_inherit_lost=1;; esac
  fi
  if has getfattr && has setfattr; then
    f_inherit_all=$(getfattr -d -m - -e base64 -- "$1" 2>/dev/null | grep -v -e '^#' -e '^system\.posix_acl' || :)
    while IFS= read -r f_inherit_line; do
      [ -z "$f_inherit_line" ] ||
        setfattr -n "${f_inherit_line%%=*}" -v "${f_inherit_line#*=}" -- "$2" 2>/dev/null ||
        f_inherit_lost=1
    done <<END
$f_inherit_all
END
  fi
  [ -z "$f_inherit_lost" ] ||
    echo "$1 loses its ACL, or extended attributes: to keep them this host needs GNU cp, or setfacl and setfattr, and may need root" >&2
}
# move_into_place PATH MODE OWNER GROUP [BACKUP]: atomically replace PATH by the file created by
# beside. Attributes that are not given are kept, or follow the umask; a new file that contains a
# secret (o_private) is readable by its owner only. BACKUP true keeps the old file in the same
# directory.
# Reads temp f_usual.
move_into_place() {
  attributes "$1"
  f_move_into_place_was=$f_mode f_move_into_place_user=$f_uid f_move_into_place_team=$f_gid
  case $f_type in
  file) ;;
  directory) echo "$1 is a directory" >&2; return 1;;
  *) f_move_into_place_was= f_move_into_place_user= f_move_into_place_team=;;
  esac
  own "$temp" "${3:-$f_move_into_place_user}" "${4:-$f_move_into_place_team}"
  [ $f_type != file ] || inherit "$1" "$temp"
  # again, because cp may have inherited the owner
  [ $f_type != file ] || own "$temp" "$3" "$4"
  case $2 in [0-7]*) ;; *)
    if [ -z "$f_move_into_place_was" ] && { [ "$2" ] || [ -z "$f_usual" ]; }; then
      f_move_into_place_mask=$(umask)
      [ -z "$o_private" ] || f_move_into_place_mask=077
      f_move_into_place_was=$(printf %04o $((0666 & ~0$f_move_into_place_mask)))
    fi;;
  esac
  symbolic_mode "$2" "$f_move_into_place_was" file
  [ -z "$2$f_move_into_place_was" ] || chmod -- "${f_applied:-$f_move_into_place_was}" "$temp"
  f_move_into_place_kept=
  if [ "$5" = true ] && [ $f_type = file ]; then
    f_move_into_place_kept=$1.$(date -u +%Y%m%dT%H%M%SZ)
    while present "$f_move_into_place_kept~"; do f_move_into_place_kept=$f_move_into_place_kept+; done
    ln -- "$1" "$f_move_into_place_kept~" 2>/dev/null || cp -p -- "$1" "$f_move_into_place_kept~"
  fi
  mv -f -- "$temp" "$1" || { [ -z "$f_move_into_place_kept" ] || rm -f -- "$f_move_into_place_kept~"; return 1; }
}
# over FROM TO: rename FROM, atomically even if TO is a link to a directory and mv supports that: -T
# is an option of GNU and busybox, -h of the BSDs.
over() {
  if [ ! -d "$2" ]; then mv -f -- "$1" "$2"
  else
    mv -fT -- "$1" "$2" 2>/dev/null || mv -fh -- "$1" "$2" 2>/dev/null ||
      perl -e 'rename $ARGV[0], $ARGV[1] or exit 1' "$1" "$2" 2>/dev/null ||
      { rm -f -- "$2" && mv -f -- "$1" "$2"; }
  fi
}
# put PATH MODE OWNER GROUP BACKUP [IN_PLACE]: write the output of payload to the file that PATH
# leads to; with IN_PLACE true, into an existing file.
# Sets f_wrote.
put() {
  resolve_file "$1"
  f_put_was=$f_type
  [ "$f_put_was$6" != filetrue ] || { overwrite_contents "$2" "$3" "$4" "$5"; return; }
  # a new file without special attributes
  if [ "$f_put_was$2$3$4$o_private" = absent ]; then beside "$path" usual; else beside "$path"; fi
  f_wrote=
  payload >"$temp"
  f_put_code=$?
  [ $f_put_code = 0 ] || return $f_put_code
  f_wrote=1
  # a pipeline in payload may hide a failed write
  [ "$o_literal" ] || same "$temp" || { echo "could not write the whole file" >&2; return 1; }
  move_into_place "$path" "$2" "$3" "$4" "$5"
}
# overwrite_contents MODE OWNER GROUP BACKUP: write the output of payload into the file at path once
# it is complete; on failure, such as a full disk, restore the old content.
# Reads path.
overwrite_contents() {
  f_overwrite_contents_temp=${TMPDIR:-/tmp}/$ORCH_TEMP
  trap 'rm -rf -- "$f_overwrite_contents_temp"' EXIT
  trap 'exit 143' TERM HUP INT
  (umask 077 && mkdir -- "$f_overwrite_contents_temp" && cat <"$path" >"$f_overwrite_contents_temp/old" && payload >"$f_overwrite_contents_temp/new") ||
    return
  [ "$o_literal" ] || same "$f_overwrite_contents_temp/new" || { echo "could not write the whole file" >&2; return 1; }
  if [ "$4" = true ]; then
    f_overwrite_contents_kept=$path.$(date -u +%Y%m%dT%H%M%SZ)
    while present "$f_overwrite_contents_kept~"; do f_overwrite_contents_kept=$f_overwrite_contents_kept+; done
    cp -p -- "$path" "$f_overwrite_contents_kept~" || return
  fi
  cat <"$f_overwrite_contents_temp/new" >"$path" || { cat <"$f_overwrite_contents_temp/old" >"$path"; return 1; }
  set_attributes "$path" "$1" "$2" "$3"
}

# Services of systemd. SCOPE is `system`, or `user` for the systemd of the current user.

# has_systemd SCOPE: succeed if that systemd is running. `systemctl --user` finds it by a variable
# that only a login through PAM sets.
has_systemd() {
  [ "$1" = user ] || { [ -d /run/systemd/system ]; return; }
  has systemctl || return
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
  [ -d "$XDG_RUNTIME_DIR/systemd" ]
}
# needs_systemd SCOPE: like has_systemd, but fail with a message.
needs_systemd() {
  has_systemd "$1" && return
  [ "$1" = user ] && has systemctl || lacks "running systemd"
  f_needs_systemd_user=$(id -un)
  echo "no systemd runs for $f_needs_systemd_user: as root, \`loginctl enable-linger $f_needs_systemd_user\` starts one" >&2
  return 69
}
# systemctl_in SCOPE WORD…: run systemctl.
systemctl_in() {
  if [ "$1" = user ]; then shift; systemctl --user "$@"; else shift; systemctl "$@"; fi
}

# Editing of texts by line. Regular expressions of grep are POSIX extended ones, on bytes.

# text_at PATH OWNER GROUP CREATE: resolve_file for a text file; report its attributes. Fail if it
# does not exist, unless CREATE is true; with `never` there is no param for that.
# Sets path f_type.
text_at() {
  resolve_file "$1" || return
  report_attributes "$2" "$3" || return
  if [ $f_type = absent ]; then
    case $4 in
    true) ;;
    never) echo "there is no $1" >&2; return 1;;
    *) echo "there is no $1: \`create: true\` makes it" >&2; return 1;;
    esac
  else
    readable "$path" || return
    tr -d '\000' <"$path" | cmp -s - "$path" ||
      { echo "$1 contains NUL bytes: it is not a text file" >&2; return 1; }
  fi
}
# grep_pattern OPTIONS PATTERN FILE: grep with the pattern on stdin, because all users can see
# arguments.
grep_pattern() {
  LC_ALL=C grep "-$1" -f - -- "$3" <<END
$2
END
}
# pattern_ok OPTIONS PATTERN: succeed if grep accepts the pattern. The file must not be empty,
# because busybox does not parse the pattern for an empty one.
pattern_ok() {
  f_pattern_ok_file=/etc/passwd
  [ -s $f_pattern_ok_file ] || f_pattern_ok_file=/dev/null
  grep_pattern "q$1" "$2" $f_pattern_ok_file || [ $? = 1 ]
}
# counted: count the lines at path (f_end), and determine f_cr: a carriage return if at least half
# of the lines end in one, else empty. Lines of such a Windows text are compared without it.
# Sets f_end f_cr.
# Reads path.
counted() {
  f_end=0 f_cr=
  [ -f "$path" ] || return 0
  f_end=$(LC_ALL=C grep -c '' <"$path") || return 0
  f_counted_cr=$(printf '\r')
  f_counted_of=$(LC_ALL=C grep -c "$f_counted_cr\$" <"$path") || :
  [ $((2*f_counted_of)) -lt "$f_end" ] || f_cr=$f_counted_cr
}
# bare: copy stdin without f_cr at the ends of lines.
# Reads f_cr.
bare() { if [ "$f_cr" ]; then LC_ALL=C sed "s/$f_cr\$//"; else cat; fi; }
# hits OPTIONS PATTERN: print the numbers of the lines at path that match.
# Reads path f_cr.
hits() {
  # checked first, because a pipeline hides the error of an invalid pattern
  pattern_ok "$1" "$2" || return
  if [ ! -f "$path" ]; then :
  elif [ -z "$f_cr" ]; then grep_pattern "n$1" "$2" "$path" | cut -d: -f1
  else
    bare <"$path" | LC_ALL=C grep "-n$1" -f /dev/fd/6 6<<END | cut -d: -f1
$2
END
  fi
}
# one_hit FIRST OPTIONS PATTERN: print the last number of hits or, if FIRST is true, the first.
# Reads path f_cr.
one_hit() {
  f_one_hit_hits=$(hits "$2" "$3") || return
  if [ "$1" = true ]; then echo "${f_one_hit_hits%%"$o_nl"*}"; else echo "${f_one_hit_hits##*"$o_nl"}"; fi
}
# spot AFTER BEFORE [FIRST]: determine the number of lines (f_end), how many of them come before the
# insertion (f_keep), and the first one after it (f_from).
# Sets f_end f_cr f_keep f_from.
# Reads path.
spot() {
  [ -z "$1" ] || [ -z "$2" ] || { echo "\`after\` and \`before\` exclude each other" >&2; return 64; }
  counted
  f_keep=
  if [ "$2" = BOF ]; then f_keep=0
  elif [ "$2" ]; then f_keep=$(one_hit "$3" E "$2") || return; f_keep=${f_keep:+$((f_keep-1))}
  elif [ "$1" ] && [ "$1" != EOF ]; then f_keep=$(one_hit "$3" E "$1") || return
  fi
  f_keep=${f_keep:-$f_end}
  f_from=$((f_keep+1))
}
# dropped [COMMAND [FIRST]]: print the text at path after the sed command FIRST, those in f_gone,
# which delete one line each, and COMMAND.
# Reads path f_gone.
dropped() {
  LC_ALL=C sed -f - -- "$path" <<END
$2
$f_gone
$1
END
}
# splice: print the text at path with f_text, which is whole lines, between f_keep and f_from, and
# without the lines that f_gone deletes.
# Reads path f_text f_end f_keep f_from f_cr f_gone.
splice() {
  if [ $f_end -gt 0 ]; then
    if [ $f_keep -eq 0 ]; then :
    elif [ "$f_gone" ]; then dropped "$((f_keep+1)),\$d"
    else head -n $f_keep <"$path"
    fi
    [ -z "$f_text" ] || [ $f_keep -lt $f_end ] || [ $(($(tail -c 1 <"$path" | wc -l))) -gt 0 ] ||
      printf '%s\n' "$f_cr"
  fi
  printf %s "$f_text"
  if [ $f_from -gt $f_end ]; then :
  elif [ "$f_gone" ] && [ $f_from -gt 1 ]; then dropped '' "1,$((f_from-1))d"
  else tail -n +$f_from <"$path"
  fi
}
# line_at NUMBER: print that line of the text at path.
# Reads path f_cr.
line_at() { head -n "$1" <"$path" | tail -n 1 | bare; }
# literal_regex TEXT: build a regular expression (ERE) that matches the text.
# Sets f_regex.
literal_regex() {
  f_literal_regex_rest=$1 f_regex=
  while :; do
    case $f_literal_regex_rest in
    *["[\\.^\$*+?{}()|"]*)
      f_literal_regex_head=${f_literal_regex_rest%%["[\\.^\$*+?{}()|"]*}
      f_literal_regex_rest=${f_literal_regex_rest#"$f_literal_regex_head"}
      f_regex=$f_regex$f_literal_regex_head\\${f_literal_regex_rest%"${f_literal_regex_rest#?}"}
      f_literal_regex_rest=${f_literal_regex_rest#?};;
    *) f_regex=$f_regex$f_literal_regex_rest; return;;
    esac
  done
}
# regex_groups REGEX: print the number of groups in a regular expression (ERE).
regex_groups() { echo $(($(printf %s "$1" | LC_ALL=C sed -E -e 's/\\.//g' -e 's/\[\^?\]?[^]]*\]//g' | tr -cd '(' | wc -c))); }
# substitution REGEX TEXT FLAGS: build the sed command (ERE) that replaces matches by the text, in
# which \1 to \9 are groups, \0 is the match, \n a newline, \t a tab and \\ a backslash.
# Sets f_substitution.
# Reads f_cr.
substitution() {
  f_substitution_mark=$(printf '\001') f_substitution_rest=$2 f_substitution=
  case $1 in
  '') echo "the pattern is empty" >&2; return 64;;
  *"$o_nl"*|*"$f_substitution_mark"*) echo "the pattern contains a newline or a control character" >&2; return 64;;
  esac
  while :; do
    case $f_substitution_rest in
    *[\\\&"$o_nl"]*)
      f_substitution_head=${f_substitution_rest%%[\\\&"$o_nl"]*}
      f_substitution_rest=${f_substitution_rest#"$f_substitution_head"}
      f_substitution=$f_substitution$f_substitution_head
      case $f_substitution_rest in
      \\[1-9]*)
        f_substitution_group=${f_substitution_rest#?}
        f_substitution_group=${f_substitution_group%"${f_substitution_group#?}"}
        # busybox sed does not check it
        [ "$f_substitution_group" -le "$(regex_groups "$1")" ] ||
          { printf '%s\n' "there is no group for \\$f_substitution_group in the pattern" >&2; return 64; }
        f_substitution=$f_substitution\\$f_substitution_group;;
      \\\\*) f_substitution=$f_substitution${f_substitution_rest%"${f_substitution_rest#??}"};;
      \\0*) f_substitution=$f_substitution\&;;
      \\n*|"$o_nl"*) f_substitution=$f_substitution$f_cr\\$o_nl;;
      \\t*) f_substitution=$f_substitution$(printf '\t');;
      \&*) f_substitution=$f_substitution\\\&;;
      *) printf '%s\n' "'${f_substitution_rest%"${f_substitution_rest#??}"}' in the new text is not \\0 to \\9, \\n, \\t or \\\\" >&2; return 64;;
      esac
      case $f_substitution_rest in
      \\*) f_substitution_rest=${f_substitution_rest#??};;
      *) f_substitution_rest=${f_substitution_rest#?};;
      esac;;
    *"$f_substitution_mark"*) echo "the new text contains a control character" >&2; return 64;;
    *) break;;
    esac
  done
  f_substitution=s$f_substitution_mark$1$f_substitution_mark$f_substitution$f_substitution_rest$f_substitution_mark$3
}
# substituted RANGE: copy stdin with f_substitution applied to these lines; carriage returns at
# their ends are kept.
# Reads f_substitution f_cr.
substituted() {
  f_substituted_script=$f_substitution
  [ -z "$f_cr" ] ||
    f_substituted_script="/$f_cr\$/ {${o_nl}s/$f_cr\$//$o_nl$f_substitution${o_nl}s/\$/$f_cr/${o_nl}b$o_nl}$o_nl$f_substitution"
  LC_ALL=C sed -E -f /dev/fd/6 6<<END
$1 {$o_nl$f_substituted_script$o_nl}
END
}
# plan_substitution RANGE: determine whether f_substitution changes these lines of the file at path;
# payload then prints the new text.
# Sets f_due.
# Reads path f_substitution f_cr.
plan_substitution() {
  f_due= f_plan_substitution_range=$1
  payload() { substituted "$f_plan_substitution_range" <"$path"; }
  # checked first, because a pipeline hides the error of an invalid pattern
  substituted "$1" </dev/null || return
  ! payload | cmp -s - "$path" || return 0
  f_due=1
  if [ "$(payload | digest /dev/stdin)" != "$(payload | substituted "$1" | digest /dev/stdin)" ]; then
    echo "the new text matches again, and would change in every run: the pattern must not match it" >&2
    return 1
  fi
}
# plan_expansion MATCH TEXT: determine whether a line that matches is not the text, with the groups
# of the match inserted as by substitution; payload then prints the file with those texts.
# Sets f_due f_end f_cr f_substitution.
# Reads path.
plan_expansion() {
  [ "$1" ] || { echo "\`backrefs\` requires \`match\`" >&2; return 64; }
  f_plan_expansion_mark=$(printf '\002') f_due=
  counted
  [ $f_end -gt 0 ] || return 0
  ! LC_ALL=C grep -q "$f_plan_expansion_mark" <"$path" ||
    { echo "$path contains control characters" >&2; return 1; }
  substitution "$1" "$f_plan_expansion_mark$2$f_plan_expansion_mark" '' || return
  f_substitution="$f_substitution${o_nl}s/^[^$f_plan_expansion_mark]*$f_plan_expansion_mark//${o_nl}s/$f_plan_expansion_mark[^$f_plan_expansion_mark]*\$//"
  plan_substitution "1,$f_end"
}
# plan_line STATE MATCH AFTER BEFORE FIRST [LINE]: determine where the line or the line that it replaces
# is (f_at), its content (f_have), and whether a change is due (f_due). payload then prints the new
# text.
# Sets f_at f_have f_due f_text f_end f_cr f_keep f_from f_gone.
# Reads path.
plan_line() {
  case $#$1$2 in
  5absent?*|6*) ;;
  *) echo "give \`line\` or, to remove lines, \`match\`" >&2; return 64;;
  esac
  case $6 in *"$o_nl"*) echo "\`line\` contains several lines: use text_block" >&2; return 64;; esac
  f_gone= f_have=
  if [ "$1" = absent ]; then
    counted
    if [ "$2" ]; then f_plan_line_hits=$(hits E "$2"); else f_plan_line_hits=$(hits Fx "${6%"$f_cr"}"); fi || return
    f_at=${f_plan_line_hits##*"$o_nl"}
    f_due=$f_at
    [ -z "$f_at" ] || f_gone=$(printf '%s\n' "$f_plan_line_hits" | sed 's/$/d/')
    payload() { dropped; }
    return
  fi
  spot "$3" "$4" "$5" || return
  f_plan_line_line=${6%"$f_cr"}
  f_due= f_text=$f_plan_line_line$f_cr$o_nl
  f_plan_line_same=$(hits Fx "$f_plan_line_line") || return
  f_at=${f_plan_line_same##*"$o_nl"}
  if [ "$2" ]; then
    f_plan_line_hits=$(hits E "$2") || return
    for f_plan_line_hit in $f_plan_line_hits; do
      case $o_nl$f_plan_line_same$o_nl in *"$o_nl$f_plan_line_hit$o_nl"*) continue;; esac
      # one matching line is replaced unless the line exists elsewhere
      if [ "$f_due$5" = "${f_due:-x}true" ]; then f_gone=$f_gone${f_plan_line_hit}d$o_nl
      else
        [ -z "$f_due" ] || f_gone=$f_gone${f_due}d$o_nl
        f_due=$f_plan_line_hit
      fi
    done
  fi
  payload() { splice; }
  if [ "$f_due" ]; then
    f_have=$(line_at "$f_due")
    if [ "$f_at" ]; then
      f_gone=$f_gone${f_due}d
      payload() { dropped; }
    else f_keep=$((f_due-1)) f_from=$((f_due+1))
    fi
    f_at=$f_due
  elif [ -z "$f_at" ]; then f_due=1
  fi
}
# plan_block STATE BEGIN END AFTER BEFORE BLOCK BLANK_BEFORE BLANK_AFTER: like plan_line; f_have is
# whole lines, f_blank is not empty if an empty line before or after the block is missing.
# Sets f_blank f_at f_have f_due f_text f_end f_cr f_keep f_from f_gone.
# Reads path.
plan_block() {
  payload() { splice; }
  case $2$3 in *"$o_nl"*) echo "\`marker\` contains a newline" >&2; return 64;; esac
  [ "$2" != "$3" ] || { echo "\`marker\` must contain {mark}" >&2; return 64; }
  case $o_nl$6$o_nl in
  *"$o_nl$2$o_nl"*|*"$o_nl$3$o_nl"*) echo "\`block\` contains its own marker line" >&2; return 64;;
  esac
  f_text= f_due= f_have= f_gone= f_blank=
  spot "$4" "$5" && f_at=$(hits Fx "$2") && f_plan_block_hit=$(hits Fx "$3") || return
  [ -z "$6" ] || f_text=$(set -e; printf '%s\n' "${6%"$o_nl"}" | bare; echo .)
  f_text=${f_text%.}
  case $f_at,$f_plan_block_hit in
  ,) ;;
  ,*|*,|*"$o_nl"*) echo "the lines '$2' and '$3' must occur exactly once each" >&2; return 1;;
  *)
    [ "$f_at" -lt "$f_plan_block_hit" ] || { echo "'$3' is before '$2'" >&2; return 1; }
    f_have=$(set -e; head -n $((f_plan_block_hit-1)) <"$path" | tail -n +$((f_at+1)) | bare; echo .)
    f_have=${f_have%.} f_keep=$((f_at-1)) f_from=$((f_plan_block_hit+1));;
  esac
  if [ "$1" = absent ]; then f_due=$f_at f_text=; return; fi
  [ "$f_at" ] && [ "$f_have" = "$f_text" ] || f_due=1
  f_text=$2$o_nl$f_text$3$o_nl
  if [ "$7" = true ] && [ $f_keep -gt 0 ] && [ "$(line_at $f_keep)" ]; then f_blank=1 f_text=$o_nl$f_text; fi
  if [ "$8" = true ] && [ $f_from -le $f_end ] && [ "$(line_at $f_from)" ]; then f_blank=1 f_text=$f_text$o_nl; fi
  [ -z "$f_blank" ] || f_due=1
  [ -z "$f_cr" ] || f_text=$(set -e; printf %s "$f_text" | sed "s/\$/$f_cr/"; echo .) f_text=${f_text%.}
}
# planned VALIDATE IN_PLACE: report and validate the new text if a change is due.
# Reads f_due f_type path.
planned() {
  [ "$f_due" ] || return 0
  replaceable "$2" || return
  [ $f_type = absent ] || replaced "$path"
  report_new_text
  tried "$1"
}

# Trees: comparison of the current folder with a manifest of its desired content, which a function
# `manifest` prints. Its format is described in planner/file_tree.py; here it may also have lines
# `o - - NAME`, for a path that is not a file, folder or link. A "name" is one of the manifest.
# LC_ALL must be C.

# sum_command: determine the command that prints SHA-256 and name of files. Fail if there is none.
# Sets f_sums.
sum_command() {
  if has sha256sum; then f_sums=sha256sum
  elif has shasum; then f_sums='shasum -a 256'
  elif has openssl; then f_sums='openssl dgst -sha256 -r'
  else lacks "sha256sum, shasum or openssl"
  fi
}
# tree_tools: fail if the host lacks a tool that these functions need.
# Sets f_sums.
tree_tools() {
  for f_tree_tools_each in awk find xargs od; do has $f_tree_tools_each || lacks $f_tree_tools_each; done
  sum_command
}
# unescape_name NAME: remove the escapes of a manifest's name.
# Sets f_written.
unescape_name() {
  case $1 in
  *\\*) f_written=$(printf '%b.' "$1"); f_written=${f_written%.};;
  *) f_written=$1;;
  esac
}
# written TEXT: escape the target of a link as in a manifest.
# Sets f_written.
written() {
  case $1 in
  *[!!-~]*|*\\*) f_written=$(printf %s "$1" | od -An -v -to1 | tr -d '\n' | sed 's/ /\\0/g');;
  *) f_written=$1;;
  esac
}
# tree_find_expression MODE…: build an expression for find that prints for each path `T KIND NAME`,
# where KIND is l, d, other, a file's mode or, for another mode, f; and `SUM NAME` for files. It
# starts no process per file, and reads regular files only.
# Sets f_find_expression.
# Reads f_sums.
tree_find_expression() {
  f_find_expression="-type l -exec printf 'T l %s\\n' {} + -o -type d -exec printf 'T d %s\\n' {} + \
    -o ! -type f -exec printf 'T other %s\\n' {} +"
  # not in parentheses, in which busybox 1.35 does not accept `-exec … +`
  for f_tree_find_expression_mode; do
    f_find_expression="$f_find_expression -o -perm $f_tree_find_expression_mode -exec $f_sums {} + -exec printf 'T $f_tree_find_expression_mode %s\\n' {} +"
  done
  f_find_expression="$f_find_expression -o -exec $f_sums {} + -exec printf 'T f %s\\n' {} +"
}
# tree_names: build a script that prints `WORD KIND NAME` for each path; KIND is d or f.
# Sets f_names.
tree_names() {
  f_names='what=$1 nl="
    " cr=$(printf "\r"); nl=${nl%"${nl#?}"}; shift
    for f do
      is=f; [ -L "$f" ] || [ ! -d "$f" ] || is=d
      case $f in
      *"$nl"*|*"$cr"*|*\\*|*" ")
        f=$(printf %s "$f" | od -An -v -to1 | tr -d "\n" | sed "s/ /\\\\0/g");;
      esac
      printf "%s %s %s\n" $what $is "$f"
    done'
}
# tree_list: print the manifest of everything in the current folder, unordered, without the folder.
tree_list() {
  tree_tools
  set -- 0644 0755 0664 0775 0600 0700 0640 0750 0444 0555
  for f_tree_list_bits in $(
    find . -type f $(printf '! -perm %s ' "$@") -exec ls -ldn {} + |
      awk '$1 ~ /^-[-rwxsStT]+[.+@]?$/ { print substr($1, 1, 10) }' | sort -u
  ); do
    f_octal "$f_tree_list_bits"
    set -- "$@" "$f_mode"
  done
  tree_find_expression "$@"
  tree_names
  f_tree_list_odd="[\\\\$o_nl$(printf '\r')]"
  eval "find . -name . -o -path \"*\$f_tree_list_odd*\" -o -path '* ' -o $f_find_expression" | awk '
    /^T [ld] / { if ($2 == "d") print "d - -", substr($0, 5); next }
    /^T other / { print "o - -", substr($0, 9); next }
    /^T / { s = substr($0, 4 + length($2)); mode[s] = $2; next }
    { sum[substr($0, length($1) + 3)] = $1 }
    END { for (s in mode) print "f", mode[s], sum[s], s }'
  find . -name . -o \( -type l -o -path "*$f_tree_list_odd*" -o -path '* ' \) \
    -exec sh -c "$f_names" sh W {} + |
    while read -r f_tree_list_word f_tree_list_word f_tree_list_name; do
      unescape_name "$f_tree_list_name"
      f_tree_list_real=$f_written
      attributes "$f_tree_list_real"
      case $f_type in
      link) points "$f_tree_list_real"; written "$f_to"; set -- l - "$f_written";;
      directory) set -- d - -;;
      file) set -- f "$f_mode" "$(digest "$f_tree_list_real")";;
      *) set -- o - -;;
      esac
      printf '%s %s %s %s\n' "$@" "$f_tree_list_name"
    done
}
# tree_contents SUMS: print everything in the current folder, unordered, for executor/remote_tree.py:
# `d NAME` for a folder, `f NAME` for a file, `x NAME` for a file that its owner may execute, and
# `o NAME` for anything else; `SIZE NAME` and `SHA256 NAME` for files that can be read. Names with a
# newline, a carriage return, a backslash or a space at the end, and links, have instead one of
# `D NAME`, `F NAME SUM`, `X NAME SUM`, `L NAME TARGET`, `O NAME`, where every word is in octal as in
# a manifest, and SUM is a size and a SHA-256, or two `-` for a file that cannot be read. With SUMS
# `small`, only files up to 256 KiB are read, besides those.
# Sets f_sums.
tree_contents() {
  for f_tree_contents_each in awk find od; do has $f_tree_contents_each || lacks $f_tree_contents_each; done
  sum_command
  f_tree_contents_sums=$1 f_tree_contents_odd="[\\\\$o_nl$(printf '\r')]"
  find . -name . -o -path "*$f_tree_contents_odd*" -o -path '* ' -o -type l \
    -o -type d -exec printf 'd %s\n' {} + -o ! -type f -exec printf 'o %s\n' {} + \
    -o -perm -100 -exec printf 'x %s\n' {} + -o -exec printf 'f %s\n' {} + || return
  set -- . -type f ! -path "*$f_tree_contents_odd*" ! -path '* '
  find "$@" -exec wc -c {} + 2>/dev/null || :
  [ "$f_tree_contents_sums" = all ] || set -- "$@" -size -513
  find "$@" -exec $f_sums {} + 2>/dev/null || :
  set -- . \( -path "*$f_tree_contents_odd*" -o -path '* ' \)
  find "$@" -type d -exec printf '%s\0' {} + | octal_words D 1
  find "$@" ! -type d ! -type f ! -type l -exec printf '%s\0' {} + | octal_words O 1
  f_tree_contents_each='sums=$1; shift
    for f do
      if size=$(wc -c <"$f") && sum=$($sums <"$f"); then set -- "$((size)) ${sum%% *}"; else set -- "- -"; fi 2>/dev/null
      printf "%s\0%s\0" "$f" "$1"
    done'
  find "$@" -type f -perm -100 -exec sh -c "$f_tree_contents_each" sh "$f_sums" {} + | octal_words X 2
  find "$@" -type f ! -perm -100 -exec sh -c "$f_tree_contents_each" sh "$f_sums" {} + | octal_words F 2
  find . -type l -exec sh -c '
    for f do
      to=$(readlink -- "$f" && echo .) || continue
      printf "%s\0%s\0" "$f" "${to%??}"
    done' sh {} + | octal_words L 2
}
# octal_words WORD COUNT: read texts that end with NUL, and print lines of WORD and COUNT texts, each
# byte of which is in octal as in a manifest.
octal_words() {
  od -An -v -to1 | awk -v word="$1" -v count="$2" '
    BEGIN { line = word " " }
    {
      for (i = 1; i <= NF; i++)
        if ($i != "000") line = line "\\0" $i
        else if (++n < count) line = line " "
        else { print line; line = word " "; n = 0 } }'
}
# file_stamp FILE: print what changes with the file's content; nothing if the host cannot tell.
file_stamp() {
  stat -c '%s %y %z %i' -- "$1" 2>/dev/null || stat -f '%z %Fm %Fc %i' -- "$1" 2>/dev/null || :
}
# send_file FILE: print a line with the file's size, its content, and a line: `same`, or the SHA-256
# that the content has now if the file may have changed meanwhile, after a line `.` for each second
# that reading it takes. Print `gone` if it cannot be read.
send_file() {
  f_send_file_size=
  [ ! -f "$1" ] || {
    f_send_file_stamp=$(file_stamp "$1")
    f_send_file_size=$(wc -c <"$1") || f_send_file_size=; } 2>/dev/null
  [ "$f_send_file_size" ] || { echo gone; return; }
  f_send_file_size=$((f_send_file_size))
  echo $f_send_file_size
  head -c $f_send_file_size -- "$1"
  if [ "$f_send_file_stamp" ] && [ "$f_send_file_stamp" = "$(file_stamp "$1")" ]; then echo same; return; fi
  (while sleep 1; do echo .; done) &
  f_send_file_sum=$(head -c $f_send_file_size "$1" | digest /dev/stdin)
  kill $!
  echo "$f_send_file_sum"
}
# tree_facts ONLY OWNED UID GID UNREAD: print what exists of the manifest's names: lines of
# tree_find_expression's expression, `T same NAME` for a link with the desired target, `M SECONDS
# NAME` with the time of a file, if the manifest has times, and, if OWNED is not empty, `O NAME` for
# a path with the given owners. ONLY is the real name of the only file.
# UNREAD: files are not read, except those with special names.
# Sets f_sums.
tree_facts() {
  tree_tools
  [ -z "$5" ] || f_sums=true
  tree_find_expression $(manifest | awk '$1 == "f" { sub(/@.*/, "", $2); if ($2 ~ /^[0-7]+$/ && !had[$2]++) print $2 }')
  manifest | sed -e '/^l /d' -e '/\\/d' -e 's/^[^ ]* [^ ]* [^ ]* //' | tr '\n' '\000' |
    xargs -0 sh -c '
      seen=$1 owned=$2 uid=$3 gid=$4; shift 4
      [ $# -gt 0 ] || exit 0
      eval "find \"\$@\" -prune $seen"
      [ -z "$owned" ] ||
        find "$@" -prune ${uid:+-user "$uid"} ${gid:+-group "$gid"} -exec printf "O %s\n" {} +
      :' sh "$f_find_expression" "$2" "$3" "$4" 2>/dev/null || :
  manifest | sed -n -e '/\\/d' -e 's/^f [0-7]*@[0-9]* [^ ]* //p' | tr '\n' '\000' | xargs -0 sh -c '
    [ $# = 0 ] || if stat -c %Y / >/dev/null; then stat -c "M %Y %n" -- "$@"; else stat -f "M %m %N" -- "$@"; fi
    ' sh 2>/dev/null || :
  manifest | sed -n -e '/^l /p' -e '/\\/p' |
    while IFS=' ' read -r f_tree_facts_kind f_tree_facts_word f_tree_facts_target f_tree_facts_name; do
      unescape_name "$f_tree_facts_name"
      f_tree_facts_real=${1:-$f_written}
      attributes "$f_tree_facts_real"
      case $f_type in
      absent) continue;;
      link)
        f_tree_facts_is=l
        [ $f_tree_facts_kind != l ] || {
          points "$f_tree_facts_real"
          unescape_name "$f_tree_facts_target"
          [ "$f_written" != "$f_to" ] || f_tree_facts_is=same
        };;
      directory) f_tree_facts_is=d;;
      file)
        f_tree_facts_is=$f_mode
        [ $f_tree_facts_kind != f ] ||
          printf '%s  %s\n' "$(digest "$f_tree_facts_real")" "$f_tree_facts_name"
        case $f_tree_facts_word in
        *@*) file_times "$f_tree_facts_real"; printf 'M %s %s\n' "$f_mtime" "$f_tree_facts_name";;
        esac;;
      *) f_tree_facts_is=other;;
      esac
      printf 'T %s %s\n' $f_tree_facts_is "$f_tree_facts_name"
      if [ "$2" ] && [ "${3:-$f_uid} ${4:-$f_gid}" = "$f_uid $f_gid" ]; then
        printf 'O %s\n' "$f_tree_facts_name"
      fi
    done
}
# tree_extra STAGE EXPRESSION…: print `E KIND NAME` for everything that exists, and `X KIND NAME`
# for excluded paths: those for which the find expression is true. STAGE is skipped.
tree_extra() {
  tree_names
  f_tree_extra_stage=$1; shift
  find . -name . -o -path "$f_tree_extra_stage" -prune -o "$@" \
    -exec sh -c "$f_names" sh X {} + -o -exec sh -c "$f_names" sh E {} +
}
# tree_compare OWNED UNREAD: read the manifest, a line `=`, and the output of tree_facts and
# tree_extra, and print: `S STATE`; `! CONFLICT`; `- LINE` and `+ LINE` of a diff; `N NUMBERS` if
# only some files and links of the manifest are needed, with their line numbers, like 3-5,9;
# `B NUMBERS`, like 3,9, for those of o_large that have older files; and
# changes as WHAT KIND TOLD NAME, where WHAT is m for missing, c for different, t for another time, r
# for to be removed, and TOLD is the target of a link, the mode of a folder as in the manifest, or
# the time.
tree_compare() {
  awk -v owned="$1" -v unread="$2" -v numbered="$o_large" '
    BEGIN { split(numbered, each, " "); for (i in each) large[each[i]] = 1 }
    function told(m, h, p) { return m " " substr(h, 1, 12) " " p }
    function count(n, what) { if (n) text = text (text ? ", " : "") n " " what }
    !facts && $0 == "=" { facts = 1; next }
    !facts {
      kind[++n] = $1; mode[n] = $2; sum[n] = $3
      if (at = index($2, "@")) { mode[n] = substr($2, 1, at - 1); time[n] = substr($2, at + 1) }
      name[n] = substr($0, length($1) + length($2) + length($3) + 4); next }
    /^T / { type[substr($0, 4 + length($2))] = $2; next }
    /^O / { own[substr($0, 3)] = 1; next }
    /^M / { mtime[substr($0, 4 + length($2))] = $2; next }
    /^E / {
      if (!known) { known = 1; for (i = 1; i <= n; i++) here[name[i]] = 1 }
      s = substr($0, 5); if (!(s in here)) { more[++extra] = s; is[extra] = $2 }
      next }
    /^X / { s = substr($0, 5); while (sub("/[^/]*$", "", s)) keep[s] = 1; next }
    { has[substr($0, length($1) + 3)] = $1 }
    function need(i) {
      needed++
      if (i == last + 1 && first) { last = i; return }
      range(); first = last = i }
    function range() {
      if (first) numbers = numbers (numbers ? "," : "") first (last > first ? "-" last : "") }
    function compared(i, k, p, t) {
      why = t == "l" ? " (a link)" : ""; what = t == "absent" ? "m" : "c"
      if (t == "absent") missing++
      else if (t == "other") {
        if (k == "o") return
        print "! " p " is not a file, folder or link"; return }
      else if ((k == "d") != (t == "d")) {
        print "! " p " is " (t == "d" ? "a" : "not a") " directory" (t == "l" ? ", but a link" : "")
        return }
      else if (k == "l" ? t != "same" : k == "o" || k == "f" && unread == "" && has[p] != sum[i]) different++
      else if (k == "f" && t != mode[i]) modes++
      else if (k != "l" && owned != "" && !(p in own)) { owners++; why = " (its owner)" }
      else if (k == "f" && time[i] != "" && mtime[p] != time[i]) { times++; what = "t"; why = " (its time)" }
      else return
      print what, k, (k == "l" ? sum[i] : k == "d" ? mode[i] : what == "t" ? time[i] : "-"), p
      if (what != "t" && (k == "f" || k == "l")) need(i)
      if (what == "c" && (i in large) && t ~ /^[0-9f]/) basis = basis (basis ? "," : "") i
      if (t != "absent") print "- " (t ~ /^[0-9f]/ ? told(t, has[p], p) : p) why
      print "+ " (k == "f" ? told(mode[i], sum[i], p) : p) }
    END {
      for (i = 1; i <= n; i++) {
        if (kind[i] == "f" || kind[i] == "l") all++
        compared(i, kind[i], name[i], name[i] in type ? type[name[i]] : "absent") }
      range()
      if (needed < all && length(numbers) < 8000) print "N " numbers
      if (basis) print "B " basis
      for (i = extra; i >= 1; i--) if (!(more[i] in keep)) {
        removed++; print "r", is[i], "-", more[i]; print "- " more[i] }
      count(missing, "missing"); count(different, "different"); count(modes, "of another mode")
      count(owners, "of another owner"); count(times, "of another time"); count(removed, "to remove")
      print "S " (text ? text " of " n : "as given")
    }'
}
# recent_rsync: succeed if the host has rsync 3 or later.
recent_rsync() {
  has rsync || return
  case $(rsync --version </dev/null 2>/dev/null) in
  'rsync '*version' '[3-9].*|'rsync '*version' v'[3-9].*) ;;
  *) return 1;;
  esac
}
# tree_report KEY [ROOT ONLY]: report the state, the diff and the needed lines (as the state #need)
# that tree_compare printed; and, if the host has an rsync, the lines with older files and the path
# of the folder ROOT, or of ONLY in it (as the state #basis). Fail if there are conflicts.
tree_report() {
  # as few lines as possible, because a shell reads a pipe byte by byte
  if [ "$o_show" ]; then LC_ALL=C grep -v '^[mcrt] '; else LC_ALL=C grep '^[!BSN] '; fi | {
    f_tree_report_bad= f_tree_report_state=
    while IFS= read -r f_tree_report_line; do
      case $f_tree_report_line in
      '! '*) f_tree_report_bad=1; printf '%s\n' "${f_tree_report_line#??}" >&2;;
      'S '*) f_tree_report_state=${f_tree_report_line#??};;
      'N '*) state '#need' "${f_tree_report_line#??}";;
      'B '*)
        if recent_rsync && f_tree_report_place=$(cd -- "$2" && pwd -P && echo .); then
          f_tree_report_place=${f_tree_report_place%??}${3:+/${3#./}}
          state '#basis' "${f_tree_report_line#??}=$f_tree_report_place"
        fi;;
      *)
        f_tree_report_word=new
        case $f_tree_report_line in -*) f_tree_report_word=old;; esac
        case $f_tree_report_line in
        *\\*) unescape_name "${f_tree_report_line#??}"; o_line "$f_written"; o_report $f_tree_report_word "$o_text";;
        *) o_report $f_tree_report_word "${f_tree_report_line#??}";;
        esac >&4;;
      esac
    done
    [ -z "$f_tree_report_bad" ] || exit 1
    [ -z "$o_show" ] || o_report new# text >&4
    state "$1" "$f_tree_report_state"; }
}
# tree_apply PLAN FROM: apply the changes in the file PLAN, many at a time: move missing and
# different paths from the folder FROM, which has them under the same names, into the current
# folder, remove paths, and set times. Existing folders are not changed.
# Sets f_from.
tree_apply() {
  f_from=$2
  # generates a script with names as quoted words
  LC_ALL=C awk '
    function real(s, t, c) {
      t = ""
      while (match(s, /\\0[0-7][0-7][0-7]/)) {
        c = 64 * substr(s, RSTART + 2, 1) + 8 * substr(s, RSTART + 3, 1) + substr(s, RSTART + 4, 1)
        t = t substr(s, 1, RSTART - 1) sprintf("%c", c)
        s = substr(s, RSTART + RLENGTH) }
      return t s }
    function word(s) { gsub(q, q "\\" q q, s); return q s q }
    function told(up) { if (list[up] != "") print "tree_move_into " word(up) list[up]; list[up] = ""; size[up] = 0 }
    function gone(what) { if (old[what] != "") print what " --" old[what]; old[what] = ""; left[what] = 0 }
    BEGIN { q = sprintf("%c", 39) }
    /^r / {
      s = $0; for (i = 0; i < 3; i++) s = substr(s, index(s, " ") + 1)
      away[++away_n] = word(real(s)); by[away_n] = $2 == "d" ? "rmdir" : "rm -f" }
    /^[mc] / {
      if ($1 == "c" && $2 == "d") next
      s = $0; for (i = 0; i < 3; i++) s = substr(s, index(s, " ") + 1)
      name[++n] = real(s)
      if ($2 == "d") new[name[n]] = 1 }
    /^t / {
      s = $0; for (i = 0; i < 3; i++) s = substr(s, index(s, " ") + 1)
      timed[++timed_n] = $3 " " word(real(s)) }
    END {
      for (i = 1; i <= n; i++) {
        up = name[i]; sub("/[^/]*$", "", up)
        if (up in new) continue
        if (!(up in size)) ups[++many] = up
        list[up] = list[up] " \"$f_from\"/" word(name[i])
        if (++size[up] == 100) told(up) }
      for (i = 1; i <= many; i++) told(ups[i])
      for (i = 1; i <= away_n; i++) {
        if (by[i] != last) gone(last)
        last = by[i]
        old[last] = old[last] " " away[i]
        if (++left[last] == 100) gone(last) }
      gone(last)
      for (i = 1; i <= timed_n; i++) print "tree_time " timed[i]
    }' <"$1" >"$2.moves"
  . "$2.moves"
}
# tree_time SECONDS FILE: set when the file was modified.
tree_time() { touch -m -d "@$1" -- "$2" 2>/dev/null || set_times "$2" '' "$1"; }
# tree_move_into FOLDER PATH…: move these paths, from the same folder below f_from, into the folder.
# This also works for the owner of folders that are not writable.
# Reads f_from.
tree_move_into() {
  f_tree_move_into_up=$1; shift
  f_tree_move_into_was=
  [ -w "$f_from/$f_tree_move_into_up" ] || chmod -- u+w "$f_from/$f_tree_move_into_up" || return
  [ -w "$f_tree_move_into_up" ] || {
    attributes "$f_tree_move_into_up"
    f_tree_move_into_was=$f_mode
    chmod -- u+w "$f_tree_move_into_up" || return; }
  f_tree_move_into_code=0
  for f_tree_move_into_each; do
    shift
    if [ -d "$f_tree_move_into_each" ] && [ ! -L "$f_tree_move_into_each" ] && [ ! -w "$f_tree_move_into_each" ]; then
      tree_rename "$f_tree_move_into_each" "$f_tree_move_into_up/${f_tree_move_into_each##*/}" || f_tree_move_into_code=1
    else set -- "$@" "$f_tree_move_into_each"
    fi
  done
  [ $# = 0 ] || mv -f -- "$@" "$f_tree_move_into_up/" || f_tree_move_into_code=1
  [ -z "$f_tree_move_into_was" ] || chmod -- "0$f_tree_move_into_was" "$f_tree_move_into_up"
  return $f_tree_move_into_code
}
# tree_rename FROM TO: rename a folder to a path that does not exist. The folder must be writable
# for that, so its mode is changed temporarily.
tree_rename() {
  [ ! -w "$1" ] || { mv -- "$1" "$2"; return; }
  attributes "$1"
  f_tree_rename_mode=$f_mode
  chmod -- u+w "$1" && mv -- "$1" "$2" && chmod -- "0$f_tree_rename_mode" "$2"
}

# Git repositories, read by the host's git.

# git_alone [KEY [NEW [OPTION…]]]: configure git to run without prompts, without the environment of a
# surrounding git, and without optional writes. KEY is the SSH key to use. With NEW true, ssh takes
# the key of a server that it does not know; only a fix stores it. OPTIONs are of ssh: KEYWORD=VALUE.
git_alone() {
  has git || lacks git
  unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY
  export GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS= GIT_OPTIONAL_LOCKS=0
  f_git_alone_ssh=${GIT_SSH_COMMAND:-$(git config core.sshCommand)} || f_git_alone_ssh=
  if [ "$1" ]; then
    f_git_alone_key=$(printf '%s\n' "$1" | sed -e "s/'/'\\\\''/g" -e 's/%/%%/g')
    f_git_alone_ssh="${f_git_alone_ssh:-ssh} -o IdentitiesOnly=yes -i '$f_git_alone_key'"
  fi
  f_git_alone_new=$2 f_git_alone_known='~/.ssh/known_hosts ~/.ssh/known_hosts2' f_git_alone_words=
  if [ $# -gt 2 ]; then shift 2; else set --; fi
  for f_git_alone_option; do
    case $f_git_alone_option in
    *"$o_nl"*|[!A-Za-z]*) echo "\`ssh_options\` must be like ProxyJump=bastion" >&2; return 64;;
    [Uu][Ss][Ee][Rr][Kk][Nn][Oo][Ww][Nn][Hh][Oo][Ss][Tt][Ss][Ff][Ii][Ll][Ee]=*) f_git_alone_known=${f_git_alone_option#*=};;
    *=*) ;;
    *) echo "\`ssh_options\` must be like ProxyJump=bastion" >&2; return 64;;
    esac
    f_git_alone_words="$f_git_alone_words -o '$(printf '%s\n' "$f_git_alone_option" | sed "s/'/'\\\\''/g")'"
  done
  if [ "$f_git_alone_new" = true ]; then
    # of two equal options, the first counts; ssh stores keys in the first file
    is_fixed || f_git_alone_words=" -o 'UserKnownHostsFile=/dev/null $f_git_alone_known' -o UpdateHostKeys=no$f_git_alone_words"
    f_git_alone_words=" -o StrictHostKeyChecking=accept-new$f_git_alone_words"
  fi
  [ -z "$f_git_alone_words" ] || f_git_alone_ssh="${f_git_alone_ssh:-ssh}$f_git_alone_words"
  [ -n "${GIT_SSH-}" ] && [ -z "$f_git_alone_ssh" ] ||
    export GIT_SSH_COMMAND="${f_git_alone_ssh:-ssh} -o BatchMode=yes"
}
# git_url URL: separate the user and the password from the URL, because all users can see arguments.
# git gets them on request, see git_with_credentials.
# Sets f_url f_server f_user f_password.
git_url() {
  f_url=$1 f_server= f_user= f_password=
  f_git_url_rest=${1#*://}
  f_git_url_host=${f_git_url_rest%%[/?#]*}
  case $1,$f_git_url_host in *://*,*:*@*) ;; *) return 0;; esac
  case $1 in
  https://*|http://*) ;;
  *) echo "a password in such a url is visible to all users: use https, or a key" >&2; return 64;;
  esac
  git_decoded "${f_git_url_host%%:*}" || return
  f_user=$f_decoded
  f_password=${f_git_url_host#*:}
  git_decoded "${f_password%@*}" || return
  f_password=$f_decoded
  f_server=${1%%://*}://${f_git_url_host##*@}
  f_url=$f_server${f_git_url_rest#"$f_git_url_host"}
  git() { git_with_credentials "$@"; }
}
# git_with_credentials WORD…: run git with the user and the password for f_server. They are only in
# the environment of git, which no other user can read, and of its credential helper. Other helpers
# are neither queried for that server nor told the credentials.
# Reads f_server f_user f_password.
git_with_credentials() {
  ORCH_USER=$f_user ORCH_PASSWORD=$f_password command git -c "credential.$f_server.helper=" \
    -c "credential.$f_server.helper=!f() { test \$1 != get || printf 'username=%s\\npassword=%s\\n' \"\$ORCH_USER\" \"\$ORCH_PASSWORD\"; }; f" "$@"
}
# git_decoded TEXT: decode a part of a URL (%41 is A).
# Sets f_decoded.
git_decoded() {
  f_git_decoded_rest=$1 f_decoded=
  while :; do
    case $f_git_decoded_rest in
    *%0[aA]*|*%00*|*"$o_nl"*) echo "a newline or a NUL in the url" >&2; return 64;;
    *%[0-9A-Fa-f][0-9A-Fa-f]*)
      f_git_decoded_head=${f_git_decoded_rest%%%[0-9A-Fa-f][0-9A-Fa-f]*}
      f_git_decoded_rest=${f_git_decoded_rest#"$f_git_decoded_head%"}
      f_git_decoded_code=$(printf %03o "0x${f_git_decoded_rest%"${f_git_decoded_rest#??}"}")
      f_decoded=$f_decoded$f_git_decoded_head$(printf "\\$f_git_decoded_code")
      f_git_decoded_rest=${f_git_decoded_rest#??};;
    *) f_decoded=$f_decoded$f_git_decoded_rest; return;;
    esac
  done
}
# git_listed REPO REF…: print the ID and the name of each of these refs that exists, one per line.
# Fail with the reason if the repository cannot be read.
git_listed() {
  # no persistent connection, which would keep the pipe with git's output open
  [ -z "${GIT_SSH_COMMAND-}" ] || export GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o ControlMaster=no"
  {
    if f_git_listed_output=$(export LC_ALL=C; git ls-remote -- "$@" 2>&1 >&5 5>&-); then
      [ -z "$f_git_listed_output" ] || printf '%s\n' "$f_git_listed_output" >&2
      return
    fi
  } 5>&1
  case $f_git_listed_output in
  *'ost key verification failed'*|*'host key is known'*)
    f_git_listed_why="this host does not know the git server's host key: add it to known_hosts on this host (module known_hosts, or \`accept_newhostkey: true\`)";;
  *'ermission denied ('*|*'uthentication failed'*|*'could not read Username'*|*'could not read Password'*)
    f_git_listed_why="the git server denied access: use a key or a token that it accepts";;
  *'ould not resolve'*|*'ame or service not known'*|*'onnection refused'*|*'onnection timed out'*|\
  *'nreachable'*|*'No route to host'*|*'ailed to connect'*|*'ould not connect'*|*'unable to connect'*)
    f_git_listed_why="the git server is down, or this host cannot reach it";;
  *'ot found'*|*'does not appear to be a git repository'*|*'does not exist'*|*'not a git repository'*)
    f_git_listed_why="the repository does not exist, or this host has no access to it";;
  *) f_git_listed_why="git could not read it";;
  esac
  printf '%s\n' "$f_git_listed_output" "$1: $f_git_listed_why" >&2
  return 1
}
# git_resolve REPO VERSION: determine the commit of VERSION, and the ref that it comes from, which
# is empty for a full commit ID. VERSION is, in this order, a commit ID, a branch or a tag; refs/…
# and HEAD are used unchanged.
# Sets f_commit f_ref.
git_resolve() {
  case $1 in -*|'') echo "\`repo\` cannot be empty or begin with -" >&2; return 64;; esac
  f_ref= f_commit= f_git_resolve_hex=
  case $2 in
  '') echo "\`version\` cannot be empty: give a branch, a tag, a commit or HEAD" >&2; return 64;;
  *[!0-9A-Fa-f]*) ;;
  *)
    f_git_resolve_hex=1
    case ${#2} in 40|64) f_commit=$(printf %s "$2" | tr A-F a-f); return;; esac;;
  esac
  case $2 in
  HEAD|refs/*) git_refs "$1" "$2" "$2";;
  *) git_refs "$1" "$2" "refs/heads/$2" "refs/tags/$2";;
  esac || return
  [ -z "$f_commit" ] || return 0
  case $2,$f_git_resolve_hex in
  HEAD,*) echo "$1 has no HEAD: it is empty, or its default branch is missing: give a version" >&2;;
  ????*,1)
    echo "there is no branch or tag $2 in $1; for a commit, give its full ID: git rev-parse $2" >&2;;
  *) echo "there is no branch or tag $2 in $1" >&2;;
  esac
  return 1
}
# git_refs REPO VERSION REF…: determine the first of these refs that exists, and its commit; both
# are empty if none does. VERSION is what the refs are for.
# Sets f_commit f_ref.
git_refs() {
  f_ref= f_commit= f_git_refs_all= f_git_refs_repo=$1 f_git_refs_for=$2
  shift 2
  # ls-remote matches the end of a name: refs/heads/main also finds x/refs/heads/main
  f_git_refs_found=$(
    git_listed "$f_git_refs_repo" "$@" "refs/tags/$f_git_refs_for^{}" "$f_git_refs_for^{}"
  ) || return
  case $f_git_refs_for in *^*) f_git_refs_found=;; esac
  for f_git_refs_ref; do
    f_git_refs_id=
    while read -r f_git_refs_word f_git_refs_name; do
      case $f_git_refs_name in
      "$f_git_refs_ref"|"$f_git_refs_ref^{}") f_git_refs_id=$f_git_refs_word;;
      esac
    done <<END
$f_git_refs_found
END
    [ "$f_git_refs_id" ] || continue
    f_git_refs_all=$f_git_refs_all+
    [ "$f_commit" ] || f_commit=$f_git_refs_id f_ref=$f_git_refs_ref
  done
  [ "$f_git_refs_all" != ++ ] || is_fixed ||
    echo "$f_git_refs_for is both a branch and a tag in $f_git_refs_repo: the branch is used;" \
      "refs/tags/$f_git_refs_for is the tag" >&2
}

# Databases. SQL goes to the clients on stdin, because all users can see arguments.

# doubled TEXT CHARACTER: double every such character in the text.
# Sets f_doubled.
doubled() {
  f_doubled_rest=$1 f_doubled=
  while :; do
    case $f_doubled_rest in
    *"$2"*)
      f_doubled=$f_doubled${f_doubled_rest%%"$2"*}$2$2
      f_doubled_rest=${f_doubled_rest#*"$2"};;
    *) f_doubled=$f_doubled$f_doubled_rest; return;;
    esac
  done
}
# postgres_text TEXT: quote a text as a literal of PostgreSQL, for any setting of the server.
# Sets f_sql.
postgres_text() {
  doubled "$1" "'"
  doubled "$f_doubled" '\'
  f_sql="E'$f_doubled'"
}
# postgres_name NAME: quote the name of a database or role. Fail if PostgreSQL would shorten it, and
# so mean another one.
# Sets f_sql.
postgres_name() {
  [ "$1" ] || { echo "a name is empty" >&2; return 64; }
  [ $(($(printf %s "$1" | wc -c))) -le 63 ] || { echo "'$1' is longer than 63 bytes" >&2; return 64; }
  doubled "$1" '"'
  f_sql="\"$f_doubled\""
}
# postgres_login HOST PORT USER PASSWORD DATABASE SSL_MODE: set where psql connects to, and as whom.
postgres_login() {
  has psql || lacks psql
  [ -z "$1" ] || export PGHOST="$1"
  [ -z "$2" ] || export PGPORT="$2"
  [ -z "$3" ] || export PGUSER="$3"
  [ -z "$4" ] || export PGPASSWORD="$4"
  [ -z "$5" ] || export PGDATABASE="$5"
  [ -z "$6" ] || export PGSSLMODE="$6"
  export PGCLIENTENCODING=UTF8 PGOPTIONS="${PGOPTIONS-} -c client_min_messages=warning"
}
# postgres_run SQL: run the statements, and print the rows; fail at the first error.
postgres_run() {
  psql -XqAtw -v ON_ERROR_STOP=1 -v VERBOSITY=terse <<END
$1
END
}
# mysql_text TEXT: quote a text as a literal of MySQL and MariaDB, as mysql_run runs it.
# Sets f_sql.
mysql_text() {
  doubled "$1" "'"
  doubled "$f_doubled" '\'
  f_sql="'$f_doubled'"
}
# mysql_name NAME: quote the name of a database or table.
# Sets f_sql.
mysql_name() { doubled "$1" '`'; f_sql="\`$f_doubled\`"; }
# mysql_client HOST PORT SOCKET USER PASSWORD WORD…: run the client with these options. The password is
# in its environment, which no other user can read.
mysql_client() {
  if has mariadb; then f_mysql_client_program=mariadb
  elif has mysql; then f_mysql_client_program=mysql
  else lacks "mariadb or mysql"
  fi
  mysql_program $f_mysql_client_program "$@"
}
# mysql_program PROGRAM HOST PORT SOCKET USER PASSWORD WORD…: likewise, a program of MySQL.
mysql_program() {
  [ -z "$6" ] || export MYSQL_PWD="$6"
  f_mysql_program_name=$1 f_mysql_program_host=$2 f_mysql_program_port=$3 f_mysql_program_socket=$4 f_mysql_program_user=$5
  shift 6
  $f_mysql_program_name ${f_mysql_program_host:+"--host=$f_mysql_program_host"} \
    ${f_mysql_program_port:+"--port=$f_mysql_program_port"} \
    ${f_mysql_program_socket:+"--socket=$f_mysql_program_socket"} \
    ${f_mysql_program_user:+"--user=$f_mysql_program_user"} --default-character-set=utf8mb4 "$@"
}
# mysql_run SQL HOST PORT SOCKET USER PASSWORD [FORMAT]: run the statements, and print the rows; fail
# at the first error. FORMAT is an option of the client.
mysql_run() {
  mysql_client "$2" "$3" "$4" "$5" "$6" "${7:--NBr}" --binary-mode <<END
SET SESSION sql_mode = '';
$1
END
}

# packer FILE [WRITE]: determine the program that compresses such a file by its suffix, or nothing.
# Fail if this host lacks it. WRITE: it will compress, which busybox xz cannot do.
# Sets f_packer.
packer() {
  case $1 in
  *.gz) f_packer=gzip;;
  *.bz2) f_packer=bzip2;;
  *.xz) f_packer=xz;;
  *.zst) f_packer=zstd;;
  *) f_packer=; return 0;;
  esac
  has $f_packer || lacks $f_packer
  [ -z "$2" ] || $f_packer -c </dev/null >/dev/null 2>&1 || lacks "$f_packer that compresses"
}
# unpacked_file FILE: print the content of a file of f_packer.
# Reads f_packer.
unpacked_file() { if [ "$f_packer" ]; then $f_packer -dc <"$1"; else cat <"$1"; fi; }
# complete FILE: fail if the file of f_packer is damaged.
# Reads f_packer.
complete() {
  [ -z "$f_packer" ] || $f_packer -dc <"$1" >/dev/null || { echo "$1 is damaged, or not complete" >&2; return 1; }
}
# packed PATH COMMAND…: write the output of a command to a file, compressed by f_packer, and only if
# it succeeds. A new file is readable by its owner only.
# Sets f_wrote.
# Reads f_packer.
packed() {
  (
    f_packed_path=$1
    shift
    kind "$f_packed_path"
    f_packed_mode=
    [ "$f_type" != absent ] || f_packed_mode=0600
    beside "$f_packed_path" || exit
    f_wrote=
    f_packed_done=
    if [ -z "$f_packer" ]; then "$@" >"$temp" && f_packed_done=both || :
    # a pipeline has the status of its last command
    else f_packed_done=$({ { "$@" 6>&- && printf bo >&6; } | $f_packer -c >"$temp" 6>&- && printf th >&6; } 6>&1) || :
    fi
    f_wrote=1
    [ "$f_packed_done" = both ] || exit 1
    move_into_place "$f_packed_path" "$f_packed_mode" '' ''
  )
}

# Images and containers, by the command of docker or podman.

# container_engine WORD: determine the command: docker, podman, or for auto the one that the host
# has, docker first. f_podman is not empty for podman, also under the name of docker.
# Sets f_engine f_podman.
container_engine() {
  f_engine=$1
  if [ "$1" = auto ]; then
    if has docker; then f_engine=docker
    elif has podman; then f_engine=podman
    else lacks 'docker or podman'
    fi
  fi
  has "$f_engine" || lacks "$f_engine"
  f_podman=
  case $("$f_engine" --version 2>/dev/null) in [Pp]odman*) f_podman=1;; esac
}
# engine_inspect KIND FORMAT NAME: print what `inspect` has of an image, a container or a network, or
# nothing if there is none. Fail with the engine's message if it cannot tell.
# Reads f_engine.
engine_inspect() {
  # warnings are not what is asked for
  { if f_engine_inspect_errors=$("$f_engine" "$1" inspect --format "$2" -- "$3" 2>&1 >&5 5>&-); then return; fi; } 5>&1
  case $f_engine_inspect_errors in
  *[Nn]'o such image'*|*'mage not known'*|*[Nn]'o such container'*|*[Nn]'o such object'*|*'etwork'*'not found'*|*[Nn]'o such network'*) return;;
  esac
  printf '%s\n' "$f_engine_inspect_errors" >&2
  engine_refused "$f_engine_inspect_errors"
}
# engine_refused MESSAGE: fail; suggest `become` if the user may not use the engine.
engine_refused() {
  case $1 in
  *'ermission denied'*) [ "$(id -u)" = 0 ] || echo "\`become: true\` runs the step as root" >&2;;
  *'onnect to the Docker daemon'*) echo "the daemon of docker does not run, see \`service\`" >&2;;
  esac
  return 1
}
# image_id NAME: determine the ID of an image on this host; empty if there is none.
# Sets f_image.
# Reads f_engine.
image_id() {
  f_image=$(engine_inspect image '{{.Id}}' "$1") || return
  f_image=${f_image#sha256:}
}
# image_current NAME: determine whether the registry has the image f_image under this name: true or
# false. It is asked for the manifest, which names the ID of the image or a digest that the image is
# known by.
# Sets f_current.
# Reads f_engine f_podman f_image.
image_current() {
  f_image_current_known=$f_image$o_nl$(engine_inspect image '{{range .RepoDigests}}{{println .}}{{end}}' "$f_image") || return
  if [ "$f_podman" ]; then set -- "$1" manifest inspect
  elif insecure_registry "$1"; then set -- "$1" manifest inspect --insecure -v
  else set -- "$1" manifest inspect -v
  fi
  f_image_current_name=$1; shift
  # the list of a containerd image store is known by its own digest
  f_image_current_list=$([ "$f_podman" ] || docker buildx imagetools inspect --format '{{println .Manifest.Digest}}' "$f_image_current_name" 2>/dev/null) || :
  f_image_current_found=$("$f_engine" "$@" "$f_image_current_name" 2>&1) ||
    # podman 4 shows the manifest of a single image in an error
    case $f_image_current_found in *schemaVersion*) ;; *)
      printf '%s\n' "$f_image_current_found" "the registry does not tell which image $f_image_current_name is: \`pull: missing\` does not ask" >&2
      return 1;;
    esac
  f_current=false
  for f_image_current_each in $f_image_current_known; do
    case $f_image_current_list$f_image_current_found in *"${f_image_current_each##*:}"*) f_current=true;; esac
  done
}
# insecure_registry NAME: succeed if docker uses the registry of this image without TLS: one on this
# host, or one that its configuration names.
insecure_registry() {
  f_insecure_registry_at=${1%%/*}
  case $f_insecure_registry_at in
  127.*|localhost|localhost:*) return;;
  "$1") return 1;;
  esac
  docker info --format '{{range $k, $v := .RegistryConfig.IndexConfigs}}{{if not $v.Secure}}{{println $k}}{{end}}{{end}}' |
    grep -Fqx "$f_insecure_registry_at"
}
# image_pull NAME [WORD…]: pull the image, with options. Prints nothing unless it fails.
# Reads f_engine.
image_pull() {
  f_image_pull_name=$1; shift
  f_image_pull_output=$("$f_engine" pull "$@" -- "$f_image_pull_name" 2>&1) && return
  printf '%s\n' "$f_image_pull_output" >&2
  case $f_image_pull_output in
  *unauthorized*|*'pull access denied'*|*'authentication required'*|*'no basic auth'*)
    echo "the image does not exist, or its registry needs a login, see docker_login" >&2;;
  esac
  engine_refused "$f_image_pull_output"
}
